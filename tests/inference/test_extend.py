"""Appending events: the same stream as an import of all, and memory that has gone on over them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.errors import CheckpointError, DataError
from pres_dist.evaluation.scoring import sweep_forwards
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from pres_dist.events.stream import EventStream
from pres_dist.inference.extend import extend_run
from pres_dist.inference.run import Run
from pres_dist.inference.train_on import TrainOn
from pres_dist.inference.versions import EXTENDED
from pres_dist.parallel.world import World
from pres_dist.report.run_lock import lock_run
from pres_dist.staging import Staged
from pres_dist.training.checkpoint import BEST
from pres_dist.training.run import train
from pres_dist.training.setup import Parts, assemble, data_of, load_data
from tests.support.resealed import change_version
from tests.support.small_run import saved_state, small_config
from tests.support.trained_runs import settings_of

HEADER = "src,dst,t,f0,label"
OLD, MIDDLE, ALL = 400, 430, 460

KINDS = {
    "text, two sides": (["--bipartite"], "u{src}", "i{dst}"),
    "text, the same on both sides": (["--bipartite"], "x{src}", "x{dst}"),
    "text, one set": ([], "n{src}", "n{dst}"),
    "numbers, two sides": (["--bipartite"], "{src}", "{dst}"),
    "numbers, one set": ([], "{src}", "{dst}"),
    "numbers, sources below": ([], "{src}", "1{dst:03}"),
}


def lines(kind: str) -> list[str]:
    """Events of one id convention; the last 60 bring new sources and destinations."""
    _, src_form, dst_form = KINDS[kind]
    random = np.random.default_rng(5)
    src = random.integers(0, 20, ALL) + np.where(np.arange(ALL) >= OLD, 5, 0)
    dst = random.integers(0, 8, ALL) + np.where(np.arange(ALL) >= OLD, 3, 0)
    t = np.cumsum(random.integers(0, 3, ALL))
    for first in (OLD, MIDDLE):  # no cut between equal times
        t[first:] += 1
    return [
        f"{src_form.format(src=s)},{dst_form.format(dst=d)},{w},{f:.3f},{s % 2}"
        for s, d, w, f in zip(src, dst, t, random.normal(size=ALL), strict=True)
    ]


def write(path: Path, events: list[str]) -> Path:
    path.write_text("\n".join([HEADER, *events]) + "\n")
    return path


def imported(path: Path, kind: str, events: list[str]) -> EventStream:
    options = {"bipartite": True} if "--bipartite" in KINDS[kind][0] else {}
    source = write(path.with_suffix(".csv"), events)
    return import_stream(ImportConfig(source=source, out=path, name="s", **options)).stream


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extended")


def run_over(folder: Path, kind: str, model: str = "tgn") -> Path:
    """A run over the old events."""
    folder.mkdir(exist_ok=True)
    imported(folder / "old", kind, lines(kind)[:OLD])
    settings = {**settings_of(model), "training.epochs": 1, "evaluation.batch_size": 20}
    train(small_config(folder / "old")(**settings), folder / "run")
    return folder / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_the_longer_stream_is_an_import_of_all_events(made: Path, kind: str) -> None:
    folder = made / kind.replace(" ", "-")
    run_dir = run_over(folder, kind)
    extend_run(run_dir, write(folder / "a.csv", lines(kind)[OLD:MIDDLE]))
    extend_run(run_dir, write(folder / "b.csv", lines(kind)[MIDDLE:]))
    longer, whole = Run(run_dir).stream, imported(folder / "all", kind, lines(kind))
    assert whole.num_nodes > EventStream.open(folder / "old").num_nodes
    for column in ("src", "dst", "t", "edge_features", "labels"):
        np.testing.assert_array_equal(getattr(longer, column), getattr(whole, column))
    assert longer.num_nodes == whole.num_nodes
    assert longer.num_sources == whole.num_sources
    nodes = np.arange(whole.num_nodes)
    assert list(longer.raw_ids(nodes)) == list(whole.raw_ids(nodes))
    EventStream.verify(longer.path or "")


@pytest.mark.parametrize("model", ["tgn", "apan", "dyrep", "tgat"])
@pytest.mark.parametrize("kind", ["text, two sides", "numbers, one set"])
def test_memory_goes_on_as_evaluation_would(tmp_path: Path, kind: str, model: str) -> None:
    run_dir = run_over(tmp_path / "r", kind, model)
    before = Run(run_dir)
    boundary = before._live.latest
    asked = before.embed(at=boundary)
    extend_run(run_dir, write(tmp_path / "new.csv", lines(kind)[OLD:]))
    run = Run(run_dir)
    latest = run.embed()

    # Evaluation's own sweep of all later events, on memory put in place by the users' ids.
    parts = over_all_events(run_dir, run.stream, EventStream.open(tmp_path / "r" / "old"))
    split = parts.data.split
    ends = (split.train_end, split.validation_end, split.num_events, ALL)
    for first, end in pairwise(ends):
        sweep = parts.evaluation_loader(range(first, end), 20)
        for _ in sweep_forwards(
            parts.evaluation_pipeline, sweep, lambda batch: batch.dst_B[:, None], World(), 1
        ):
            pass
    nodes = run._live.known_nodes(ALL).cpu()
    t = torch.tensor(run._live.latest)
    expected = parts.evaluation_pipeline.query(nodes, t.repeat(len(nodes)), t).embedded_QA
    torch.testing.assert_close(latest.values, expected, atol=2e-5, rtol=1e-4)

    # What was known before the new events is still known.
    again = run.embed(at=boundary)
    assert list(again.ids) == list(asked.ids)
    torch.testing.assert_close(again.values, asked.values, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("decoder", ["history", "embeddings"])
def test_a_new_source_above_the_destinations_keeps_the_inputs_of_the_decoder(
    tmp_path: Path, decoder: str
) -> None:
    """The stream is no longer bipartite, but weights were trained as if it were."""
    kind = "numbers, sources below"
    imported(tmp_path / "old", kind, lines(kind)[:OLD])
    make = small_config(tmp_path / "old")
    train(make(model__decoder=decoder, training__epochs=1), tmp_path / "run")
    assert Run(tmp_path / "run").stream.bipartite
    extend_run(tmp_path / "run", write(tmp_path / "a.csv", ["2000,1001,9000,0.5,0"]))
    run = Run(tmp_path / "run")
    assert not run.stream.bipartite
    assert np.isfinite(run.score([(2000, 1001), (3, 1001)])).all()
    extend_run(
        tmp_path / "run",
        write(tmp_path / "b.csv", ["3,2000,9001,0.5,0", "4,2000,9002,0.5,0"]),
        training=TrainOn(),
    )
    assert np.isfinite(Run(tmp_path / "run").score([(2000, 1001), (3, 2000)])).all()


def over_all_events(run_dir: Path, stream: EventStream, old: EventStream) -> Parts:
    """Parts over the longer stream, with the checkpoint's rows moved to where the ids went."""
    config = Run(run_dir).config
    data = load_data(config, torch.device("cpu"))
    parts = assemble(config, data_of(stream, data.split, config, torch.device("cpu")))
    saved = saved_state(run_dir, BEST)
    parts.model.load_state_dict(saved["model"])
    state = parts.store.state_dict()
    for place in range(old.num_nodes):
        side = None if not old.bipartite else place >= (old.num_sources or 0)
        (name,) = old.raw_ids([place])
        (node,) = [
            other
            for other in range(stream.num_nodes)
            if stream.raw_ids([other])[0] == name
            and side in (None, other >= (stream.num_sources or 0))
        ]
        for part, tables in state.items():
            for column, table in tables.items():
                if table.numel():
                    table[node] = saved["store"][part][column][place]
    return parts


@pytest.fixture(scope="module")
def plain(made: Path) -> Path:
    return run_over(made / "plain", "text, two sides")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*lines("text, two sides")[:1], *rows], "new.csv:2: time must be later than"),
        (lambda rows: [rows[-1], *rows], "new.csv:3: time must not decrease"),
        (lambda rows: [], "new.csv: must hold at least one event, got none"),
        (lambda rows: [",i1,9999,0.5,1"], "new.csv:2: src is missing"),
        (lambda rows: ["u1,i1,soon,0.5,1"], "new.csv:2: time must be a whole number"),
        (lambda rows: ["u1,i1,9999,nan,1"], "new.csv:2: f0 must be a finite"),
    ],
)
def test_events_that_do_not_fit_change_nothing(
    plain: Path,
    tmp_path: Path,
    change: Callable[[list[str]], list[str]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = write(tmp_path / "new.csv", change(lines("text, two sides")[OLD:]))
    assert main(["extend", str(plain), str(new)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not (plain / EXTENDED).exists()


def test_the_last_time_again_is_refused(plain: Path, tmp_path: Path) -> None:
    last = int(Run(plain).stream.t[-1])
    new = write(tmp_path / "new.csv", [f"u1,i1,{last},0.5,1"])
    with pytest.raises(DataError, match=rf"later than .* {last}, got {last}"):
        extend_run(plain, new)


@pytest.mark.attack(
    "`extend` ended between publishing a version and naming it, then again",
    before="held",
    after="the run is as it was; the second extension has each event once",
)
def test_a_crash_leaves_the_run_as_it_was(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = run_over(made / "crash", "text, two sides")
    events = lines("text, two sides")
    extend_run(run_dir, write(tmp_path / "a.csv", events[OLD:MIDDLE]))
    asked = Run(run_dir).embed()

    publish = Staged.publish

    def dies(staged: Staged, replace: bool = True) -> None:
        publish(staged, replace)
        if staged.target.name == "version-00002":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Staged, "publish", dies)
        with pytest.raises(KeyboardInterrupt):
            extend_run(run_dir, write(tmp_path / "b.csv", events[MIDDLE:]))
    assert torch.equal(Run(run_dir).embed().values, asked.values)
    extend_run(run_dir, tmp_path / "b.csv")
    assert Run(run_dir).stream.num_events == ALL
    assert [path.name for path in (run_dir / EXTENDED).glob("*version*")] == ["version-00002"]


def test_memory_of_other_weights_is_not_used(made: Path, tmp_path: Path) -> None:
    """A run that was trained on since it was extended sweeps the new events anew."""
    run_dir = run_over(made / "since", "text, two sides")
    done = extend_run(run_dir, write(tmp_path / "a.csv", lines("text, two sides")[OLD:]))
    asked = Run(run_dir).embed()
    (done.folder / "memory.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"memory.pt: damaged"):
        Run(run_dir).embed()
    change_version(done.folder, parent_sha256="0" * 64)
    torch.testing.assert_close(Run(run_dir).embed().values, asked.values)


@pytest.mark.attack(
    "two processes extend one run",
    before="held",
    after="the second is refused",
)
def test_two_at_once_are_refused(plain: Path, tmp_path: Path) -> None:
    new = write(tmp_path / "new.csv", ["u1,i1,99999,0.5,1"])
    with lock_run(plain):
        assert main(["extend", str(plain), str(new)]) == 2


def test_new_nodes_without_features_are_refused(tmp_path: Path) -> None:
    events = lines("numbers, one set")
    source = write(tmp_path / "old.csv", events[:OLD])
    np.save(tmp_path / "nodes.npy", np.ones((20, 2), np.float32))
    config = ImportConfig(source=source, out=tmp_path / "old", node_features=tmp_path / "nodes.npy")
    import_stream(config)
    train(small_config(tmp_path / "old")(training__epochs=1), tmp_path / "run")
    with pytest.raises(DataError, match=r"nodes have features.*5 nodes without"):
        extend_run(tmp_path / "run", write(tmp_path / "new.csv", events[OLD:]))
    known = [line for line in events[OLD:] if int(line.split(",")[0]) < 20]
    assert extend_run(tmp_path / "run", write(tmp_path / "new.csv", known)).num_nodes == 0
