"""Signals end a command in order, whatever runs when they come; nohup is respected."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from pres_dist.cli import main as command_line
from pres_dist.parallel import signals
from pres_dist.parallel.shutdown import PROCESS_SHUTDOWN, announced_shutdown
from pres_dist.parallel.signals import forget_interrupt, hang_up_as_sigterm, terminable

STOPS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


@pytest.fixture(autouse=True)
def quick_and_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(signals, "REPEAT_S", 0.01)
    monkeypatch.setattr(sys, "unraisablehook", lambda _unraisable: None)  # pytest's is slow
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


def wait(ticks: int = 1000) -> None:
    for _ in range(ticks):
        time.sleep(0.01)


@terminable()
def stop_then_clean(stop: Callable[[], None], clean: Callable[[], None]) -> None:
    try:
        stop()
        wait()
    finally:
        clean()


class Finalized:
    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


def in_a_finalizer(number: signal.Signals) -> None:
    Finalized(number)  # Python reports "Exception ignored in" and goes on


def in_a_broad_except(number: signal.Signals) -> None:
    with suppress(BaseException):
        signal.raise_signal(number)


def twice(number: signal.Signals) -> None:
    in_a_broad_except(number)
    with suppress(BaseException):
        wait()


@pytest.mark.parametrize(("number", "kind"), STOPS)
@pytest.mark.parametrize("swallow", [in_a_finalizer, in_a_broad_except, twice])
def test_a_swallowed_stop_comes_again(
    number: signal.Signals, kind: type[BaseException], swallow: Callable[[signal.Signals], None]
) -> None:
    cleaned = []
    with pytest.raises(kind):
        stop_then_clean(lambda: swallow(number), lambda: cleaned.append(wait(5)))
    assert cleaned, "a repeat has interrupted the removal of files"


@pytest.mark.parametrize(("number", "kind"), STOPS)
def test_no_repeat_comes_while_an_error_of_the_clean_up_is_handled(
    number: signal.Signals, kind: type[BaseException]
) -> None:
    cleaned = []

    def clean() -> None:
        try:
            raise OSError
        except OSError:
            cleaned.append(wait(5))

    with pytest.raises(kind):
        stop_then_clean(lambda: signal.raise_signal(number), clean)
    assert cleaned


@pytest.mark.parametrize(("number", "kind"), STOPS)
@pytest.mark.parametrize("outcome", [None, ImportError("no module"), SystemExit(1)])
def test_a_stop_is_not_forgotten_for_another_outcome(
    number: signal.Signals, kind: type[BaseException], outcome: BaseException | None
) -> None:
    @terminable()
    def command() -> None:
        in_a_broad_except(number)
        if outcome is not None:
            raise outcome

    with pytest.raises(kind) as ended:
        command()
    assert ended.value is not outcome


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_each_command_ends_with_the_code_of_its_signal(
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(_arguments: list[str]) -> int:
        in_a_broad_except(number)
        wait()
        return 0

    monkeypatch.setattr(command_line, "_command", lambda _name: command)
    assert command_line.main(["data"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_of_another_cause_may_be_caught() -> None:
    with terminable():
        in_a_broad_except(signal.SIGINT)
        forget_interrupt()
        wait(5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("prepare", [lambda: None, hang_up_as_sigterm])
def test_a_signal_unwinds_the_stack(number: signal.Signals, prepare: Callable[[], None]) -> None:
    @terminable()
    def command() -> None:
        prepare()
        signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 143


def test_the_first_is_a_notice_for_who_takes_it() -> None:
    with announced_shutdown():
        signal.raise_signal(signal.SIGHUP)
        assert PROCESS_SHUTDOWN.asked
    assert not PROCESS_SHUTDOWN.asked


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_an_ignored_signal_stays_so(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with terminable():
            hang_up_as_sigterm()
            signal.raise_signal(number)
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
