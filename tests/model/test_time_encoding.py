"""phi(dt) against the cosine in float64."""

from __future__ import annotations

import pytest
import torch

from pres_dist.model.time_encoding import TimeEncoding

DIM, UNIT = 20, 250.0
KINDS = pytest.mark.parametrize("learnable", [False, True], ids=["fixed", "learnable"])


def in_float64(dt: torch.Tensor, dim: int, unit: float) -> torch.Tensor:
    return angles_in_float64(dt, dim, unit).cos()


def angles_in_float64(dt: torch.Tensor, dim: int, unit: float) -> torch.Tensor:
    frequencies = [(dim**0.5) ** (-i / dim**0.5) for i in range(dim)]
    return (dt.double() / unit)[..., None] * torch.tensor(frequencies, dtype=torch.float64)


@KINDS
@pytest.mark.parametrize("unit", [1.0, UNIT, 86_400_000.0])
def test_equals_cosine(learnable, unit):
    units = torch.cat([torch.arange(20.0), torch.logspace(-3, 3, 50)]).double()
    dt = (units * unit).long().view(7, 10)
    encoded = TimeEncoding(DIM, unit, learnable)(dt)
    assert encoded.shape == (7, 10, DIM)
    assert encoded.dtype == torch.float32
    expected = in_float64(dt, DIM, unit)
    # An angle of a thousand radians has an error of some 1e-4 in float32.
    torch.testing.assert_close(encoded.double(), expected, rtol=0, atol=3e-4)
    small = dt < 20 * unit
    torch.testing.assert_close(encoded[small].double(), expected[small], rtol=0, atol=6e-6)


@KINDS
def test_no_difference_is_all_ones(learnable):
    assert torch.equal(
        TimeEncoding(DIM, UNIT, learnable)(torch.zeros(3).long()), torch.ones(3, DIM)
    )


@KINDS
def test_long_silences_keep_what_float32_can_tell(learnable):
    """Angles of up to a thousand radians are right; greater ones are some cosine, and no NaN."""
    dt = torch.tensor([1 << 8, 1 << 18, 1 << 62])
    encoded = TimeEncoding(DIM, 1.0, learnable)(dt)
    assert encoded.isfinite().all()
    angles = angles_in_float64(dt, DIM, 1.0)
    told = angles < 1000
    assert told.any(1).tolist() == [True, True, False]
    torch.testing.assert_close(encoded[told].double(), angles[told].cos(), rtol=0, atol=3e-4)


def test_fixed_has_no_parameters():
    encoding = TimeEncoding(DIM, UNIT, learnable=False)
    assert not list(encoding.parameters())
    assert not encoding(torch.arange(5)).requires_grad


def test_learnable_starts_as_the_fixed_one():
    dt = torch.randint(0, 100 * int(UNIT), (200,))
    fixed, learned = (TimeEncoding(DIM, UNIT, learnable)(dt) for learnable in (False, True))
    torch.testing.assert_close(learned, fixed, rtol=0, atol=3e-5)


def test_learnable_gradient():
    encoding = TimeEncoding(DIM, UNIT, learnable=True)
    dt = torch.randint(0, 20 * int(UNIT), (30,))
    with torch.no_grad():
        encoding.phases.uniform_(-1, 1)
    upstream = torch.randn(30, DIM)
    (encoding(dt) * upstream).sum().backward()
    units = dt.double()[:, None] / UNIT
    slope = -(units * encoding.frequencies.double() + encoding.phases.double()).sin()
    slope = (slope * upstream).detach()
    frequencies, phases = encoding.frequencies.grad, encoding.phases.grad
    assert frequencies is not None
    assert phases is not None
    torch.testing.assert_close(frequencies.double(), (slope * units).sum(0), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(phases.double(), slope.sum(0), rtol=1e-4, atol=1e-4)


@KINDS
def test_milliseconds_between_epoch_times_are_kept_apart(learnable):
    encoding = TimeEncoding(DIM, 1.0, learnable)
    start = 1_700_000_000_000
    gaps = torch.arange(6)
    encoded = encoding((start + gaps) - start)
    assert torch.equal(encoded, encoding(gaps))
    assert len(torch.unique(encoded, dim=0)) == 6


@KINDS
def test_rows_are_the_encodings_of_distinct_differences(learnable: bool) -> None:
    encoding = TimeEncoding(DIM, UNIT, learnable)
    dt = torch.randint(0, 9, (12, 5)) * 1000
    rows = encoding.rows(dt)
    assert rows.table_Xd.shape[0] == dt.unique().numel() < dt.numel()
    assert torch.equal(rows.dense_QKd, encoding(dt))
