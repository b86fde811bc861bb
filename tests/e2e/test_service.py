"""The gateway under a service manager: a real process and a real datagram socket."""

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.site import end, process, wait_until

SITE = """
data_dir: {folder}/data
site: {{id: s, name: S, timezone: UTC}}
api: {{listen: "127.0.0.1:{api}"}}
devices:
  - {{id: cp, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:{charger}", timeout_s: 0.2}}
"""


class Manager:
    """What systemd would be told."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            self.told.append(data.decode())

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()

    def wait(self, word: str, since: int = 0) -> None:
        wait_until(lambda: any(one.startswith(word) for one in self.told[since:]), word)

    def mark(self) -> int:
        """How much was told up to now, with what was on its way."""
        word = f"MARK={len(self.told)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(word.encode(), self.address)
        self.wait(word)
        return self.told.index(word) + 1

    def count(self, word: str) -> int:
        return sum(one.startswith(word) for one in self.told)


@contextmanager
def gateway(
    folder: Path, *module: str, api: int = 0, watchdog_us: int = 900_000
) -> Iterator[tuple["subprocess.Popen[bytes]", Manager]]:
    site = folder / "site.yaml"
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and never answers
        site.write_text(SITE.format(folder=folder, api=api, charger=mute.getsockname()[1]))
        arguments = (*module, str(site)) if module else ("agent", "run", "--config", str(site))
        manager = Manager(folder / "notify")
        told = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(watchdog_us)}
        try:
            with process(*arguments, log=folder / "log", **told) as child:
                yield child, manager
        finally:
            manager.close()


def test_from_the_start_to_the_end_it_says_how_it_is(tmp_path: Path) -> None:
    with gateway(tmp_path) as (child, manager):
        manager.wait("READY=1")
        log = (tmp_path / "log").read_text()
        assert "api: http://" in log, "ready before the API listens"
        before = manager.told[: manager.told.index("READY=1")]
        assert before[0] == "STATUS=opening the store"
        assert any(one.startswith("EXTEND_TIMEOUT_USEC=") for one in before)
        manager.wait("STATUS=0 of 1 devices online")
        since = len(manager.told)
        child.send_signal(signal.SIGHUP)
        manager.wait("RELOADING=1\nMONOTONIC_USEC=", since)
        manager.wait("READY=1", since)
        since = len(manager.told)
        manager.wait("WATCHDOG=1", since)
        assert end(child) == 0
    assert "STOPPING=1" in manager.told
    assert manager.count("WATCHDOG=trigger") == 0, "a device that does not answer is no dead task"


def test_it_is_not_ready_while_its_port_is_taken_and_looks_after_the_site(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, gateway(tmp_path, api=_port(other)) as (child, manager):
        manager.wait("STATUS=starting: the API (listen on")
        fed = len(manager.told)
        manager.wait("WATCHDOG=1", fed)
        assert manager.count("READY=1") == 0
        other.close()
        manager.wait("READY=1")
        assert end(child) == 0


def test_a_stopped_process_feeds_nobody_and_goes_on_when_it_is_let(tmp_path: Path) -> None:
    with gateway(tmp_path, watchdog_us=300_000) as (child, manager):
        manager.wait("READY=1")
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: ") T" in _stat(child.pid), "stopped")
        told = manager.mark()
        assert manager.count("WATCHDOG=1") > 0
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2.0)  # seven times the watchdog's time
        assert manager.told[told:] == []
        since = len(manager.told)
        child.send_signal(signal.SIGCONT)
        manager.wait("WATCHDOG=1", since)
        assert manager.count("STATUS=stuck") == 0


@pytest.mark.announced_warnings
@pytest.mark.parametrize(("what", "named"), [("writer", "the store's writer"), ("wire", "tcp://127.0.0.1:")])
def test_what_is_stuck_is_named_and_starves_the_watchdog(tmp_path: Path, what: str, named: str) -> None:
    with gateway(tmp_path, "tests.e2e.stuck", what) as (child, manager):
        manager.wait("READY=1")
        (tmp_path / "stick").touch()
        manager.wait(f"STATUS=stuck: {named}")
        manager.wait("WATCHDOG=trigger")
        after = manager.told[manager.told.index("WATCHDOG=trigger") :]
        assert "WATCHDOG=1" not in after
        assert f"agent.alive: {named}" in (tmp_path / "log").read_text()
        # As systemd does it: SIGABRT, which leaves in the log where each thread stood.
        child.send_signal(signal.SIGABRT)
        assert child.wait(60) == -signal.SIGABRT
        log = (tmp_path / "log").read_text()
        assert "Fatal Python error: Aborted" in log
        assert what != "writer" or "tests/e2e/stuck.py" in log


@pytest.mark.announced_warnings
def test_a_store_that_does_not_answer_holds_up_no_stop(tmp_path: Path) -> None:
    with gateway(tmp_path, "tests.e2e.stuck", "writer") as (child, manager):
        manager.wait("READY=1")
        (tmp_path / "stick").touch()
        manager.wait("STATUS=stuck: the store's writer")
        assert end(child) == 0
    assert "the disk does not answer" in (tmp_path / "log").read_text()


def test_a_hung_loop_feeds_nobody_and_the_abort_says_where_it_stood(tmp_path: Path) -> None:
    with gateway(tmp_path, "tests.e2e.stuck", "loop") as (child, manager):
        manager.wait("READY=1")
        (tmp_path / "stick").touch()
        wait_until((tmp_path / "stuck").exists, "it hangs")
        told = manager.mark()
        threading.Event().wait(3.0)  # ten times the time at which it is fed
        assert manager.told[told:] == []
        child.send_signal(signal.SIGABRT)
        assert child.wait(60) == -signal.SIGABRT
        assert "in hang" in (tmp_path / "log").read_text()


def _port(server: socket.socket) -> int:
    port: int = server.getsockname()[1]
    return port


def _stat(process_id: int) -> str:
    return Path(f"/proc/{process_id}/stat").read_text()
