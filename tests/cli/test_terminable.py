"""SIGTERM and SIGHUP end a command in order; nohup is respected."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from pres_dist.cli.terminable import hang_up_as_sigterm, terminable
from pres_dist.parallel.shutdown import ShutdownRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("prepare", [lambda: None, hang_up_as_sigterm])
def test_a_signal_unwinds_the_stack(number: signal.Signals, prepare: Callable[[], None]) -> None:
    def command() -> None:
        with terminable():
            prepare()
            signal.raise_signal(number)

    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 143
    assert signal.getsignal(number) == signal.SIG_DFL


def test_the_first_is_a_notice_for_who_takes_it() -> None:
    request = ShutdownRequest()
    with terminable(request):
        signal.raise_signal(signal.SIGHUP)
    assert request.asked


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable():
            hang_up_as_sigterm()
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
