"""The steps of a notebook: a DataFrame, a stream, a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pres_dist
from pres_dist.errors import ConfigError, DataError
from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import import_stream
from tests.support.small_run import MakeConfig, small_config


def frame(num_events: int = 300) -> pd.DataFrame:
    """Visits of people to places, by names and at times of day."""
    random = np.random.default_rng(2)
    who = random.integers(0, 12, num_events)
    where = (who + random.integers(0, 2, num_events)) % 6
    start = pd.Timestamp("2024-05-01 08:00")
    return pd.DataFrame(
        {
            "who": [f"person {one}" for one in who],
            "where": pd.Categorical([f"place {one}" for one in where]),
            "when": start + pd.to_timedelta(np.cumsum(random.integers(1, 9, num_events)), "min"),
            "f0": random.normal(size=num_events),
        }
    )


NAMES = {"src": "who", "dst": "where", "t": "when", "bipartite": True}


def test_a_frame_is_what_an_import_of_its_file_is(tmp_path: Path) -> None:
    visits = frame()
    visits.to_csv(tmp_path / "v.csv", index=False)
    visits.to_parquet(tmp_path / "v.parquet")
    config = ImportConfig(
        source=tmp_path / "v.csv",
        out=tmp_path / "v",
        src="who",
        dst="where",
        time="when",
        bipartite=True,
    )
    expected = import_stream(config).stream
    made = [
        pres_dist.EventStream.from_pandas(visits, **NAMES),
        pres_dist.EventStream.from_pandas(visits, out=tmp_path / "stored", **NAMES),
        pres_dist.EventStream.from_parquet(tmp_path / "v.parquet", **NAMES),
    ]
    for stream in made:
        for column in ("src", "dst", "t", "edge_features"):
            np.testing.assert_array_equal(getattr(stream, column), getattr(expected, column))
        nodes = np.arange(expected.num_nodes)
        assert stream.raw_ids(nodes) == expected.raw_ids(nodes)
        assert stream.num_sources == expected.num_sources == 12
        assert stream.metadata["time_unit"] == "ms"
    assert [stream.path for stream in made] == [None, tmp_path / "stored", None]
    assert made[0].save(tmp_path / "saved").num_events == 300


def test_a_notebook_from_frame_to_recommendations(tmp_path: Path) -> None:
    stream = pres_dist.EventStream.from_pandas(frame(), out=tmp_path / "visits", **NAMES)
    run = pres_dist.train(
        small_config(tmp_path)(),
        stream=stream,
        run_dir=tmp_path / "run",
        progress=False,
        epochs=4,
        evaluation__batch_size=20,
    )
    assert run.config.training.epochs == 4
    assert run.results["test"]["num_events"] == 45
    assert run.evaluate(num_negatives=3)["num_negatives"] == 3
    again = pres_dist.load_run(tmp_path / "run")
    afterwards = stream.num_events - 20
    at = frame()["when"][afterwards]
    assert again.embed(at=at).time == int(stream.t[afterwards])
    assert again.embed(at=str(at)).time == int(stream.t[afterwards])
    (best, *_) = again.recommend("person 3", top=2)
    assert best.dst in ("place 3", "place 4")
    assert again.score([("person 3", "place 3")]).shape == (1,)
    tomorrow = frame(10).assign(when=frame(10)["when"] + pd.Timedelta(days=3))
    assert again.extend(tomorrow, pres_dist.EventColumns("who", "where", "when")).num_events == 10
    assert again.stream.num_events == 310
    message = r"nodes\[0\]: a node must be one of the 12 sources.*did you mean person 3"
    with pytest.raises(DataError, match=message):
        again.embed(nodes=["persn 3"], side="source")
    with pytest.raises(DataError, match=r"at must be at least \d+ \(2024-05-0"):
        again.embed(at="2024-05-01")
    with pytest.raises(DataError, match="at: time must be a whole number"):
        again.embed(at="soon")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"who": [*["a"] * 299, None]}, {}, "DataFrame: row 299: who is missing"),
        ({"f0": np.nan}, {}, "DataFrame: row 0: "),
        ({}, {"src": "whom"}, "DataFrame: column 'whom' is missing; the columns are: who, where"),
        ({"who": ["a", 1] * 150}, {}, "a column has values of several types"),
        ({}, {"ids": "all"}, "ids: "),
        ({"when": pd.Timestamp("2030-01-01")}, {}, None),
    ],
)
def test_a_frame_with_a_mistake(
    change: dict[str, object], options: dict[str, object], message: str | None
) -> None:
    visits = frame().assign(**change)
    names = {**NAMES, **options}
    if message is None:
        pres_dist.EventStream.from_pandas(visits, **names)
        return
    with pytest.raises(DataError, match=message):
        pres_dist.EventStream.from_pandas(visits, **names)


def test_settings_by_name(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    for settings, message in (
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean `epochs`"),
        ({"negatives": 3}, "may be any of sampling__negatives, evaluation__negatives: write"),
        ({"epochs": 0}, "training.epochs must be"),
    ):
        with pytest.raises(ConfigError, match=message):
            pres_dist.train(config, run_dir=tmp_path / "run", progress=False, **settings)
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match=r"store it first, stream = stream.save\(DIRECTORY\)"):
        pres_dist.train(config, stream=pres_dist.EventStream.from_pandas(frame(), **NAMES))


def test_a_run_that_has_not_ended_has_no_results(tgn_run: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "run.json"):
        (tmp_path / name).write_bytes((tgn_run / name).read_bytes())
    with pytest.raises(ConfigError, match="the run has not ended"):
        _ = pres_dist.load_run(tmp_path).results
