"""The models that can be put together from the parts, and what makes each of them itself.

TGN is the framework; the others are choices of its parts (Rossi et al., 2020, table 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Choices = Mapping[str, str | int]


@dataclass(frozen=True)
class Kind:
    """A model as a choice of parts, by the names of `ModelConfig`.

    Attributes:
        fixed: parts without which it would be another model.
        defaults: parts that it has unless others are asked for.
        has_memory: whether nodes have a state that events update.
    """

    fixed: Choices = field(default_factory=dict)
    defaults: Choices = field(default_factory=dict)
    has_memory: bool = True

    @property
    def parts(self) -> dict[str, str | int]:
        """All parts in which it differs from the defaults of `ModelConfig`, or must not."""
        return {**self.defaults, **self.fixed}


KINDS: Mapping[str, Kind] = {
    "tgn": Kind(),
    "jodie": Kind({"updater": "rnn", "embedding": "time", "message_endpoint": "memory"}),
    "dyrep": Kind({"updater": "rnn", "embedding": "identity", "message_endpoint": "embedding"}),
    "apan": Kind(
        {"updater": "attention", "embedding": "identity", "message_endpoint": "memory"},
        {"mail_hops": 1},
    ),
    "tgat": Kind(
        {"embedding": "attention", "message_endpoint": "memory"},
        {"num_layers": 2, "time_encoding": "learnable"},
        has_memory=False,
    ),
}
