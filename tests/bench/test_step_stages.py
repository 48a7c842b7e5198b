"""`pres-dist bench step`: operations and bytes of stages against counts by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pres_dist.bench.step import machine_limits as limits
from pres_dist.bench.step.machine_limits import flops_of, measure_limits
from pres_dist.bench.step.step_profile import _steps, for_one_worker
from pres_dist.bench.step.work_counter import Work, WorkCounter
from pres_dist.cli.main import main
from pres_dist.parallel.world import World
from pres_dist.step.stages import StageClock
from pres_dist.training.setup import assembled
from tests.support.small_run import habitual_stream, small_config

B, D, T, EDGE, K, H = 100, 8, 6, 3, 4, 2
"""Events, numbers of memory and embedding, of times and of edge features, neighbors, heads."""
Q = 3 * B
"""Queries: sources, destinations, one negative of each event."""
DECODER = B * D * D + 2 * B * D * D + 2 * B * D
"""Sources once, what they are scored against twice, and a number of each pair."""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test looks at how long anything took."""
    monkeypatch.setattr(limits, "_LONG_S", 0.0005)
    monkeypatch.setattr(limits, "_COPIED", 1 << 20)


def work_of_a_step(folder: Path, **settings: object) -> tuple[int, dict[str, Work]]:
    """Distinct nodes and work of one step."""
    habitual_stream(700).save(folder / "habits")
    config = for_one_worker(
        small_config(folder / "habits")(
            preset="none",
            model__decoder="embeddings",
            training__optimizer="adamw",
            **settings,
        )
    )
    with assembled(config, torch.device("cpu"), World()) as parts:
        parts.model.train()
        (step,) = _steps(parts, 1, counts=True)
    assert step.events == B
    return step.nodes, step.work


def test_operations_of_jodie(tmp_path: Path) -> None:
    """Multiplications and additions of each product; twice as many back where both sides learn."""
    nodes, work = work_of_a_step(tmp_path, model__kind="jodie")
    update = nodes * D * ((D + EDGE + T) + D)  # the other's memory, features and time; its own
    drift = Q * D
    flops = {stage: own.flops for stage, own in work.items() if own.flops}
    assert flops == {
        "update": 2 * update,
        "embed": 2 * (drift + DECODER),
        "backward": 2 * (update + drift + 2 * DECODER),  # stored memory and times learn nothing
    }


def test_operations_of_attention(tmp_path: Path) -> None:
    """With the two products that read neighbors' rows in place."""
    nodes, work = work_of_a_step(tmp_path, model__num_heads=H)
    read = 50  # distinct nodes of queries
    gru = nodes * D * (3 * (D + EDGE + T) + 4 * D)
    assert work["update"].flops == 2 * gru
    width = D + EDGE + T
    queries = T * D + read * D * D + read * D * width  # phi(0), Wq, into the space of neighbors
    attended = 2 * Q * H * K * width  # scores and sums
    values = Q * width * D
    merged = read * D * D + 2 * Q * D * D
    assert work["embed"].flops == 2 * (queries + attended + values + merged + DECODER)


@pytest.mark.parametrize(
    ("does", "expected"),
    [
        (lambda x, i: x + x, 3 * 4000),
        (lambda x, i: x.view(-1).t(), 0),
        (lambda x, i: x.index_select(0, i), 2 * 80 + 16),  # two rows, not the table
        (lambda x, i: torch.zeros(1, 10).expand(100, 10) + x, 40 + 40 + 2 * 4000),
        (lambda x, i: x.index_add_(0, i, torch.ones(2, 10)), 80 + 16 + 3 * 80),
        (lambda x, i: x[:2] @ torch.empty(10, 5), 80 + 200 + 40),
    ],
    ids=["sum", "view", "rows", "repeated", "added rows", "product"],
)
def test_bytes_by_hand(does: Callable[[Tensor, Tensor], object], expected: int) -> None:
    x, index, clock = torch.rand(100, 10), torch.tensor([3, 7]), StageClock()
    counter = WorkCounter(clock)
    with counter, clock("loss"):
        does(x, index)
    assert counter.work["loss"].bytes == expected


def test_an_optimizer_writes_what_it_reads() -> None:
    weight = torch.nn.Parameter(torch.ones(1000))
    optimizer = torch.optim.AdamW([weight], fused=True)
    weight.grad = torch.ones(1000)
    optimizer.step()
    with WorkCounter(StageClock()) as counter:
        optimizer.step()
    read, written = 4 * 4000, 3 * 4000  # weight, gradient and two moments; all but the gradient
    assert read + written <= counter.work["other"].bytes < read + written + 4000 + 100


def test_limits_are_of_the_products_that_were_made() -> None:
    product = ("addmm", (torch.Size([5]), torch.Size([7, 3]), torch.Size([3, 5])))
    assert flops_of(product) == 2 * 7 * 3 * 5
    with WorkCounter(StageClock()) as counter:
        torch.addmm(torch.rand(5), torch.rand(7, 3), torch.rand(3, 5))
    work = counter.work["other"]
    assert dict(work.gemms) == {product: 1}
    assert work.flops == flops_of(product)
    found = measure_limits(work.gemms, (100, 8, 50), torch.device("cpu"), time.process_time)
    assert min(vars(found).values()) > 0


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    habitual_stream(700).save(tmp_path / "habits")
    (tmp_path / "tiny.yaml").write_text(
        f"data: {{stream: {tmp_path / 'habits'}}}\nmemory: {{dim: 8}}\n"
        "model: {embedding_dim: 8, time_dim: 6}\n"
    )
    command = ["bench", "step", str(tmp_path / "tiny.yaml"), "--steps", "2"]
    out = tmp_path / "step.json"
    assert main([*command, "--json", str(out), "--training.batch_size", "50"]) == 0
    table = capsys.readouterr().out
    record = json.loads(out.read_text())
    assert (record["steps"], record["name"]) == (2, "habits")
    names = [stage["name"] for stage in record["stages"]]
    assert names[:4] == ["sample", "pull", "update", "embed"]
    assert all(f"| {name} |" in table for name in [*names, "step"])
    assert {"gemm_flops", "copy_bytes", "gather_bytes"} == record["limits"].keys()
    assert main([*command, "--training.batch_size", "400"]) == 2
    assert "more than 3 temporal batches, got 2 of 400 events" in capsys.readouterr().err
