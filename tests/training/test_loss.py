"""The loss of links by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pres_dist.memory.state import NEVER
from pres_dist.model.tgn import UpdatedMemory
from pres_dist.sampling.mixture import MixedNegatives
from pres_dist.step.forward import Forward
from pres_dist.step.gather import Gathered
from pres_dist.training.loss import batch_loss
from pres_dist.training.run import train
from tests.support.small_run import MakeConfig


def forward_of(positive_B: Tensor, negative_BM: Tensor) -> Forward:
    """Scores of events of one node."""
    num = positive_B.numel()
    index = torch.zeros(2 * num, dtype=torch.int64)
    gathered = Gathered(index[:1], index, index[:num, None], [])
    row, never = torch.zeros(1, 2), torch.full((1,), NEVER)
    updated = UpdatedMemory(row, row, never, row, row, torch.zeros(1, dtype=torch.bool), None)
    return Forward(gathered, updated, positive_B, negative_BM)


def test_links_by_hand_and_in_parts() -> None:
    positive_B, negative_BM = torch.randn(6), torch.randn(6, 3)
    positive_B.requires_grad_()
    loss = batch_loss(forward_of(positive_B, negative_BM), 0.0, 6)
    entropy = -torch.log(torch.sigmoid(positive_B)).mean()
    entropy = entropy - torch.log(1 - torch.sigmoid(negative_BM)).mean()
    torch.testing.assert_close(loss.total, entropy)
    parts = [
        batch_loss(forward_of(positive_B[own], negative_BM[own]), 0.0, 6).total
        for own in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), loss.total)
    empty = batch_loss(forward_of(positive_B[:0], negative_BM[:0]), 0.0, 6)
    assert float(empty.total.detach()) == 0


def test_scores_are_corrected_for_the_density_of_negatives() -> None:
    positive_B, negative_BM, density_BC = torch.randn(6), torch.randn(6, 3), torch.randn(6, 4)
    corrected = forward_of(positive_B - density_BC[:, 0], negative_BM - density_BC[:, 1:])
    expected = batch_loss(corrected, 0.0, 6).total
    given = forward_of(positive_B, negative_BM)
    assert torch.equal(batch_loss(given, 0.0, 6, log_density_BC=density_BC).total, expected)


@pytest.mark.parametrize("decoder", ["history", "embeddings"])
def test_training_corrects_scores_if_the_decoder_reads_the_log(
    decoder: str, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        model__decoder=decoder,
        sampling__negatives="random, historical",
        training__epochs=1,
        data__max_events=600,
    )
    corrected = train(config, tmp_path / "corrected")
    monkeypatch.setattr(MixedNegatives, "log_density", lambda *_: None)
    uncorrected = train(config, tmp_path / "uncorrected")
    same = corrected["validation"] == uncorrected["validation"]
    assert same == (decoder == "embeddings")
