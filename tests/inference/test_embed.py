"""Embeddings and memory under the user's own ids, in memory and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError, DataError
from pres_dist.events.lookup import NodeLookup
from pres_dist.events.stream import EventStream
from pres_dist.inference import embeddings
from pres_dist.inference.run import Run
from tests.support.trained_runs import trained


def test_every_format_holds_the_same(
    tgn_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tgn_run)
    t = int(run.stream.t[700])
    expected = run.embed(at=t)
    known = {*run.stream.src[run.stream.t < t], *run.stream.dst[run.stream.t < t]}
    assert set(np.asarray(expected.ids).tolist()) == known
    monkeypatch.setattr(embeddings, "ROWS", 16)  # several row groups
    for suffix in ("parquet", "csv", "npz"):
        out = tmp_path / f"e.{suffix}"
        assert main(["embed", str(tgn_run), "--at", str(t), "--out", str(out)]) == 0
    file = pq.ParquetFile(tmp_path / "e.parquet")
    assert file.num_row_groups == -(-len(known) // 16)
    about = {key.decode(): value.decode() for key, value in file.schema_arrow.metadata.items()}
    assert about["pres_dist.time"] == str(t)
    assert about["pres_dist.model"] == "tgn"
    assert about["pres_dist.run"] == "tgn"
    columns = file.read().to_pydict()
    frame = pd.read_csv(tmp_path / "e.csv")
    arrays = np.load(tmp_path / "e.npz")
    values = expected.values.numpy()
    for ids, sides, found in (
        (columns["id"], columns["side"], columns["embedding"]),
        (frame["id"], frame["side"], frame.filter(like="e", axis=1).filter(regex=r"^e\d")),
        (arrays["id"], arrays["side"], arrays["embedding"]),
    ):
        assert list(ids) == list(expected.ids)
        assert list(sides) == expected.sides
        np.testing.assert_allclose(np.asarray(found, np.float32), values, atol=1e-6)
    assert int(arrays["time"]) == t
    assert len(list(tmp_path.iterdir())) == 3


def test_chosen_nodes_come_in_their_order(tgn_run: Path, tmp_path: Path) -> None:
    run = Run(tgn_run)
    ids = [44, 3, 44, 0]
    everything = run.embed()
    place = {int(one): row for row, one in enumerate(everything.ids)}
    found = run.embed(nodes=ids)
    rows = [place[one] for one in ids]
    torch.testing.assert_close(found.values, everything.values[rows], atol=1e-6, rtol=1e-5)
    assert found.sides == ["destination", "source", "destination", "source"]
    (tmp_path / "ids.txt").write_text("44\n\n3\n")
    out = tmp_path / "e.csv"
    command = ["embed", str(tgn_run), "--nodes", str(tmp_path / "ids.txt"), "--out", str(out)]
    assert main(command) == 0
    assert pd.read_csv(out)["id"].tolist() == [44, 3]


def test_a_frame_is_indexed_by_the_ids(tgn_run: Path) -> None:
    frame = Run(tgn_run).embed(nodes=[3, 44]).to_pandas()
    assert frame.index.names == ["side", "id"]
    assert frame.loc[("destination", 44)].shape == (8,)


def test_memory_is_that_after_the_last_event(tgn_run: Path) -> None:
    run = Run(tgn_run)
    memory = run.memory
    assert memory.values.shape == (len(memory), 8)
    newest = {}
    for src, dst, t in zip(run.stream.src, run.stream.dst, run.stream.t, strict=True):
        newest[int(src)] = newest[int(dst)] = int(t)
    assert memory.last_update is not None
    assert dict(zip(memory.ids, memory.last_update.tolist(), strict=True)) == newest
    assert "memory" in memory.to_arrow().column_names


def test_a_model_without_memory_says_so(runs: Path) -> None:
    run = Run(trained(runs, "tgat"))
    assert len(run.embed(at=int(run.stream.t[50])))
    with pytest.raises(ConfigError, match="tgat has no memory"):
        _ = run.memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: --out"),
        (["--out", "e.npy"], "must be a .parquet, .csv, .csv.gz or .npz file, got 'e.npy'"),
        (["--out", "no/e.csv"], "there is no folder no"),
        (["--out", "e.csv", "--at", "3"], "--at must be at least 17"),
        (["--out", "e.csv", "--at", "3", "--latest"], "not allowed with argument"),
        (["--out", "e.csv", "--nodes", "none.txt"], "none.txt: cannot be read"),
    ],
)
def test_a_mistake_is_one_error(
    tgn_run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", str(tgn_run), *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_not_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(tmp_path), "--out", str(tmp_path / "e.csv")]) == 2
    assert "not the folder of a run" in capsys.readouterr().err


def test_an_id_on_both_sides_needs_its_side() -> None:
    frame = pd.DataFrame({"src": ["a", "b", "a"], "dst": ["b", "c", "b"], "t": [1, 2, 3]})
    lookup = NodeLookup(EventStream.from_pandas(frame, bipartite=True))
    assert embeddings.find_nodes(lookup, ["a", "c"], ["x", "y"]).tolist() == [0, 3]
    assert embeddings.find_nodes(lookup, ["b"], ["x"], "source").tolist() == [1]
    assert embeddings.find_nodes(lookup, ["b"], ["x"], "destination").tolist() == [2]
    with pytest.raises(DataError, match="y: 'b' is both a source and a destination"):
        embeddings.find_nodes(lookup, ["a", "b"], ["x", "y"])
    with pytest.raises(DataError, match="x: a node must be one of the 2 sources"):
        embeddings.find_nodes(lookup, ["c"], ["x"], "source")


def test_an_unknown_node_is_told_with_its_place(tgn_run: Path) -> None:
    with pytest.raises(DataError, match=r"nodes\[1\]: a node must be one of the sources 0 to 39"):
        Run(tgn_run).embed(nodes=[1, 99])
