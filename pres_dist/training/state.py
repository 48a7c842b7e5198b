"""Content of a checkpoint's state.pt, validated before any of it is used.

The hash detects damage. Types, bounds and shapes are validated as well, since anyone who can write
a checkpoint can write its hash: a wrong value raises one clear error instead of failing later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from pres_dist.errors import CheckpointError

NONE_YET = -1.0
"""Best metric before any epoch: lower than every metric of a task."""

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)


def _plain(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise ValueError("must be a dense tensor")
    return tensor


Model = TypeVar("Model", bound=BaseModel)
AnyTensor = Annotated[Tensor, AfterValidator(_plain)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class TrainState(BaseModel):
    """Training progress: epoch, step and best metric so far. Epochs are counted from 1.

    Attributes:
        epoch: current epoch.
        batch: number of finished steps in this epoch.
        step: number of temporal batches since the start of the run.
        updates: number of optimizer steps since the start of the run.
        best_metric, best_epoch: best metric of the task on the validation split in the epochs
            before, and its epoch.
        seconds: wall-clock seconds of training and evaluation before this process.
    """

    model_config = _STRICT
    epoch: Annotated[int, Field(ge=1, lt=2**31)] = 1
    batch: Count = 0
    step: Count = 0
    updates: Count = 0
    best_metric: float = NONE_YET
    best_epoch: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0


class OptimizerState(BaseModel):
    """State of an optimizer by parameter, and the parameters of each group."""

    model_config = _STRICT
    state: dict[Count, dict[str, AnyTensor]]
    param_groups: list[dict[str, Any]]


class TotalsState(BaseModel):
    """Sums over the current epoch."""

    model_config = _STRICT
    sums: AnyTensor
    pending_max: AnyTensor


class CheckpointState(BaseModel):
    """Content of state.pt."""

    model_config = _STRICT
    fingerprint: dict[str, str | int | list[int] | None]
    """Identity of the stream (`pres_dist.events.identity`)."""
    model: dict[str, AnyTensor]
    optimizer: OptimizerState
    totals: TotalsState
    staleness: dict[Count, Count]
    position: TrainState
    random: list[dict[str, AnyTensor]] = Field(min_length=1)
    """States of torch's random generators, for each worker."""


class TunedState(BaseModel):
    """Content of weights.pt in a version of an extended run."""

    model_config = _STRICT
    model: dict[str, AnyTensor]
    optimizer: OptimizerState
    updates: Count


def checked(model: type[Model], state: Mapping[str, Any], file: Path) -> Model:
    """Validate the content of a file; raise CheckpointError for a missing or wrong value."""
    try:
        return model.model_validate(dict(state))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        told = problem["msg"][0].lower() + problem["msg"][1:]
        got = "" if problem["type"] == "missing" else f", got {_shown(problem['input'])}"
        raise CheckpointError(f"{file}: {where}: {told}{got}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: must hold the state of a run: {error}") from None


def _shown(value: object) -> str:
    return type(value).__name__ if isinstance(value, Tensor | dict | list) else repr(value)[:60]


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> None:
    """Load weights into a model.

    Raises:
        CheckpointError: names, shapes or types differ from the model's own.
    """
    own = model.state_dict()
    check_tensors(own, weights, what)
    model.load_state_dict(dict(weights))


def load_optimizer(optimizer: torch.optim.Optimizer, saved: OptimizerState, what: str) -> None:
    """Load the per-parameter state of an optimizer.

    Its settings are kept from the configuration; the learning rate is set at each step.

    Raises:
        CheckpointError: the state is of other parameters.
    """
    own = optimizer.state_dict()
    expected = [
        _learned(parameter, group)
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    groups = [group["params"] for group in own["param_groups"]]
    found = [group.get("params") for group in saved.param_groups]
    if found != groups:
        raise CheckpointError(f"{what}: optimizer.param_groups must be of the model's parameters")
    for number, tensors in saved.state.items():
        if number >= len(expected):
            raise CheckpointError(
                f"{what}: optimizer.state must be of {len(expected)} parameters, got {number}"
            )
        check_tensors(expected[number], tensors, f"{what}: optimizer.state.{number}")
    optimizer.load_state_dict({"state": saved.state, "param_groups": own["param_groups"]})


def _learned(parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return tensors shaped as the state that AdamW, or Muon for matrices, has for a parameter."""
    like = parameter.detach()
    if group.get("blocks") is not None:
        return {"momentum": like}
    return {"step": torch.tensor(0.0), "exp_avg": like, "exp_avg_sq": like}


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError unless tensors have the expected names, shapes and types."""
    if expected.keys() != found.keys():
        missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
        told = [f"misses {min(missing)}"] if missing else []
        told += [f"has {min(more)}"] if more else []
        raise CheckpointError(
            f"{what}: must have the tensors of the configuration, {' and '.join(told)}"
        )
    for name, own in expected.items():
        one = found[name]
        if one.shape != own.shape or one.dtype != own.dtype:
            raise CheckpointError(
                f"{what}: {name} must be {own.dtype} of shape {list(own.shape)}, got {one.dtype} "
                f"of shape {list(one.shape)}"
            )
