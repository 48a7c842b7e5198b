"""Embeddings and memory of nodes at a time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pres_dist import arguments
from pres_dist.errors import DataError
from pres_dist.events.convert import WHITE_SPACE
from pres_dist.events.lookup import SIDES, UNKNOWN, NodeLookup, Side
from pres_dist.events.raw_ids import RawId, parse_id
from pres_dist.events.readers.table import check_source
from pres_dist.inference.live import LiveRun
from pres_dist.inference.node_table import NodeTable, table_of, write_tables
from pres_dist.inference.sharing import Alone, Share
from pres_dist.inference.walker import Report, quiet
from pres_dist.version import __version__

ROWS = 1 << 14
"""Number of nodes in a row group, and in a task for one of several workers."""


@dataclass(frozen=True)
class NodesAt:
    """Task that embeds nodes at one time.

    Attributes:
        nodes: [n] int64.
        t: events strictly before it are seen.
    """

    nodes: np.ndarray
    t: int

    def compute(self, live: LiveRun, report: Report) -> np.ndarray:
        """Return the [n, A] float32 embeddings."""
        live.move_to(live.first_event_at(self.t), report)
        nodes = torch.from_numpy(self.nodes).to(live.device)
        queries = live.query(nodes, torch.full_like(nodes, self.t), self.t)
        return queries.embedded_QA.float().cpu().numpy()


def embed_nodes(
    live: LiveRun,
    t: int,
    nodes: Tensor | None = None,
    report: Report = quiet,
    share: Share | None = None,
) -> Iterator[NodeTable]:
    """Yield the embeddings of nodes at a time, part by part.

    Args:
        live: the run.
        t: events strictly before it are seen.
        nodes: int64 nodes; all nodes with an event before t when None.
        report: progress callback, first over events and then over nodes.
        share: computes the embeddings; the run itself when None.
    """
    nodes = live.known_nodes(live.first_event_at(t)) if nodes is None else nodes
    parts = nodes.cpu().split(ROWS)
    tasks = (NodesAt(part.numpy(), t) for part in parts)
    done = 0
    for part, values in zip(parts, (share or Alone(live))(tasks, report), strict=True):
        done += part.numel()
        report(done, done, nodes.numel())
        yield table_of(live.stream, part, torch.from_numpy(values), t)


def write_embeddings(
    live: LiveRun,
    out: Path,
    t: int,
    nodes: Tensor | None = None,
    report: Report = quiet,
    share: Share | None = None,
) -> int:
    """Write the tables of `embed_nodes` to a file, and return the number of rows."""
    about = {
        "run": live.run_dir.absolute().name,
        "time": t,
        "model": live.config.model.kind,
        "stream": live.stream.name,
        "num_events": live.first_event_at(t),
        "version": __version__,
    }
    return write_tables(out, embed_nodes(live, t, nodes, report, share), about)


def is_id(value: object) -> bool:
    """Return True if the value is one id, not several."""
    return isinstance(value, (str, int, float, np.number)) or not hasattr(value, "__iter__")


def ids_given(name: str, ids: object) -> list[RawId]:
    """Return the ids of a list or array; raise for anything else, such as a single string."""
    values = arguments.items(name, ids, "ids")
    return [parse_id(value, f"{name}[{place}]") for place, value in enumerate(values)]


def find_nodes(
    lookup: NodeLookup, ids: Sequence[object], where: Sequence[str], side: Side | None = None
) -> Tensor:
    """Return the [n] int64 nodes of ids.

    Args:
        lookup: node lookup of the stream.
        ids: the user's own ids.
        where: location of each id, for error messages.
        side: side of a bipartite stream to look on. None looks on both, and an id must then be
            on exactly one of them.

    Raises:
        DataError: an id is unknown, or on both sides.
    """
    sides: Sequence[Side | None] = [side] if side or not lookup.bipartite else SIDES
    texts = [str(parse_id(one, place)) for one, place in zip(ids, where, strict=True)]
    column = pa.array(texts, pa.large_string())
    found = np.stack([lookup.nodes(column, each) for each in sides])
    known = (found != UNKNOWN).sum(0)
    if (known > 1).any():
        place = int(np.argmax(known > 1))
        raise DataError(
            f"{where[place]}: {ids[place]!r} is both a source and a destination: tell which by "
            "side (--side on the command line)"
        )
    if (known == 0).any():
        place = int(np.argmax(known == 0))
        told = [lookup.explain(ids[place], "a node", each) for each in sides]
        raise DataError(f"{where[place]}: " + ", or ".join(told))
    return torch.from_numpy(found.max(0))


def read_ids(path: Path) -> tuple[list[str], list[str]]:
    """Read ids from a text file with one id per line, quoted as in a one-column CSV file or not.

    Returns:
        the ids, and the location (path:line) of each.

    Raises:
        DataError: the file cannot be read, or holds no id.
    """
    check_source(path)
    ids, where = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            # No id contains a unit separator, so each line is read as a single field.
            reader = csv.reader(lines, delimiter="\x1f", strict=True)
            first = 1
            for fields in reader:
                if text := "".join(fields).strip(WHITE_SPACE):
                    ids.append(text)
                    where.append(f"{path}:{first}")
                first = reader.line_num + 1
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: must be UTF-8 text with an id on each line") from None
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: cannot be read as an id: {error}") from None
    if not ids:
        raise DataError(f"{path}: must hold an id on each line, got none")
    return ids, where
