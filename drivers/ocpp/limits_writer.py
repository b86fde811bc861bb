"""How this charger takes charging profiles: its unit, its stack levels, and what it says is in force.

Rules of this file:

1. What the model's profile says stands; the rest is what the charger said of itself, and what it accepted before, kept
   over restarts (note ``ocpp.limits``, for this vendor, model and firmware).
2. Until a profile was accepted, a refused one is tried in the other unit and at stack level 0 (ABB knows no other).
3. GetCompositeSchedule is asked while a transaction runs only: without one chargers answer with anything. An answer
   without a limit says nothing; a charger that can't answer is asked no more on this connection.
"""

from collections.abc import Iterator, Mapping

from agent.core.clock import Clock
from agent.core.errors import BadData, CommandRejected, NoAnswer, Refusal
from agent.core.model import Number
from drivers.ocpp.limits_profiles import Ending, Profile, Purpose, Unit, amperes, profile_of, set_payload
from drivers.ocpp.ports import ChargerState, Payload

WHOLE = 0
COMPOSITE_S = 60
COMPOSITE_TIMEOUT_S = 10.0
NOTE = "limits"


class ProfileWriter:
    """Sets profiles on one charger, one at a time: whoever calls holds the lock."""

    def __init__(self, state: ChargerState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._proven = False
        self._no_composite = False

    def connected(self) -> None:
        """A new connection: what it could not do before may have been the connection."""
        self._proven = self._no_composite = False

    @property
    def whole_only(self) -> bool:
        """Whether it takes limits for the charger as a whole only."""
        return self._state.quirks.purpose == "ChargePointMaxProfile"

    @property
    def level(self) -> int:
        """The stack level of limits."""
        level = self._state.quirks.stack_level
        told = self._known().get("max_level")
        return min(level, told) if isinstance(told, int) and told >= 0 else level

    @property
    def unit(self) -> Unit:
        """In what it counts."""
        wanted = self._state.quirks.rate_unit
        if wanted == "auto":
            return "W" if self._known().get("unit") == "W" else "A"
        return wanted

    def ending(self, purpose: Purpose = "TxDefaultProfile", level: int | None = None) -> Ending:
        """How a limit ends by itself; ``none``: it does not."""
        quirks = self._state.quirks
        below = (self.level if level is None else level) > 0
        wanted: Ending = ("valid_to" if below else "periods") if quirks.validity == "auto" else quirks.validity
        if wanted == "periods" and self._known().get("max_periods") == 1:
            wanted = "valid_to" if below else "none"
        if quirks.profile_kind == "Relative" and wanted != "none":  # its seconds count from the session's start
            return "valid_to" if below else "none"
        if purpose == "TxProfile" and wanted == "valid_to":
            return "duration"
        return wanted

    async def learn(self, **facts: object) -> None:
        """What the charger says of itself (``unit``, ``max_level``, ``max_periods``); kept over restarts."""
        known = {**self._known(), **{name: fact for name, fact in facts.items() if fact is not None}}
        if known != self._known():
            await self._state.remember(NOTE, {"of": self._model(), **known})

    async def limit(self, outlet: int, limit_a: Number, safe_a: Number, transaction: str | None = None) -> None:
        """Set a limit that ends by itself; with ``transaction`` that transaction's. Raises as ``Commandable.set``."""
        whole = outlet == WHOLE or self.whole_only
        purpose: Purpose = "MaxProfile" if whole else "TxDefaultProfile" if transaction is None else "TxProfile"
        await self._set(purpose, WHOLE if whole else outlet, limit_a, safe_a=safe_a, transaction=transaction)

    async def safe(self, outlet: int, limit_a: Number) -> None:
        """Set the safe limit, which has no end. Raises as ``Commandable.set``."""
        purpose: Purpose = "MaxProfile" if self.whole_only else "TxDefaultProfile"
        await self._set(purpose, WHOLE if self.whole_only else outlet, limit_a, safe=True)

    def session(self, outlet: int, limit_a: Number) -> Payload:
        """The TxProfile that a remote start carries: for that session, whatever becomes of us."""
        quirks, settings = self._state.quirks, self._state.settings
        profile = Profile(
            purpose="TxProfile",
            outlet=outlet,
            level=self.level,
            limit_a=limit_a,
            unit=self.unit,
            now_us=self._clock.now_us(),
            past_s=quirks.start_in_past_s,
            relative=True,
            phases=settings.phases,
            tell_phases=quirks.profile_phases,
        )
        return profile_of(profile, self._state.link.version)

    async def in_force(self, outlet: int) -> Number | None:
        """What the charger says that it may draw now, A per phase; None: it does not say. Raises ``Unavailable``."""
        quirks = self._state.quirks
        if not quirks.composite or self._no_composite or "GetCompositeSchedule" in quirks.skip:
            return None
        link = self._state.link
        key = "evseId" if link.version.two else "connectorId"
        asked = {key: outlet, "duration": COMPOSITE_S, "chargingRateUnit": self.unit}
        try:
            answer = await link.call("GetCompositeSchedule", asked, COMPOSITE_TIMEOUT_S)
        except (CommandRejected, BadData, NoAnswer):
            self._no_composite = True
            return None
        schedule = answer.get("schedule" if link.version.two else "chargingSchedule")
        return _first_limit(schedule, self._state.settings.phases)

    async def _set(
        self,
        purpose: Purpose,
        outlet: int,
        limit_a: Number,
        *,
        safe: bool = False,
        safe_a: Number = 0,
        transaction: str | None = None,
    ) -> None:
        quirks, settings = self._state.quirks, self._state.settings
        if "SetChargingProfile" in quirks.skip:
            raise CommandRejected(self._op(outlet), Refusal.NOT_CAPABLE, "this model takes no charging profiles")
        refused: CommandRejected | None = None
        for unit, level in self._ways():
            profile = Profile(
                purpose=purpose,
                outlet=outlet,
                level=max(0, level - 1) if safe else level,
                limit_a=limit_a,
                unit=unit,
                now_us=self._clock.now_us(),
                ending="none" if safe else self.ending(purpose, level),
                safe_a=safe_a,
                safe=safe and level > 0,
                past_s=quirks.start_in_past_s,
                relative=quirks.profile_kind == "Relative",
                phases=settings.phases,
                tell_phases=quirks.profile_phases,
                transaction=transaction,
            )
            try:
                await self._ask(profile)
            except CommandRejected as error:
                refused = refused or error
                continue
            if purpose != "TxProfile":
                self._proven = True
                await self._found(unit, level)
            return
        if refused is not None:
            raise refused

    def _ways(self) -> Iterator[tuple[Unit, int]]:
        """In which unit and at which level to try."""
        yield self.unit, self.level
        if self._proven:
            return
        units: tuple[Unit, ...] = (self.unit,)
        if self._state.quirks.rate_unit == "auto":
            units = ("A", "W") if self.unit == "A" else ("W", "A")
        for level in sorted({self.level, 0}, reverse=True):
            for unit in units:
                if (unit, level) != (self.unit, self.level):
                    yield unit, level

    async def _found(self, unit: Unit, level: int) -> None:
        if (unit, level) != (self.unit, self.level):
            await self.learn(unit=unit, max_level=level)

    async def _ask(self, profile: Profile) -> None:
        link = self._state.link
        answer = await link.call("SetChargingProfile", set_payload(profile, link.version))
        status = answer.get("status")
        if status != "Accepted":
            refusal = Refusal.NOT_CAPABLE if status == "NotSupported" else Refusal.DEVICE_REFUSED
            what = f"{profile.purpose} of {profile.limit_a:g} A at stack level {profile.level}"
            raise CommandRejected(self._op(profile.outlet), refusal, f"it answered {status} to a {what}")

    def _op(self, outlet: int) -> str:
        return f"limit {self._state.settings.device}" + (f" outlet {outlet}" if outlet else "")

    def _known(self) -> Mapping[str, object]:
        note = self._state.remembered(NOTE)
        if note is None or note.get("of") != self._model():
            return {}
        return {name: value for name, value in note.items() if name != "of"}

    def _model(self) -> str:
        return fingerprint(self._state)


def fingerprint(state: ChargerState) -> str:
    """Of which vendor, model and firmware a fact is true; empty before the first boot."""
    boot = state.boot
    return "" if boot is None else f"{boot.vendor}|{boot.model}|{boot.firmware}"


def _first_limit(schedule: object, phases: int) -> Number | None:
    """The limit now of a composite schedule; None where it has none, or its shape is another one."""
    if not isinstance(schedule, Mapping):
        return None
    periods = schedule.get("chargingSchedulePeriod")
    if not isinstance(periods, list) or not periods or not isinstance(periods[0], Mapping):
        return None
    limit, unit = periods[0].get("limit"), schedule.get("chargingRateUnit", "A")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not isinstance(unit, str):
        return None
    return amperes(limit, unit, phases)
