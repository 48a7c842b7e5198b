"""What labels are guessed without a model: a model that does no better has learned nothing.

Each guess for an event uses the labels of events at an earlier time, those of validation
and test included. The models are given no labels but those of the training loss, so a
guess knows more than they do.

Shapes: E events of the stream, n events that are guessed, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pres_dist.events.stream import EventStream


class LabelBaselines:
    """Guesses from the shares of classes, and from earlier labels of the same nodes.

    Args:
        stream: the events.
        class_E: class of each event; below 0 for one without a label.
        shares_C: share of each class among the training events.
    """

    def __init__(self, stream: EventStream, class_E: np.ndarray, shares_C: np.ndarray) -> None:
        self._stream, self._class_E, self._shares_C = stream, class_E, shares_C

    def scores(self, events: range, of_edges: bool) -> Iterator[tuple[str, np.ndarray]]:
        """Name and [n, C] log-probabilities of each baseline.

        `frequency` is the share of each class among the earlier labels of the node, of which
        one more is taken from the training split; `last` gives all to the latest one. Pairs
        are told by source and destination, and go by their source until they have a label.

        Args:
            events: consecutive ones.
            of_edges: whether labels are of events, so that destinations and pairs count too.
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
        """Last label and frequencies of those that agree in some columns; else what is given."""
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
    """Events that agree in some columns, in the order of time.

    Args:
        columns: [E] each.
        t: times of these events and perhaps of more.
    """

    def __init__(self, columns: Sequence[np.ndarray], t: np.ndarray) -> None:
        self._order_E = np.lexsort(list(columns))  # stable: time order within a group
        group_E = _starts([column[self._order_E] for column in columns])
        run_E = _starts([*(column[self._order_E] for column in columns), t[self._order_E]])
        self._group_E, self._run_E = group_E, run_E

    def before(self, mask_E: np.ndarray) -> np.ndarray:
        """[E] how many events of the group at an earlier time are in the mask."""
        total = np.concatenate([[0], np.cumsum(mask_E[self._order_E])])
        return self._unsorted(total[self._run_E] - total[self._group_E])

    def latest(self, class_E: np.ndarray) -> np.ndarray:
        """[E] class of the latest labelled event of the group at an earlier time, or -1."""
        sorted_E = class_E[self._order_E]
        place_E = np.where(sorted_E >= 0, np.arange(sorted_E.size), -1)
        newest = np.concatenate([[-1], np.maximum.accumulate(place_E)])[self._run_E]
        there_E = newest >= self._group_E
        return self._unsorted(np.where(there_E, sorted_E[np.where(there_E, newest, 0)], -1))

    def _unsorted(self, sorted_E: np.ndarray) -> np.ndarray:
        values_E = np.empty_like(sorted_E)
        values_E[self._order_E] = sorted_E
        return values_E


def _starts(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Place of the first of the equal rows that each row stands among."""
    size = columns[0].size
    begins = np.ones(size, dtype=bool)
    begins[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.maximum.accumulate(np.where(begins, np.arange(size), 0))


def _log(share_nC: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(share_nC)
