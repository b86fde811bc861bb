"""What the service manager is told, on a fake clock and without a socket."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.core.clock import FakeClock
from agent.notify_systemd import ServiceManager


def manager(environ: Mapping[str, str] | None = None) -> tuple[ServiceManager, list[str]]:
    told: list[str] = []
    return ServiceManager(FakeClock(), environ or {}, lambda data: told.append(data.decode())), told


def test_each_word_of_the_protocol() -> None:
    one, told = manager()
    one.extend(60)
    one.ready()
    one.reloading()
    one.reloaded()
    one.feed()
    one.trigger()
    one.stopping()
    assert told == [
        "EXTEND_TIMEOUT_USEC=60000000",
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=1000000000",
        "READY=1",
        "WATCHDOG=1",
        "WATCHDOG=trigger",
        "STOPPING=1",
    ]


def test_a_reload_before_it_is_ready_does_not_make_it_ready() -> None:
    one, told = manager()
    one.reloading()
    one.reloaded()
    assert told == []
    assert not one.is_ready


def test_a_status_is_one_line_and_told_when_it_changes() -> None:
    one, told = manager()
    one.status("starting: the API\n(in use)")
    one.status("starting: the API (in use)")
    one.status("up")
    assert told == ["STATUS=starting: the API (in use)", "STATUS=up"]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_whether_it_is_watched(environ: Mapping[str, str], wanted: float | None) -> None:
    assert manager(environ)[0].watchdog_s == wanted


@pytest.mark.parametrize("address", ["path", "@enlace-{pid}"])
def test_datagrams_arrive_at_paths_and_abstract_names(tmp_path: Path, address: str) -> None:
    place = str(tmp_path / "notify") if address == "path" else address.format(pid=os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind("\0" + place[1:] if place.startswith("@") else place)
        there.settimeout(5)
        one = ServiceManager(FakeClock(), {"NOTIFY_SOCKET": place})
        assert one.present
        one.ready()
        assert there.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
def test_nobody_is_told_where_nobody_listens(address: str) -> None:
    one = ServiceManager(FakeClock(), {"NOTIFY_SOCKET": address})
    assert not one.present
    one.ready()


def test_a_manager_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    one = ServiceManager(FakeClock(), {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    one.ready()
    one.feed()
    assert one.is_ready
