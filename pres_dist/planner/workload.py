"""A training workload, described by the sizes that determine its cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pres_dist.config.run import RunConfig
from pres_dist.training.step_sizes import updates_of_batch


@dataclass(frozen=True)
class Workload:
    """A stream and a model.

    Attributes:
        config: configuration of the run; its model, memory, sampling, pres and training sections
            are used.
        num_nodes: number of nodes.
        num_events: number of events in all splits of the stream.
        edge_dim, node_dim: number of features of an event and of a node.
        num_sources: number of source nodes, if all others are destinations; 0 if any may be both.
    """

    config: RunConfig
    num_nodes: int
    num_events: int
    edge_dim: int = 0
    node_dim: int = 0
    num_sources: int = 0

    @property
    def train_events(self) -> int:
        """Return the number of events of an epoch."""
        return max(int(self.num_events * self.config.data.train_share), 1)

    @property
    def with_whole_steps(self) -> Workload:
        """Return this workload with one optimizer step per temporal batch."""
        training = self.config.training.model_copy(update={"events_per_step": 0})
        return replace(self, config=self.config.model_copy(update={"training": training}))

    def num_updates(self, batch: float) -> int:
        """Return the optimizer steps per temporal batch."""
        return updates_of_batch(self.config.training, int(batch))
