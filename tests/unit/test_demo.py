"""Which bus the simulated site takes."""

import socket

import pytest

from agent.cli.demo import find_bus
from agent.core.errors import Unavailable


class NoMulticast(socket.socket):
    """A machine without a route for multicast."""

    def setsockopt(self, *_: object) -> None:
        raise OSError(19, "No such device")


def test_no_vcan_and_no_multicast_is_told_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", NoMulticast)
    with pytest.raises(Unavailable) as caught:
        find_bus(interfaces=["lo"])
    assert "No such device" in caught.value.reason
    assert "ip route add" in caught.value.hint
    assert "vcan0" in caught.value.hint
