"""The search that the API starts, at its edges: one that ends in this moment, and one that can't begin."""

import json
import threading
from pathlib import Path

import pytest

from agent.api.setup_view import ScanWanted
from agent.config import Config
from agent.core.clock import FakeClock
from agent.scanning import Scans, SearchedSite

CONFIG = Config.model_validate_json(json.dumps({"site": {"id": "a"}}))
SITE = SearchedSite(config=lambda: CONFIG, pending=list, has_central=lambda: True, testing=lambda: False)
#: Nothing is opened for it where the chargers' port is the gateway's own.
CHARGERS = ScanWanted(("ocpp",))


class LastMoment(FakeClock):
    """Holds a search between the end of its loop and its last word."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.go_on = threading.Event(), threading.Event()

    def now_us(self) -> int:
        if threading.current_thread() is not threading.main_thread():
            self.here.set()
            self.go_on.wait()
        return super().now_us()


def test_a_search_that_has_just_ended_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = LastMoment()
    scans = Scans(Path("site.yaml"), clock, SITE)
    scans.start(CHARGERS)
    clock.here.wait()
    monkeypatch.setattr("agent.scanning.END_S", 0.0)
    assert scans.cancel(), "it has not said its last word"
    clock.go_on.set()
    monkeypatch.setattr("agent.scanning.END_S", None)
    scans.cancel()


def test_a_search_that_could_not_begin_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = Scans(Path("site.yaml"), FakeClock(), SITE)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            scans.start(CHARGERS)
    assert not scans.running
    assert scans.status().state == "idle"
