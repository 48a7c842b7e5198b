"""On which interface workers of Ray meet."""

from __future__ import annotations

import socket

import psutil
import pytest

pytest.importorskip("ray")


def test_the_interface_of_an_address_is_found() -> None:
    from pres_dist.parallel.ray_group import interface_of

    name = interface_of("127.0.0.1")
    assert name is not None
    known = psutil.net_if_addrs()[name]
    assert "127.0.0.1" in {one.address for one in known if one.family == socket.AF_INET}
    assert interface_of("203.0.113.1") is None  # an address of documentation
