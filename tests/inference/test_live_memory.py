"""A run's memory at a time equals that of evaluation at that time, without later events."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pres_dist.errors import DataError
from pres_dist.evaluation.scoring import sweep_forwards, take_in
from pres_dist.events.stream import EventStream
from pres_dist.inference import walker
from pres_dist.inference.live import LiveRun
from pres_dist.inference.pairs import Pairs, score_pairs
from pres_dist.inference.run import Run
from pres_dist.parallel.world import World
from pres_dist.report.run_folder import read_config
from pres_dist.step.batches import TemporalBatch
from pres_dist.training.checkpoint import BEST, Checkpoints
from pres_dist.training.setup import assemble, load_data
from tests.support.resealed import forged
from tests.support.trained_runs import KINDS, trained


def evaluated(run_dir: Path) -> dict[int, tuple[bool, float]]:
    """Evaluation's own logit of each validation and test event, and whether it begins a batch."""
    config = read_config(run_dir)
    parts = assemble(config, load_data(config, torch.device("cpu")))
    parts.load(Checkpoints(run_dir).open(BEST))

    def draw(batch: TemporalBatch) -> torch.Tensor:
        return batch.dst_B[:, None]

    logits = {}
    for events in (parts.data.split.validation, parts.data.split.test):
        sweep = parts.evaluation_loader(events, config.evaluation.batch_size)
        for (batch,), (forward,) in sweep_forwards(
            parts.evaluation_pipeline, sweep, draw, World(), 1
        ):
            first_t = batch.t_B[0]
            for event, t, logit in zip(
                batch.events_B.tolist(), batch.t_B, forward.positive_B.tolist(), strict=True
            ):
                logits[event] = bool(t == first_t), logit
    return logits


def events_of(stream: EventStream, events: list[int]) -> Pairs:
    return Pairs(stream.src[events], stream.dst[events], stream.t[events])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_evaluation(runs: Path, kind: str) -> None:
    run_dir = trained(runs, kind)
    logits, live = evaluated(run_dir), LiveRun(run_dir)
    events = list(logits)
    batched = score_pairs(live, events_of(live.stream, events), batched=True)
    expected = torch.sigmoid(torch.tensor([logits[event][1] for event in events])).numpy()
    np.testing.assert_allclose(batched, expected, atol=2e-6)
    # An event at the start of a batch reads memory that has seen all events before it.
    first = [event for event in events if logits[event][0]]
    assert 4 < len(first) < len(events) / 2
    exact = score_pairs(live, events_of(live.stream, first))
    expected = torch.sigmoid(torch.tensor([logits[event][1] for event in first])).numpy()
    np.testing.assert_allclose(exact, expected, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_asked_before_makes_no_difference(runs: Path, kind: str) -> None:
    run_dir = trained(runs, kind)
    run = Run(run_dir)
    times = [run.stream.t[event] for event in (790, 600, 610, 611, 700)]
    asked = [run.embed(at=int(t)).values for t in times]
    for t, values in zip(times, asked, strict=True):
        assert torch.equal(Run(run_dir).embed(at=int(t)).values, values)
    assert not torch.equal(asked[2][:20], asked[4][:20])


def test_an_event_at_the_time_itself_is_not_seen(tgn_run: Path, tmp_path: Path) -> None:
    """Changing an event, and all that come later, changes nothing at its time and before."""
    stream = EventStream.open(read_config(tgn_run).data.stream)
    event = 650
    t = int(stream.t[event])
    first = int(np.searchsorted(stream.t, t))
    changed = np.array(stream.dst)
    changed[first:] = 40 + (changed[first:] - 40 + 7) % 15
    before = Run(tgn_run)
    after = Run(copy_over(tgn_run, stream, changed, tmp_path))
    at, later = before.embed(at=t), before.embed(at=t + 1)
    assert torch.equal(after.embed(at=t).values, at.values)
    assert not torch.equal(after.embed(at=t + 1).values, later.values)


@pytest.mark.parametrize("whole", [False, True])
def test_an_interrupted_move_leaves_no_trace(
    tgn_run: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """As by Ctrl-C in a notebook, after a batch was written; then the same time is asked again."""
    live, nodes = LiveRun(tgn_run), torch.arange(55)
    event = live.batch_start(650) if whole else live.batch_start(650) + 3
    live.move_to(event)
    expected = live.memory(nodes, live.latest).memory_UD

    def interrupted(*given: Any, **named: Any) -> None:
        taken.append(take_in(*given, **named))
        if len(taken) == 2:
            raise KeyboardInterrupt

    for later in (event + 5, 790):
        taken: list[object] = []
        with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
            patched.setattr(walker, "take_in", interrupted)
            live.move_to(later)
        live.move_to(event)
        assert torch.equal(live.memory(nodes, live.latest).memory_UD, expected)


def copy_over(run_dir: Path, stream: EventStream, dst: np.ndarray, folder: Path) -> Path:
    """The run over a stream with other destinations."""
    other = EventStream.from_arrays(
        stream.src,
        dst,
        stream.t,
        name=stream.name,
        num_nodes=stream.num_nodes,
        num_sources=stream.num_sources,
        edge_features=stream.edge_features,
    )
    other.save(folder / "changed")
    return forged(run_dir, EventStream.open(folder / "changed"), folder / "run")


def test_a_time_before_the_memory_needs_a_replay(tgn_run: Path) -> None:
    run = Run(tgn_run)
    end = run._live.parts.data.split.train_end
    first = int(run.stream.t[end - 1]) + 1
    assert len(run.embed(at=first))
    with pytest.raises(DataError, match=rf"at must be at least {first}.*--replay"):
        run.embed(at=first - 1)


def test_a_replay_reaches_any_time_and_is_what_evaluation_replays(tgn_run: Path) -> None:
    from pres_dist.evaluation.scoring import replay

    config = read_config(tgn_run)
    parts = assemble(config, load_data(config, torch.device("cpu")))
    parts.load(Checkpoints(tgn_run).open(BEST))
    size = config.evaluation.batch_size
    replay(parts.train_pipeline, parts.evaluation_loader(parts.data.kept, size), World())
    end = parts.data.split.train_end
    t = int(parts.data.stream.t[end - 1]) + 1
    expected = parts.evaluation_pipeline.memory(torch.arange(55), torch.tensor(t)).memory_UD

    live = LiveRun(tgn_run, replay=True)
    early = int(live.stream.t[100])
    live.check_time(early, "at")
    live.move_to(100)
    seen = set(np.concatenate([live.stream.src[:100], live.stream.dst[:100]]).tolist())
    assert set(live.known_nodes(100).tolist()) == seen
    live.move_to(end)
    assert torch.equal(live.memory(torch.arange(55), t).memory_UD.cpu(), expected)
    live.move_to(130)
    live.move_to(end)
    assert torch.equal(live.memory(torch.arange(55), t).memory_UD.cpu(), expected)


def test_several_workers_are_refused(tgn_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pres_dist.errors import ConfigError

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"one worker.*got 2"):
        LiveRun(tgn_run)
