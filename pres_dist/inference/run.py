"""Python interface to runs: train, evaluate, embed, score, recommend."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pres_dist import arguments
from pres_dist.arguments import checked_call
from pres_dist.config.fields import leaves
from pres_dist.config.load import load_config
from pres_dist.config.options import option
from pres_dist.config.run import RunConfig
from pres_dist.config.suggest import suggest
from pres_dist.errors import ArgumentError, ConfigError, DataError
from pres_dist.events.lookup import SIDES, Side
from pres_dist.events.raw_ids import RawId
from pres_dist.events.stream import EventStream
from pres_dist.files import read_regular, user_path
from pres_dist.inference.embeddings import embed_nodes, find_nodes, ids_given, is_id
from pres_dist.inference.extend import Extension, extend_run
from pres_dist.inference.live import LiveRun
from pres_dist.inference.new_events import EventColumns
from pres_dist.inference.node_table import NodeTable, joined, table_of
from pres_dist.inference.pairs import score_pairs
from pres_dist.inference.ranking import MAX_EVENTS, RunRanking, rank_run
from pres_dist.inference.read_pairs import pairs_of
from pres_dist.inference.recommend import Recommendation, recommend
from pres_dist.inference.times import MaxAhead, time_of
from pres_dist.records import Results
from pres_dist.report.progress import make_progress
from pres_dist.report.run_folder import new_folder, read_config
from pres_dist.run_files import RESULTS
from pres_dist.training import run as training
from pres_dist.training.evaluate_run import evaluate_run

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """A trained run.

    Model and memory are those of the best epoch. They are loaded when first needed and kept; the
    memory is then moved from one requested time to the next.

    Args:
        path: folder of the run.
        replay: rebuild the memory from the first event with the final weights, which allows
            times inside the training split and costs accuracy (docs/explanation/pres.md).
        stream: current path of the run's stream, if it was moved; its events must be the same.

    Raises:
        ConfigError: `path` is not a run folder.
    """

    @checked_call
    def __init__(
        self, path: str | Path, replay: bool = False, stream: str | Path | None = None
    ) -> None:
        self.path = arguments.path("path", path)
        self._stream = None if stream is None else arguments.path("stream", stream)
        self._replay = arguments.flag("replay", replay)
        self.config: RunConfig = read_config(self.path, self._stream)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.config.model.kind} on {self.config.data.stream})"

    @property
    def results(self) -> Results:
        """Contents of results.json: the final metrics of the run.

        Raises:
            ConfigError: the run has not ended.
            DataError: the file is damaged.
        """
        try:
            results = json.loads(read_regular(self.path / RESULTS))
        except FileNotFoundError:
            raise ConfigError(f"{self.path}: has no {RESULTS}: the run has not ended") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{self.path / RESULTS}: damaged: {error}") from None
        if not isinstance(results, dict):
            raise DataError(f"{self.path / RESULTS}: damaged: must hold a JSON object")
        return cast("Results", results)

    @property
    def stream(self) -> EventStream:
        """All events of the run: those it was trained on, and those appended since."""
        return self._live.stream

    @property
    def memory(self) -> NodeTable:
        """[n, D] memory of all nodes that have an event, after the last event of the stream.

        Raises:
            ConfigError: the model has no memory.
        """
        live, t = self._live, self._live.latest
        if not self.config.model.has_memory:
            raise ConfigError(f"model.kind {self.config.model.kind} has no memory")
        live.move_to(live.stream.num_events)
        nodes = live.known_nodes(live.stream.num_events)
        updated = live.memory(nodes, t)
        return table_of(live.stream, nodes, updated.memory_UD.float(), t, updated.last_update_U)

    @checked_call
    def evaluate(self, **settings: object) -> Results:
        """Return the metrics of the best epoch, like `pres-dist evaluate`.

        Args:
            settings: fields of the section `evaluation` to override in the run's configuration,
                e.g. `negatives="historical"`.
        """
        named = {f"evaluation__{name}": value for name, value in settings.items()}
        return evaluate_run(self.path, _configured(self.config, named).evaluation, self._stream)

    @checked_call
    def embed(
        self,
        at: object = None,
        nodes: Sequence[RawId] | None = None,
        side: Side | None = None,
    ) -> NodeTable:
        """Return the [n, A] embeddings of nodes at a time.

        Args:
            at: time; events strictly before it are seen. A number in the unit of the imported
                data (scaled by `time_scale`), or a date or ISO 8601 text if the unit of the
                stream is known. None: after all events.
            nodes: ids of the nodes; all nodes with an event before the time when None.
            side: source or destination, if an id of `nodes` may be either.

        Raises:
            DataError: an id is unknown, or the memory cannot be moved to the time.
        """
        arguments.one_of("side", side, (None, *SIDES))
        if side is not None and nodes is None:
            raise ArgumentError("side is for nodes, which are not given")
        ids = None if nodes is None else ids_given("nodes", nodes)
        live, t, found = self._live, self._time(at), None
        if ids is not None:
            where = [f"nodes[{place}]" for place in range(len(ids))]
            found = find_nodes(live.lookup, ids, where, side)
        return joined(list(embed_nodes(live, t, found)))

    @checked_call
    def score(
        self,
        pairs: pd.DataFrame | Iterable[Sequence[Any]],
        at: object = None,
        batched: bool = False,
    ) -> np.ndarray:
        """Return the [n] float32 probabilities of links, in the order of the pairs.

        Args:
            pairs: a DataFrame or Arrow table with columns src, dst and optionally t, or a list of
                such tuples.
            at: time of pairs without one; after all events when None.
            batched: score in the temporal batches of evaluation, with memory from before the
                batch; much faster if times differ.

        Raises:
            ConfigError: the run has not learned links.
            DataError: a column is missing, an id is unknown or a time is out of range. The
                message has the row.
        """
        batched = arguments.flag("batched", batched)
        live = self._live
        live.require_links()
        return score_pairs(live, pairs_of(live, pairs, self._time(at)), batched)

    @checked_call
    def recommend(
        self,
        src: RawId | Sequence[RawId],
        top: int = 20,
        at: object = None,
        exclude_seen: bool = False,
    ) -> list[Recommendation]:
        """Return the most likely destinations of one or several sources, best first.

        Args:
            src: id or ids.
            top: maximum number of destinations per source.
            at: time, as in `embed`.
            exclude_seen: exclude destinations that a source has met before.

        Raises:
            ConfigError: the run has not learned links.
            DataError: an id is unknown, or the time is out of range.
        """
        top = arguments.count("top", top)
        exclude_seen = arguments.flag("exclude_seen", exclude_seen)
        ids = ids_given("src", [src] if is_id(src) else src)
        live = self._live
        where = [f"src[{place}]" for place in range(len(ids))]
        sources = find_nodes(live.lookup, ids, where, live.lookup.source_side)
        return list(recommend(live, sources, top, self._time(at), exclude_seen))

    @checked_call
    def extend(
        self,
        events: pd.DataFrame | str | Path,
        columns: EventColumns | None = None,
        max_ahead: MaxAhead = "auto",
    ) -> Extension:
        """Append events that are later than those of the run, and update its memory.

        The weights and the run's own stream do not change; see `pres_dist.inference.extend`.

        Args:
            events: a DataFrame or Arrow table, or the path of a CSV or Parquet file.
            columns: names of the columns, if they are not src, dst and t.
            max_ahead: how far after the last event new ones may be: a number in the unit of the
                imported data, a timedelta, `"90d"`, or None for any time. If the unit of the
                stream is known, `"auto"` allows 100 times the length of the stream, at least a
                year, or until tomorrow, and no time after the year 9999.

        Raises:
            DataError: events are not valid, or not later than all events of the run.
        """
        if columns is not None:
            arguments.kind("columns", columns, EventColumns, "EventColumns")
        named = isinstance(events, (str, os.PathLike))
        source = arguments.path("events", events) if named else events
        done = extend_run(self.path, source, columns, max_ahead=max_ahead, stream=self._stream)
        self._stream = None  # the run folder now holds all events
        self.__dict__.pop("_live", None)
        return done

    @checked_call
    def export(self, out: str | Path, memory: bool = False) -> Path:
        """Write weights and modules as files for other software; see `export_run`."""
        from pres_dist.inference.export.archive import (
            export_run,  # torch.export takes a second to import
        )

        memory = arguments.flag("memory", memory)
        return export_run(self.path, arguments.path("out", out), memory, stream=self._stream)

    @checked_call
    def evaluate_ranking(self, max_events: int = MAX_EVENTS) -> RunRanking:
        """Return hit@10 and MRR of recommendations on the test split, and of baselines.

        See `pres_dist.inference.ranking.rank_run` for the metrics.
        """
        return rank_run(self._live, arguments.count("max_events", max_events))

    @cached_property
    def _live(self) -> LiveRun:
        return LiveRun(self.path, self._replay, stream=self._stream)

    def _time(self, at: object) -> int:
        if at is None:
            return self._live.latest
        t = time_of(self._live.stream, at, "at")
        self._live.check_time(t, "at")
        return t


@checked_call
def train(
    config: RunConfig | str | Path | None = None,
    *,
    stream: EventStream | str | Path | None = None,
    run_dir: str | Path | None = None,
    progress: bool = True,
    **settings: object,
) -> Run:
    """Train a model and evaluate its best epoch.

    Args:
        config: a configuration, the path of a YAML file, or None for the defaults.
        stream: a stored stream or its directory, instead of the configured one.
        run_dir: new or empty folder for the run; runs/NAME-DATE-TIME when None.
        progress: print progress; if False, it is logged at level INFO.
        settings: fields of the configuration: fields of `training` by name (`epochs=3`), other
            fields by name if only one section has them, otherwise with their section
            (`evaluation__batch_size=100`).

    Raises:
        ConfigError: a setting is not valid, or the folder is in use.
        DataError: the stream cannot be used, or is not stored.
        NonFiniteError: the loss became NaN or infinite.
    """
    progress = arguments.flag("progress", progress)
    if config is not None:
        what = "a RunConfig or the path of a YAML file"
        arguments.kind("config", config, (RunConfig, str, os.PathLike), what)
    if run_dir is not None:
        run_dir = arguments.path("run_dir", run_dir)
    if isinstance(stream, EventStream):
        if stream.path is None:
            raise DataError(
                f"{stream.name}: training reads a stored stream, this one is in memory: "
                "store it first, stream = stream.save(DIRECTORY)"
            )
        stream = stream.path
    if stream is not None:
        settings = {**settings, "data__stream": str(arguments.path("stream", stream))}
    resolved = _configured(config, settings)
    try:
        folder = Path(run_dir) if run_dir is not None else new_folder(resolved.name)
    except OSError as error:
        raise ConfigError(f"{error.filename}: cannot make a run folder: {error.strerror}") from None
    console = make_progress() if progress else None
    try:
        training.train(resolved, folder, console)
    except BaseException:
        if run_dir is None:
            with suppress(OSError):  # not empty: the run has begun
                folder.rmdir()
        raise
    finally:
        if console is not None:
            console.stop()
    return Run(folder)


@checked_call
def load_run(path: str | Path, replay: bool = False, stream: str | Path | None = None) -> Run:
    """Load a trained run; see `Run`."""
    return Run(path, replay, stream)


def _configured(config: RunConfig | str | Path | None, settings: Mapping[str, object]) -> RunConfig:
    """Return a configuration with some settings overridden.

    Args:
        config: a configuration, the path of a YAML file, or None for the defaults.
        settings: values of fields. Fields of `training`, and fields that only one section has,
            are given by name (`epochs`); others by section and name (`evaluation__batch_size`).

    Raises:
        ConfigError: a name is unknown or matches several fields, or a value is not valid.
    """
    overrides = [
        f"{option(_key(name))}={'null' if value is None else value}"
        for name, value in settings.items()
    ]
    if isinstance(config, RunConfig):
        return load_config(None, overrides, config)
    return load_config(None if config is None else user_path(config), overrides)


def _key(name: str) -> str:
    """Return the dotted key of a name."""
    keys = [leaf.key for leaf in leaves(RunConfig)]
    dotted = name.replace("__", ".")
    for exact in (dotted, f"training.{dotted}"):
        if exact in keys:
            return exact
    found = [key for key in keys if key.split(".")[-1] == dotted]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(key.replace(".", "__") for key in found)
        raise ConfigError(f"setting {name!r} may be any of {names}: write the one that is meant")
    hint = suggest(dotted, [*keys, *(key.split(".")[-1] for key in keys)])
    hint = hint.replace(".", "__") if hint.startswith("did you") else "--help of train lists all"
    raise ConfigError(f"unknown setting {name!r}; {hint}")
