"""Frozen encoder from a link-prediction run (TGN, section 5: node classification).

The frozen weights compute the memory of each sweep from the events, in training as in evaluation,
and only the classifier learns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pres_dist.config.base import Config
from pres_dist.config.run import RunConfig
from pres_dist.errors import ConfigError
from pres_dist.events.identity import check_same_events
from pres_dist.events.stream import EventStream
from pres_dist.report.run_folder import read_config
from pres_dist.report.run_record import Parent
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.state import load_weights

if TYPE_CHECKING:
    from pres_dist.training.setup import Parts

CLASSIFIER = "classifier."
_SAME = ("data", "model", "pres")
"""Sections that define the encoder and the events that it may have been trained on."""
_PLACE = "stream"
"""Key of the stream's location, which may differ; the identity of the events is checked."""


def freeze_encoder(model: nn.Module) -> None:
    """Freeze all parameters except the classifier's."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(CLASSIFIER))


def begin_training(model: nn.Module) -> None:
    """Set training mode (dropout), except in frozen modules."""
    model.train()
    for module in model.children():
        if not any(parameter.requires_grad for parameter in module.parameters()):
            module.eval()


def load_encoder(parts: Parts) -> Parent | None:
    """Load the encoder's weights from the best epoch of the run in `task.pretrained`, if set.

    Returns:
        The checkpoint that they are from, or None.

    Raises:
        ConfigError: not the folder of a run, or a run with another encoder or other events.
        CheckpointError: its best checkpoint is missing or damaged.
    """
    config = parts.config
    if config.task.pretrained is None:
        return None
    run_dir, stream = Path(config.task.pretrained), parts.data.stream
    weights, parent = parts.world.run_on_rank0(lambda: _checked_state(config, run_dir, stream))
    own = parts.model.state_dict()
    kept = {name: value for name, value in own.items() if name.startswith(CLASSIFIER)}
    load_weights(parts.model, {**weights, **kept}, f"task.pretrained: {run_dir}")
    return parent


def _checked_state(
    config: RunConfig, run_dir: Path, stream: EventStream
) -> tuple[dict[str, Tensor], Parent]:
    """Return the weights of encoder and link decoder, after checking that the run fits."""
    theirs = read_config(run_dir)
    for section in _SAME:
        _check_same(run_dir, section, getattr(theirs, section), getattr(config, section))
    if theirs.memory.dim != config.memory.dim:
        raise _other(run_dir, "memory.dim", theirs.memory.dim, config.memory.dim)
    best = Checkpoints(run_dir).open(BEST)
    state = best.training_state()
    check_same_events(stream, state.fingerprint, f"{run_dir} (task.pretrained)")
    assert best.run is not None, "read_config has found the run's record"
    kept = {name: one for name, one in state.model.items() if not name.startswith(CLASSIFIER)}
    return kept, Parent(run=best.run, checkpoint=best.name)


def _check_same(run_dir: Path, section: str, theirs: Config, ours: Config) -> None:
    for name, value in theirs.model_dump().items():
        own = ours.model_dump()[name]
        if own != value and name != _PLACE:
            raise _other(run_dir, f"{section}.{name}", value, own)


def _other(run_dir: Path, name: str, theirs: object, ours: object) -> ConfigError:
    return ConfigError(f"task.pretrained: {name} must be that of {run_dir}, {theirs}, got {ours}")
