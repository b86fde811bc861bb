"""What is known of each outlet of a charger, and the signals that show it.

Rules of this file:

1. The status is 1.6's (edition 2, 7.7). A 2.x connector only says Occupied: the state of its transaction says the
   rest, and outweighs Available too, which some chargers say while they charge. Of several connectors of an EVSE the
   one in use counts; connector 0 of a charger with one outlet only when it is out of order, or nothing else is told.
2. Plugged is what the status says: not with Available and Reserved, unknown with Unavailable and Faulted, otherwise
   yes; also while Finishing, which some chargers say of a vehicle that has not begun.
3. Samples make gauges. One that was not sampled again within the interval and 10 s more becomes unknown; registers stay
   until the charger is silent. Missing is never 0, with one exception: where no session runs and the status says that
   no energy flows (Available, Preparing, Finishing, Reserved, Unavailable), the power is 0.
4. A session that runs while the outlet says Available, and of which nothing is heard, is given up after a while: its
   end may still wait in the charger's queue.
5. Ages are monotonic.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.core.clock import Clock
from agent.core.model import Kind, Number, Session
from agent.core.points import CHARGER_STATUS, find_point
from drivers.codec.ocpp201 import status_of
from drivers.codec.ocpp_model import Status
from drivers.ocpp.board import Board

#: What a charger may be late with a sample.
LATE_S = 10.0
#: The longest interval of samples that is believed to be one: clock-aligned values come each quarter of an hour.
MAX_INTERVAL_S = 3600.0
#: How long the end of a session may take to arrive after the vehicle was unplugged: some tries of 1.6's retries.
ABANDONED_S = 300.0
DURATION_EVERY_S = 10.0

_INDEX = {label: index for index, label in enumerate(CHARGER_STATUS)}
_UNPLUGGED = frozenset({"Available", "Reserved"})
#: Charging states before a vehicle may charge, and after.
_NO_CHARGE = frozenset({"EVConnected", "Idle"})
_UNSURE = frozenset({"Unavailable", "Faulted"})
_NO_FLOW = frozenset({"Available", "Preparing", "Finishing", "Reserved", "Unavailable"})
#: Which of several connectors' statuses counts.
_FIRST = (
    "Charging",
    "SuspendedEVSE",
    "SuspendedEV",
    "Preparing",
    "Finishing",
    "Faulted",
    "Reserved",
    "Available",
    "Unavailable",
)

#: The signals that each outlet has.
PLANNED = (
    "charger_status",
    "plugged",
    "charging",
    "charging_enabled",
    "current_limit_a",
    "power_w",
    "energy_import_wh",
    "session_energy_wh",
    "session_duration_s",
)
_SESSION = ("session_energy_wh", "session_duration_s")


def suffix(outlets: int, outlet: int) -> str:
    """What stands behind the points of an outlet, in a charger with so many; 0 is the charger as a whole."""
    return "" if outlets == 1 or outlet == 0 else f".{outlet}"


@dataclass(frozen=True, slots=True)
class Wrong:
    """What an outlet says is wrong with it."""

    error: str
    vendor_error: str = ""
    info: str = ""


class Outlet:
    """One outlet, or (number 0) the charger as a whole."""

    def __init__(self, number: int, ending: str, board: Board, clock: Clock, sample_s: float) -> None:
        self.number = number
        self._ending = ending
        self._board = board
        self._clock = clock
        self._sample_s = sample_s
        self._connectors: dict[int, Status] = {}
        self._followed: str | None = None  #: see ``follow``
        self._state = ""
        self._over = False  #: its transaction (2.x) or who paid has ended it, and the vehicle was not seen to leave
        self._session: Session | None = None
        self._session_s = 0.0  #: its age at ``_session_at_s``
        self._session_at_s = 0.0
        self._shown_s = 0.0
        self._later = False
        self._seen: dict[str, float] = {}  #: gauges from samples -> when last sampled
        self._gauges: dict[str, bool] = {}  #: what the names of samples mean, so that it is looked up once
        self._gap_s = 0.0
        self._sampled_s: float | None = None
        self._unplugged_s: float | None = None  #: since when a session runs unplugged and unheard

    @property
    def status(self) -> str | None:
        """A label of ``CHARGER_STATUS``; None: not told, or not understood."""
        told = {one.status for number, one in self._connectors.items() if number}
        label = next((one for one in _FIRST if one in told), None)
        whole = self._connectors.get(0)
        if whole is not None and (not told or (label in {None, "Available"} and whole.status in _UNSURE)):
            label = whole.status
        if label is None:
            label = self._followed
        if self._state or self._over:
            return status_of(label or "", self._state if self._running else "", ended=self._over)
        return label

    @property
    def fault(self) -> Wrong | None:
        """What it says is wrong; None: nothing."""
        for one in self._connectors.values():
            if one.error or one.status == "Faulted":
                return Wrong(one.error or "Faulted", one.vendor_error, one.info)
        return None

    @property
    def _running(self) -> bool:
        return self._session is not None and self._session.running

    def follow(self, outlets: Iterable[str | None]) -> None:
        """The charger as a whole while it says nothing of itself, as with 2.x: what its outlets' labels come to.

        As OCPP 1.6 edition 2, 4.9, has it for connector 0: Available, Unavailable or Faulted.
        """
        known = {label for label in outlets if label is not None}
        followed = "Available" if known else None
        if known and known <= {"Faulted", "Unavailable"}:
            followed = "Faulted" if known == {"Faulted"} else "Unavailable"
        if followed != self._followed:
            self._followed = followed
            self._show()

    def told(self, status: Status) -> None:
        """A StatusNotification."""
        self._connectors[status.connector] = status
        if status.status == "Available":
            self._over = False
        self._show()

    def state(self, charging_state: str, *, stopped: bool | None = None) -> None:
        """The chargingState of its transaction (2.x); empty: it has ended.

        ``stopped``: that it was told to stop (True) or that it may charge (False); otherwise it is as before.
        """
        if stopped is None:
            stopped = self._over if charging_state in _NO_CHARGE else not charging_state
        self._state, self._over = charging_state, stopped
        self._show()

    def session(self, session: Session) -> None:
        """A session of this outlet was stored, or one that was this outlet's until another was told."""
        shown = self._session
        if session.outlet != self.number:
            if shown is not None and shown.id == session.id:
                self._session = None
                self._show()
            return
        if not session.running and (shown is None or shown.id != session.id):
            return
        if session.running and shown is not None and shown.running and shown.start_us > session.start_us:
            return
        now_s = self._clock.monotonic_s()
        if shown is None or shown.id != session.id:
            self._session_s = max(self._clock.now_us() - session.start_us, 0) / 1e6
            self._session_at_s = now_s
        if not session.running and session.stop_us is not None:
            self._session_s = (session.stop_us - session.start_us) / 1e6
            self._session_at_s = now_s
            self._state = ""
        elif shown is None or shown.id != session.id:
            self._over = False
        self._session = session
        if "arrived_us" in session.data:
            self._later = True  # a queue of thousands is emptied without showing each of them
        elif shown is not None and shown.id == session.id and shown.running and session.running:
            self._show_session()
        else:
            self._show()

    def heard(self) -> None:
        """Something came that is about the running session."""
        if self._unplugged_s is not None:
            self._unplugged_s = self._clock.monotonic_s()

    def abandoned(self) -> Session | None:
        """The session that is to be given up now (rule 4)."""
        now_s = self._clock.monotonic_s()
        if self._unplugged_s is None or now_s - self._unplugged_s < ABANDONED_S or not self._running:
            return None
        return self._session

    async def sampled(self, values: Mapping[str, Number]) -> None:
        """Points of a sample that was taken just now."""
        named = {point + self._ending: value for point, value in values.items()}
        await self._board.learn(named)
        now_s = self._clock.monotonic_s()
        if self._sampled_s is not None:
            gap_s = now_s - self._sampled_s
            if 0 < gap_s <= MAX_INTERVAL_S:
                self._gap_s = gap_s
        self._sampled_s = now_s
        for name in named:
            if name not in self._gauges:
                self._gauges[name] = _is_gauge(name)
            if self._gauges[name]:
                self._seen[name] = now_s
        self._board.show(named)

    def tick(self) -> None:
        """Let become unknown what was not sampled again; each second or so."""
        now_s = self._clock.monotonic_s()
        limit_s = max(self._sample_s, self._gap_s) + LATE_S
        late = [name for name, seen_s in self._seen.items() if now_s - seen_s > limit_s]
        if late:
            for name in late:
                del self._seen[name]
            self._board.lose(late)
            self._show_power()
        if self._later:
            self._show()
        elif self._running and now_s - self._shown_s >= DURATION_EVERY_S:
            self._show_session()

    def connected(self) -> None:
        """A connection begins: what the charger says of itself comes anew."""
        self._unplugged_s = None
        self._gap_s, self._sampled_s = 0.0, None

    def silent(self) -> None:
        """Nobody knows anything of it any more but its sessions."""
        self._connectors.clear()
        self._followed = None
        self._seen.clear()
        self._state, self._over = "", False
        self._unplugged_s = None

    def _show(self) -> None:
        label, self._later = self.status, False
        shown = {"charger_status" + self._ending: None if label is None else _INDEX[label]}
        if self.number:  # of the charger as a whole they would say nothing: "available" is also one that charges
            shown["plugged" + self._ending] = self._plugged(label)
            shown["charging" + self._ending] = None if label is None else int(label == "Charging")
        self._board.show(shown)
        if label != "Available" or not self._running:
            self._unplugged_s = None
        elif self._unplugged_s is None:
            self._unplugged_s = self._clock.monotonic_s()
        self._show_session()
        self._show_power()

    def _plugged(self, label: str | None) -> int | None:
        if label is None or label in _UNSURE:
            return None
        if self._state == "Idle" and self._running:
            return 0
        return int(label not in _UNPLUGGED)

    def _show_power(self) -> None:
        name = "power_w" + self._ending
        no_flow = self.status in _NO_FLOW and not self._running
        if no_flow:  # what was sampled while energy flowed says nothing any more
            flows = [one for one in self._seen if one.startswith(("power_", "current_"))]
            for one in flows:
                del self._seen[one]
            self._board.lose([one for one in flows if one != name])
        if name not in self._seen and self.number > 0:
            self._board.show({name: 0 if no_flow else None})

    def _show_session(self) -> None:
        session = self._session
        if session is None or (not session.running and self.status in {"Available", None}):
            self._board.lose([name + self._ending for name in _SESSION])
            return
        now_s = self._clock.monotonic_s()
        self._shown_s = now_s
        age_s = self._session_s + (now_s - self._session_at_s if session.running else 0)
        self._board.show(
            {"session_energy_wh" + self._ending: session.energy_wh, "session_duration_s" + self._ending: int(age_s)}
        )


def _is_gauge(name: str) -> bool:
    point = find_point(name.partition(".")[0])
    return point is None or point.kind is not Kind.COUNTER
