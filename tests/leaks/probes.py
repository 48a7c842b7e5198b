"""Probes: each looks at runs from outside for one kind of leak and says what it found.

A probe runs a subject over the true stream and over one that differs only in what may not
matter, and compares. It knows nothing of how scores come about, so that it holds for any
model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pres_dist.config.run import RunConfig
from pres_dist.events.stream import EventStream
from tests.leaks.changed import (
    BORDERS,
    held_out,
    kept_events,
    starts_near,
    ties,
    with_other_company,
    with_other_features,
    with_other_partners,
    with_other_values,
)
from tests.leaks.comparing import (
    ROUNDING,
    assert_seen,
    different_choice,
    different_rows,
    different_tables,
    near,
)
from tests.leaks.recording import Record
from tests.leaks.scramble import with_other_future
from tests.leaks.subject import Subject, probe
from tests.leaks.variants import NUM_EVENTS, TRAIN_END, VALIDATION_END

STILL: dict[str, object] = {"training.learning_rate": 1e-30, "data.standardize": False}
"""Weights that stay and features as they are: events of the training split meet each other
in no other way than through memory and neighbors."""


@probe("later part")
def later_part(subject: Subject) -> Iterator[str]:
    """Training is the same to the last bit whatever validation and test events are; validation
    and the choice of the best epoch whatever test events are; training also without a test."""
    before = subject.run()
    for first in BORDERS:
        after = subject.run(with_other_future(subject.stream, first, BORDERS))
        for one, other in zip(before, after, strict=True):
            yield from different_rows(one, other, lambda row, first=first: row.event < first)
            yield from different_tables(one.trained, other.trained, "the end of training")
            if first == VALIDATION_END:
                yield from different_choice(one, other)
        assert_seen(before, after, first)
    if subject.config.data.held_out_share:
        return  # nodes are held out from among those of the later parts
    shares = {"data.train_share": 60.5 / 81, "data.validation_share": 20 / 81}
    nearly_without = subject.run(subject.stream.head(VALIDATION_END + 1), **shares)
    for one, other in zip(before, nearly_without, strict=True):
        yield from different_rows(one, other, lambda row: row.training)
        yield from different_tables(one.trained, other.trained, "the end of training")


@probe("later event")
def later_event(subject: Subject) -> Iterator[str]:
    """An event's scores and negatives are the same whatever comes after its time: other
    endpoints, times, features and labels."""
    before = subject.run(**STILL)
    events = [TRAIN_END + 9, VALIDATION_END + 11]
    if not subject.config.data.held_out_share:  # or the shuffle changes who is trained on
        events.append(34)
    for first in starts_near(subject.stream, *events):
        after = subject.run(with_other_future(subject.stream, first, BORDERS), **STILL)
        for one, other in zip(before, after, strict=True):
            yield from different_rows(one, other, lambda row, first=first: row.event < first)
        assert_seen(before, after, first)


def _random_negatives(config: RunConfig) -> bool:
    """Others must not be true at the event's own time: their draw depends on what is."""
    return config.sampling.negatives == config.evaluation.negatives == "random"


@probe("own time", _random_negatives)
def own_time(subject: Subject) -> Iterator[str]:
    """An event's scores are the same whatever its own features and label are, and whatever
    else happens at its time."""
    before, stream = subject.run(**STILL), subject.stream
    for first, stop in ties(stream, subject.config):
        after = subject.run(with_other_values(stream, first), **STILL)
        for one, other in zip(before, after, strict=True):
            yield from different_rows(one, other, lambda row, stop=stop: row.event < stop)
        event = stop - 1
        after = subject.run(with_other_company(stream, first, event), **STILL)
        for one, other in zip(before, after, strict=True):
            yield from different_rows(
                one, other, lambda row, event=event: row.event == event, exact=False
            )


@probe("company", lambda config: config.memory.staleness == 0)
def company(subject: Subject) -> Iterator[str]:
    """An event's scores are the same, to rounding, when the first half of its temporal batch
    is not there: all read the memory from before the batch."""
    for record in subject.run(company=True):
        compared = [row for row in record.rows if row.company is not None]
        assert compared
        for row in compared:
            if not np.abs(row.company).max() <= ROUNDING:
                yield f"{row}: other scores without the first half of its batch"


@probe("unread", lambda config: config.model.embedding in ("identity", "time"))
def unread(subject: Subject) -> Iterator[str]:
    """Without neighbors, features of a temporal batch reach scores through memory alone: not
    those of the batch itself, nor those of the next k with staleness k, but those after."""
    before = subject.run(**STILL)
    for training, lag in ((True, subject.config.memory.staleness), (False, 0)):
        ends = sorted({row.last for row in before[0].rows if row.training == training})
        until, then = ends[1 + lag], ends[2 + lag]
        changed = slice(ends[0] + 1, ends[1] + 1)
        after = subject.run(with_other_features(subject.stream, changed), **STILL)
        for one, other in zip(before, after, strict=True):
            yield from different_rows(
                one,
                other,
                lambda row, kind=training, last=until: row.training == kind and row.last <= last,
            )
            seen = different_rows(
                one,
                other,
                lambda row, kind=training, last=then: row.training == kind and row.last == last,
            )
            assert list(seen), "the probe must see something"


@probe("labels")
def labels(subject: Subject) -> Iterator[str]:
    """Link prediction is the same whatever the labels are."""
    stream = subject.stream
    assert stream.labels is not None
    other_stream = replace(stream, labels=5 - 3 * stream.labels)
    for one, other in zip(subject.run(), subject.run(other_stream), strict=True):
        yield from different_rows(one, other)
        yield from different_tables(one.trained, other.trained, "the end of training")


@probe("trace of evaluation")
def trace_of_evaluation(subject: Subject) -> Iterator[str]:
    """Evaluation leaves transition statistics as they were, and the epochs that follow are the
    same however it was done: in other batches, against other negatives."""
    before = subject.run()
    after = subject.run(
        **{"evaluation.batch_size": 12, "evaluation.seed": 5, "evaluation.num_negatives": 3}
    )
    for one, other in zip(before, after, strict=True):
        for epoch, validated in enumerate(one.validated, 1):
            for name, table in one.carried.get(epoch, {}).items():
                if "statistics" in name and not np.array_equal(table, validated[name]):
                    yield f"validation of epoch {epoch} changed {name}"
        yield from different_rows(one, other, lambda row: row.training)
        yield from different_tables(one.trained, other.trained, "the end of training")


@probe("range of negatives")
def range_of_negatives(subject: Subject) -> Iterator[str]:
    """Negatives are destinations, in training those of training events, and never the true
    one; and those that are told to be historical or inductive are."""
    stream, config = subject.stream, subject.config
    kept = kept_events(stream, config)
    allowed = {True: set(stream.dst[kept].tolist()), False: set(stream.dst.tolist())}
    for record in subject.run():
        for row in record.rows:
            negatives = set(row.negatives.tolist())
            if outside := negatives - allowed[row.training]:
                yield f"{row}: negatives {sorted(outside)} are no destinations that it may know"
            if int(stream.dst[row.event]) in negatives:
                yield f"{row}: the true destination is among the negatives"
        yield from _negatives_not_of_the_kind(record, stream, config)


@probe("cut of batches")
def cut_of_batches(subject: Subject) -> Iterator[str]:
    """Negatives do not depend on how events are cut into temporal batches."""
    changes: dict[str, object] = {"training.batch_size": 11, "evaluation.batch_size": 7}
    drawn = {
        (row.epoch, row.training, row.event): row.negatives
        for record in subject.run(**changes)
        for row in record.rows
    }
    for record in subject.run():
        for row in record.rows:
            if not np.array_equal(row.negatives, drawn[row.epoch, row.training, row.event]):
                yield f"{row}: other negatives in batches of another size"


@probe("number of negatives")
def number_of_negatives(subject: Subject) -> Iterator[str]:
    """An event's score does not depend on how many negatives it is ranked among, nor on which;
    with one mixture component, for the second knows of them by design."""
    config = subject.config
    fixed: dict[str, object] = {"pres.components": 1, **STILL}
    more: dict[str, object] = {
        "sampling.num_negatives": config.sampling.num_negatives + 2,
        "evaluation.num_negatives": config.evaluation.num_negatives + 3,
        "evaluation.seed": 5,
    }
    for one, other in zip(subject.run(**fixed), subject.run(**fixed, **more), strict=True):
        same_epoch = one.best_epoch == other.best_epoch
        for row, again in zip(one.rows, other.rows, strict=True):
            final = row.epoch > len(one.validated)
            if (same_epoch or not final) and not near(row.scores[:1], again.scores[:1]):
                yield f"{row}: another score among other negatives"


@probe("nodes held out", lambda config: config.data.held_out_share > 0)
def nodes_held_out(subject: Subject) -> Iterator[str]:
    """Training knows nothing of held-out nodes: not as endpoints, not as negatives; and is the
    same to the last bit whatever their events are."""
    stream = subject.stream
    hidden = np.setdiff1d(np.arange(TRAIN_END), kept_events(stream, subject.config))
    assert hidden.size
    unknown = set(held_out(stream, subject.config).tolist())
    other_stream = with_other_partners(with_other_features(stream, hidden), hidden, unknown)
    for one, other in zip(subject.run(), subject.run(other_stream), strict=True):
        for row in one.rows:
            met = {int(stream.src[row.event]), int(stream.dst[row.event]), *row.negatives.tolist()}
            if row.training and met & unknown:
                yield f"{row}: nodes {sorted(met & unknown)} are held out"
        yield from different_rows(one, other, lambda row: row.training)
        yield from different_tables(one.trained, other.trained, "the end of training")


def _negatives_not_of_the_kind(
    record: Record, stream: EventStream, config: RunConfig
) -> Iterator[str]:
    """The final evaluation tells how many negatives are of the kind that was asked for."""
    kind = config.evaluation.negatives
    if kind == "random":
        return
    final = [row for row in record.rows if row.epoch > len(record.validated)]
    for part, start, stop in (
        ("validation", *BORDERS),
        ("test", VALIDATION_END, NUM_EVENTS),
    ):
        are = [
            _is_of_kind(stream, kind, row.event, negative)
            for row in final
            if start <= row.event < stop
            for negative in row.negatives.tolist()
        ]
        told = record.final[part]["negatives_found"] * len(are)
        if sum(are) < round(told):
            yield f"{part}: {round(told)} negatives are told to be {kind}, {sum(are)} are"


def _is_of_kind(stream: EventStream, kind: str, event: int, negative: int) -> bool:
    """Return True if source and negative met before the event, by going through all events."""
    pair = {int(stream.src[event]), negative}
    met = [
        earlier
        for earlier in range(NUM_EVENTS)
        if {int(stream.src[earlier]), int(stream.dst[earlier])} == pair
        and stream.t[earlier] < stream.t[event]
    ]
    in_training = [earlier for earlier in met if earlier < TRAIN_END]
    return bool(in_training) if kind == "historical" else bool(met) and not in_training
