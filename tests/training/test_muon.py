"""Muon: what it orthogonalizes, what it leaves to AdamW, and runs that train with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pres_dist.config.ineffective import ineffective
from pres_dist.config.run import RunConfig
from pres_dist.parallel.world import World
from pres_dist.training.muon import Muon, orthogonalize
from pres_dist.training.optimizer import build_optimizer, scale_gradient, trainable
from pres_dist.training.run import resume, train
from pres_dist.training.setup import assemble, choose_device, load_data
from tests.support.small_run import MakeConfig, saved_state, train_until
from tests.support.states import assert_same


def _parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def _gradients(like: Tensor, steps: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(like.shape, generator=generator) for _ in range(steps)]


def _trained(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensor:
    for gradient in _gradients(parameter):
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(3, 20, 50), (2, 50, 20), (1, 16, 16)])
def test_orthogonalized_matrices_keep_their_directions(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalize(matrices)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.3
    assert values.max() < 1.3
    # In the singular vectors of the input the result is diagonal.
    inside = left.mT @ found @ right.mT
    torch.testing.assert_close(
        inside, torch.diag_embed(inside.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0
    )


def test_each_matrix_is_orthogonalized_alone_and_at_any_scale() -> None:
    matrices = torch.randn(3, 8, 12, generator=torch.Generator().manual_seed(0))
    whole = orthogonalize(matrices * torch.tensor([1e-4, 1.0, 1e4])[:, None, None])
    for matrix, found in zip(matrices, whole, strict=True):
        torch.testing.assert_close(orthogonalize(matrix[None])[0], found, atol=1e-4, rtol=1e-4)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert orthogonalize(torch.zeros(2, 4, 6)).eq(0).all()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_a_matrix_moves_as_by_the_muon_of_torch(shape: tuple[int, int]) -> None:
    ours, theirs = _parameter(*shape), _parameter(*shape)
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    expected = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    actual = Muon([(ours, 1)], [], **settings)
    # Torch iterates in bfloat16, which has 8 bits of mantissa.
    torch.testing.assert_close(
        _trained(actual, ours), _trained(expected, theirs), atol=5e-3, rtol=0
    )
    assert not torch.allclose(ours, _parameter(*shape), atol=1e-2)


def test_gates_move_as_matrices_of_their_own() -> None:
    stacked = _parameter(12, 6)
    gates = [nn.Parameter(gate.clone()) for gate in stacked.detach().chunk(3)]
    whole = Muon([(stacked, 3)], [], lr=0.02)
    apart = Muon([(gate, 1) for gate in gates], [], lr=0.02)
    for gradient in _gradients(stacked):
        stacked.grad = gradient
        for gate, part in zip(gates, gradient.chunk(3), strict=True):
            gate.grad = part.clone()
        whole.step()
        apart.step()
    torch.testing.assert_close(stacked, torch.cat(gates))
    as_one = _trained(Muon([(one := _parameter(12, 6), 1)], [], lr=0.02), one)
    assert not torch.allclose(stacked, as_one, atol=1e-3)


def test_other_parameters_move_as_by_adamw_at_their_own_rate() -> None:
    ours, theirs = _parameter(30), _parameter(30)
    actual = Muon([], [ours], lr=0.05, other_ratio=0.4, weight_decay=0.1)
    expected = torch.optim.AdamW([theirs], lr=0.02, weight_decay=0.1, fused=True)
    assert torch.equal(_trained(actual, ours), _trained(expected, theirs))


def _scaled(optimizer: str, largest: float = 0.0) -> tuple[float, float]:
    """Return the norm of a gradient of norm 5, as reported and as left for the optimizer."""
    model = nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    training = {"optimizer": optimizer, "gradient_clip": largest}
    config = RunConfig.model_validate({"data": {"stream": "x"}, "training": training})
    norm = scale_gradient(model, config.training)
    return float(norm), float(torch.cat([model.weight.grad[0], model.bias.grad]).norm())


def test_muon_sees_gradients_of_norm_one() -> None:
    """An outlying gradient would dominate the momentum for many steps."""
    assert _scaled("muon") == pytest.approx((5, 1))
    assert _scaled("adamw") == pytest.approx((5, 5))
    assert _scaled("adamw", largest=2) == pytest.approx((5, 2))


@pytest.mark.parametrize("kind", ["tgn", "jodie", "dyrep", "apan"])
def test_every_parameter_belongs_to_one_group(kind: str, make_config: MakeConfig) -> None:
    config = make_config(model__kind=kind, training__optimizer="muon")
    model = assemble(config, load_data(config, choose_device(config)), World()).model
    matrices, others = (
        group["params"] for group in build_optimizer(model, config.training).param_groups
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert sorted(names[p] for p in [*matrices, *others]) == sorted(
        names[p] for p in trainable(model)
    )
    assert all(p.dim() == 2 for p in matrices)
    assert {"source", "destination"} <= {names[p].split(".")[-2] for p in matrices}
    assert all(names[p].split(".")[-2] != "out" or kind == "apan" for p in matrices)
    assert "decoder.out.weight" in {names[p] for p in others}


@pytest.fixture
def config(make_config: MakeConfig) -> RunConfig:
    return make_config(
        training__optimizer="muon",
        training__weight_decay=0.01,
        training__checkpoint_every=3,
        training__learning_rate=0.02,
        data__max_events=600,
    )


def test_a_resumed_run_ends_in_the_same_bits(config: RunConfig, tmp_path: Path) -> None:
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "broken", step=8)
    resumed = resume(tmp_path / "broken")
    assert_same(resumed, whole, "results")
    left, right = (saved_state(tmp_path / run) for run in ("whole", "broken"))
    assert_same(left["model"], right["model"], "model")
    moments = [
        state["momentum"] for state in left["optimizer"]["state"].values() if "momentum" in state
    ]
    assert moments
    assert all(moment.ne(0).any() for moment in moments)


def test_settings_of_muon_have_no_effect_on_adamw(make_config: MakeConfig) -> None:
    lines = ineffective(
        make_config(training__optimizer="adamw", training__momentum=0.9, training__vector_rate=1.0)
    )
    clipped = ineffective(make_config(training__optimizer="muon", training__gradient_clip=1.0))
    assert clipped == [
        "training.gradient_clip = 1.0 has no effect: training.optimizer is muon, which normalizes "
        "the gradient",
    ]
    assert lines == [
        "training.vector_rate = 1.0 has no effect: training.optimizer is adamw",
        "training.momentum = 0.9 has no effect: training.optimizer is adamw",
    ]
