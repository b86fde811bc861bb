"""The API over a real store with posted devices, in process: what clients post, and what is shown of it."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from agent.api.times import iso
from agent.api.users import Role
from agent.consumption import Consumption
from agent.core.model import Batch, Signal
from agent.insight.service import Insight, InsightSettings
from agent.pipeline.columns import Rows, Spots
from agent.pipeline.flow import Flow
from agent.pipeline.gate import Gate
from agent.posted import PostedDevices
from agent.store.db import Store
from agent.store.settings import DAY_S, StoreSettings
from tests.fake_view import START_US, FakeView
from tests.unit.api_rig import Json, Rig

NOON_US = 1_795_003_200_000_000  # 2026-11-18T12:00:00Z
SECOND_US, DAY_US = 1_000_000, 86_400_000_000
WAIT_S = 60.0
SETTINGS = StoreSettings(raw_age_s=30 * DAY_S)
VIN = "WVWZZZ1KZAW000001"


class Seen:
    """A watcher of the pipeline: the rows that rules see, as (signal id, time)."""

    def __init__(self) -> None:
        self.rows_seen: list[tuple[int, int]] = []

    def rows(self, rows: Rows, now_s: float) -> None:
        assert now_s > 0
        self.rows_seen += zip(rows.places.tolist(), rows.times_us.tolist(), strict=True)

    def touched(self, spots: Spots, now_s: float) -> None:
        raise AssertionError((spots, now_s))


class PostedSite:
    """A gateway with one configured battery and a meter (``FakeView``), to which clients post."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rig = Rig(folder)
        self.rig.clock.jump_wall((NOON_US - START_US) / 1e6)
        self.clock = self.rig.clock
        self.open()

    def open(self) -> None:
        """A new process."""
        self.store = Store.open(self.folder / "enlace.db", self.clock, SETTINGS)
        self.view = self.rig.view = FakeView(self.clock)
        self.seen = Seen()
        flow = Flow(self.clock, Gate(), self.view.hub, self.store.append)
        flow.watcher = self.seen
        self.own = {device.id for device in self.view.devices()}
        # Their numbers are the first ones, so that none is given twice.
        self.store.assign(self.view.known)
        self.posted = PostedDevices(self.clock, self.store, flow, self.view.hub, lambda: self.own, self._learn)
        self.view.known = [*self.view.known, *self.posted.signals()]
        self.insight = Insight(self.store, self.clock, InsightSettings())
        self.rig.ports |= {"posted": self.posted, "insight": self.insight, "energy": self.consumption()}
        self.rig.restart()

    def consumption(self) -> Consumption:
        """What takes consumption, as a new process has it."""
        return Consumption(self.clock, self.store, self.posted, self.insight.changed)

    def restart(self) -> None:
        """The process ends and begins anew."""
        self.store.close()
        self.open()

    def _learn(self, signals: Sequence[Signal]) -> None:
        self.view.known = [*self.view.known, *signals]

    def post(self, *rows: object, path: str = "/api/telemetry", status: int = 200) -> Json:
        """Post rows and take the answer."""
        answer = self.rig.call("POST", path, Role.OPERATOR, json=list(rows))
        assert answer.status_code == status, answer.text
        body: Json = answer.json()
        return body

    def get(self, path: str, status: int = 200) -> Any:  # noqa: ANN401 - any JSON
        """What a viewer reads."""
        answer = self.rig.call("GET", path, Role.VIEWER)
        assert answer.status_code == status, answer.text
        return answer.json()

    def value(self, device: str, name: str) -> object:
        """The newest value that the hub has."""
        signal = self.posted.signal(device, name)
        assert signal is not None
        return self.view.hub.latest([signal])[0].value

    def stored(self, device: str, name: str) -> list[tuple[int, object]]:
        """All rows of a signal in the store, as (seconds after noon, value)."""
        ids = self.store.ids_of(device, name)
        rows = self.store.rows(ids, 0, 1 << 62)
        return [((t_us - NOON_US) // SECOND_US, value) for t_us, _, value in rows]

    def keep(self, batch: Batch) -> None:
        """Rows of configured devices, stored and shown."""
        self.view.hub.update(batch)
        self.store.append(batch)
        self.store.flush().result(WAIT_S)


@contextmanager
def posted_site(folder: Path) -> Iterator[PostedSite]:
    """One, closed at the end."""
    site = PostedSite(folder)
    try:
        yield site
    finally:
        with closing(site.store):
            pass


def at(seconds: float = 0.0) -> str:
    """So long after noon."""
    return iso(NOON_US + round(seconds * 1e6))


def row(seconds: float = 0.0, vin: str = VIN, **fields: object) -> Json:
    """A row of the battery monitor; without fields the state of charge alone."""
    return {"vin": vin, "ts": at(seconds), **(fields or {"soc": 80})}
