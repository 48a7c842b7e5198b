"""What is to be trained, as far as its cost goes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.training.step_sizes import updates_of_batch

_PLACES = 50
"""Of a run, evenly spread."""


@dataclass(frozen=True)
class Workload:
    """A stream and a model.

    Attributes:
        config: of the run; its model, memory, sampling, pres and training sections count.
        num_nodes: N.
        num_events: E, of all parts of the stream.
        edge_dim, node_dim: numbers in the features of an event and of a node.
        num_sources: nodes that are sources, the rest being destinations; 0 if any may be both.
    """

    config: RunConfig
    num_nodes: int
    num_events: int
    edge_dim: int = 0
    node_dim: int = 0
    num_sources: int = 0

    @property
    def num_destinations(self) -> int:
        """Nodes that may be destinations."""
        return self.num_nodes - self.num_sources

    @property
    def train_events(self) -> int:
        """Events of an epoch."""
        return max(int(self.num_events * self.config.data.train_share), 1)

    @property
    def with_whole_steps(self) -> Workload:
        """The same with one optimizer step over each temporal batch."""
        training = self.config.training.model_copy(update={"events_per_step": 0})
        return replace(self, config=self.config.model_copy(update={"training": training}))

    def num_updates(self, batch: float) -> float:
        """Optimizer steps over a temporal batch, on average over the run."""
        places = [(place + 0.5) / _PLACES for place in range(_PLACES)]
        updates = [updates_of_batch(self.config.training, int(batch), done) for done in places]
        return sum(updates) / _PLACES

    def fewest_updates(self, batch: float) -> int:
        """Optimizer steps over a temporal batch at the end of the run, when they are largest."""
        return updates_of_batch(self.config.training, int(batch), 1.0)


def check_covered(config: RunConfig) -> None:
    """Raise ConfigError for a model whose cost the planner does not know."""
    if not config.model.has_memory:
        raise ConfigError(
            f"pres-dist plan is for models with a memory, got model.kind {config.model.kind}"
        )
    if config.model.updater == "attention":
        raise ConfigError(
            "pres-dist plan does not cover mailboxes that roll (model.updater attention): what "
            "their deliveries cost is not modelled"
        )
    if config.memory.store == "server":
        raise ConfigError("pres-dist plan covers memory.store auto, local and sharded, got server")
