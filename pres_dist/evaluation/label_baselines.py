"""Label baselines without a model: a model that does no better has learned nothing.

Each prediction uses the labels of all earlier events, including validation and test
events. Models get labels only through the training loss, so the baselines have more
information.

Shapes: E events of the stream, n predicted events, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pres_dist.events.stream import EventStream


class LabelBaselines:
    """Baselines that predict from class frequencies and from earlier labels of the same nodes.

    Args:
        stream: the events.
        class_E: class of each event; negative without a label.
        shares_C: share of each class among the training events.
    """

    def __init__(self, stream: EventStream, class_E: np.ndarray, shares_C: np.ndarray) -> None:
        self._stream, self._class_E, self._shares_C = stream, class_E, shares_C

    def scores(self, events: range, of_edges: bool) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the name and [n, C] log-probabilities of each baseline.

        `frequency` is the share of each class among the node's earlier labels, plus one
        pseudo-label with the class shares of the training split. `last` predicts the latest
        label. A pair is a source and a destination; it falls back to its source until it has
        a label.

        Args:
            events: consecutive events.
            of_edges: True if labels belong to events, so that destinations and pairs count too.
        """
        prior_nC = np.broadcast_to(self._shares_C, (len(events), self._shares_C.size))
        yield "class prior", _log(prior_nC)
        last_nC, frequency_nC = self._of([self._stream.src], events, prior_nC, prior_nC)
        yield "last label of source", _log(last_nC)
        yield "label frequency of source", _log(frequency_nC)
        if not of_edges:
            return
        _, destination_nC = self._of([self._stream.dst], events, prior_nC, prior_nC)
        yield "label frequency of destination", _log(destination_nC)
        keys = [self._stream.src, self._stream.dst]
        last_nC, frequency_nC = self._of(keys, events, last_nC, frequency_nC)
        yield "last label of pair", _log(last_nC)
        yield "label frequency of pair", _log(frequency_nC)

    def _of(
        self,
        columns: Sequence[np.ndarray],
        events: range,
        last_nC: np.ndarray,
        frequency_nC: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return last label and frequencies in the group of equal columns; defaults if none."""
        history = _History([column[: events.stop] for column in columns], self._stream.t)
        wanted = np.arange(events.start, events.stop)
        class_E = self._class_E[: events.stop]
        num_classes = self._shares_C.size
        counts_nC = np.stack(
            [history.before(class_E == c)[wanted] for c in range(num_classes)], axis=1
        )
        latest_n = history.latest(class_E)[wanted]
        one_hot_nC = latest_n[:, None] == np.arange(num_classes)
        last_nC = np.where((latest_n >= 0)[:, None], one_hot_nC, last_nC)
        return last_nC, (counts_nC + frequency_nC) / (counts_nC.sum(1, keepdims=True) + 1)


class _History:
    """Groups of events with equal values in some columns, each in time order.

    Args:
        columns: [E] each.
        t: times of these events, and possibly of later ones.
    """

    def __init__(self, columns: Sequence[np.ndarray], t: np.ndarray) -> None:
        self._order_E = np.lexsort(list(columns))  # stable: time order within a group
        group_E = _starts([column[self._order_E] for column in columns])
        # Events of a group at one time do not see each other, so counts end before their run.
        run_E = _starts([*(column[self._order_E] for column in columns), t[self._order_E]])
        self._group_E, self._run_E = group_E, run_E

    def before(self, mask_E: np.ndarray) -> np.ndarray:
        """Return the [E] number of masked events of the group at an earlier time."""
        total = np.concatenate([[0], np.cumsum(mask_E[self._order_E])])
        return self._unsorted(total[self._run_E] - total[self._group_E])

    def latest(self, class_E: np.ndarray) -> np.ndarray:
        """Return the [E] class of the group's latest labeled event at an earlier time, or -1."""
        sorted_E = class_E[self._order_E]
        place_E = np.where(sorted_E >= 0, np.arange(sorted_E.size), -1)
        # The newest labeled place before the run may lie in an earlier group: `there_E` is False.
        newest = np.concatenate([[-1], np.maximum.accumulate(place_E)])[self._run_E]
        there_E = newest >= self._group_E
        return self._unsorted(np.where(there_E, sorted_E[np.where(there_E, newest, 0)], -1))

    def _unsorted(self, sorted_E: np.ndarray) -> np.ndarray:
        values_E = np.empty_like(sorted_E)
        values_E[self._order_E] = sorted_E
        return values_E


def _starts(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return the index of the first row in each row's run of equal rows."""
    size = columns[0].size
    begins = np.ones(size, dtype=bool)
    begins[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.maximum.accumulate(np.where(begins, np.arange(size), 0))


def _log(share_nC: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(share_nC)
