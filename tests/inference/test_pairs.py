"""Scoring files and tables of pairs."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError, DataError
from pres_dist.inference.run import Run
from tests.support.trained_runs import trained


def write(path: Path, rows: list[str], header: str = "note,dst,src,t") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def some_times(run: Run) -> list[int]:
    return [int(t) for t in run.stream.t[[790, 600, 700, 600, 650]]]


def test_a_file_keeps_its_order_and_its_other_columns(tgn_run: Path, tmp_path: Path) -> None:
    run = Run(tgn_run)
    times = some_times(run)
    rows = [f'"a, {n}",{40 + n},{n},{t}' for n, t in enumerate(times)]
    out = tmp_path / "scored.csv"
    pairs = write(tmp_path / "pairs.csv", rows)
    assert main(["score", str(tgn_run), str(pairs), "--out", str(out)]) == 0
    scored = table(out)
    assert list(scored[0]) == ["note", "dst", "src", "t", "probability"]
    assert [row["note"] for row in scored] == [f"a, {n}" for n in range(5)]
    # Each pair scored alone, by a run that has seen no other, scores the same.
    for n, (row, t) in enumerate(zip(scored, times, strict=True)):
        (alone,) = Run(tgn_run).score([(n, 40 + n, t)])
        assert float(row["probability"]) == pytest.approx(float(alone), abs=1e-6)
        assert 0 < alone < 1


def test_probability_is_the_decoder_on_the_embeddings(tgn_run: Path) -> None:
    run = Run(tgn_run)
    t = some_times(run)[2]
    (probability,) = run.score([(3, 44)], at=t)
    embedded = run.embed(at=t, nodes=[3, 44]).values.double().numpy()
    weights = {name: value.double().cpu().numpy() for name, value in decoder(run).items()}
    hidden = np.maximum(
        embedded[0] @ weights["source.weight"].T
        + weights["source.bias"]
        + embedded[1] @ weights["destination.weight"].T,
        0,
    )
    logit = hidden @ weights["out.weight"][0] + weights["out.bias"][0]
    assert probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def decoder(run: Run):  # type: ignore[no-untyped-def]
    return run._live.parts.model.decoder.state_dict()


def test_parquet_frames_and_tuples_score_alike(tgn_run: Path, tmp_path: Path) -> None:
    run = Run(tgn_run)
    frame = pd.DataFrame({"src": [1, 2, 3], "dst": [41, 42, 43], "t": some_times(run)[:3]})
    frame.to_parquet(tmp_path / "pairs.parquet")
    out = tmp_path / "scored.parquet"
    assert main(["score", str(tgn_run), str(tmp_path / "pairs.parquet"), "--out", str(out)]) == 0
    scores = run.score(frame)
    np.testing.assert_allclose(pq.read_table(out)["probability"].to_numpy(), scores, atol=1e-6)
    np.testing.assert_array_equal(run.score(list(frame.itertuples(index=False))), scores)
    without = frame[["src", "dst"]]
    np.testing.assert_array_equal(run.score(without), run.score(without, at=run._live.latest))


def test_unknown_ids_are_skipped_when_told_so(tgn_run: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.csv", ["1,41", "1,5", "41,1", "x,41", "2,42"], "src,dst")
    out = tmp_path / "scored.csv"
    command = ["score", str(tgn_run), str(pairs), "--out", str(out)]
    assert main([*command, "--unknown", "skip"]) == 0
    values = [row["probability"] for row in table(out)]
    assert [bool(value) for value in values] == [True, False, False, False, True]


@pytest.mark.parametrize(
    ("rows", "header", "extra", "message"),
    [
        (["1,41", "1,5"], "src,dst", [], "p.csv:3: dst must be one of the destinations 40 to 54"),
        (["x,41"], "src,dst", [], "p.csv:2: src must be one of the sources 0 to 39 of habits, got"),
        (["1,41"], "src,target", [], "column 'dst' is missing; the columns are: src, target"),
        (["1,41,7"], "src,dst,t", [], "p.csv:2: t must be at least 17"),
        (["1,41,soon"], "src,dst,t", [], "p.csv:2: t must be a whole number"),
        (["1,41,"], "src,dst,t", [], "p.csv:2: t"),
        (["1,41,9"], "src,dst,t", ["--at", "5"], "has times (column 't'), so --at and --latest"),
        (["1,41,9"], "src,dst,probability", [], "has a column 'probability' already"),
        (["1,41,9"], "src,dst", [], "p.csv:2: must have 2 fields, got 3"),
        ([], "src,dst", [], "p.csv: must hold at least one pair"),
        (["1,41"], "src,dst", ["--out", "x.txt"], "--out must be a .csv, .csv.gz or .parquet file"),
        (["1,41"], "src,dst", ["--out", "no/x.csv"], "there is no folder no"),
        (["1,41"], "src,dst", ["--at", "soon"], "--at: time must be a whole number"),
        (["1,41"], "src,dst", ["--at", "2013-01-01"], "numbers without a known unit"),
    ],
)
def test_a_mistake_is_one_error(
    tgn_run: Path,
    tmp_path: Path,
    rows: list[str],
    header: str,
    extra: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = write(tmp_path / "p.csv", rows, header)
    assert main(["score", str(tgn_run), str(pairs), *extra]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_a_notebooks_mistakes(tgn_run: Path) -> None:
    run = Run(tgn_run)
    with pytest.raises(DataError, match=r"pair 1: src must be one of the sources 0 to 39"):
        run.score([(1, 41), (41, 1)])
    with pytest.raises(DataError, match=r"DataFrame: column 'dst' is missing"):
        run.score(pd.DataFrame({"src": [1]}))
    with pytest.raises(DataError, match=r"DataFrame: row 0: t must be at least"):
        run.score(pd.DataFrame({"src": [1], "dst": [41], "t": [5]}))
    with pytest.raises(DataError, match=r"got tuples of \[1\] values"):
        run.score([(1,)])
    assert run.score([]).shape == (0,)


def test_a_run_that_learned_no_links_has_no_scores(runs: Path) -> None:
    run = Run(trained(runs, "labels"))
    assert len(run.embed(nodes=[1]))
    with pytest.raises(ConfigError, match=r"learned node_classification from labels alone"):
        run.score([(1, 41)])


def test_standard_output_takes_a_pipe_that_closes(tgn_run: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.csv", ["1,41"] * 3, "src,dst")
    done = subprocess.run(
        [sys.executable, "-m", "pres_dist", "score", str(tgn_run), str(pairs)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "src,dst,probability"
    assert len({*lines[1:]}) == 1
    assert "3 pairs" in done.stderr
