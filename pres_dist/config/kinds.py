"""The supported model kinds and the parts that define them.

TGN is the framework; the other models are choices of its parts (Rossi et al., 2020, table 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Choices = Mapping[str, str | int]


@dataclass(frozen=True)
class Kind:
    """Model defined by a choice of parts, named as in `ModelConfig`.

    Attributes:
        fixed: parts that cannot be changed without making it another model.
        defaults: parts that it has unless the configuration sets others.
        has_memory: True if nodes have a state that events update.
    """

    fixed: Choices = field(default_factory=dict)
    defaults: Choices = field(default_factory=dict)
    has_memory: bool = True

    @property
    def parts(self) -> dict[str, str | int]:
        """All parts that this kind sets: its defaults and its fixed parts."""
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
