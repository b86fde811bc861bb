"""What is done with a charger after it has booted, before it is used.

Rules of this file:

1. The safe limit first: from then on it may be left alone. Then what was set before the connection was lost.
2. Nothing is set that is set already; a key that the charger does not have or that is read-only is left alone. Nothing
   restarts the charger: that it wants to be is told.
3. A step that fails is told and ends none of the others. Two in a row without an answer end the set-up: some chargers
   answer no question until they connect anew (mobilityhouse/ocpp 626), so the connection is closed, at most once in
   ``CLOSE_AGAIN_S``.
4. Availability is never touched: some models hang on it (evcc 25072), and out of service may be somebody's wish.
5. What came of it is told when it is not what it was the time before.
"""

from collections.abc import Awaitable, Callable, Mapping

from agent.core.clock import Clock
from agent.core.errors import AgentError, BadData, CommandRejected, NoAnswer, Refusal, Unavailable
from drivers.ocpp.limits import Limits
from drivers.ocpp.operations import Operations
from drivers.ocpp.ports import ChargerState
from drivers.ocpp.setup_configuration import SET, Configuration, clean, configuration, csv, same
from drivers.ocpp.setup_measurands import ENERGY, Measurands

SILENT_STEPS = 2
CLOSE_AGAIN_S = 600.0
GOING_AWAY = 1001
NOTE = "setup"


async def set_up(state: ChargerState, limits: Limits, operations: Operations, clock: Clock) -> float | None:
    """Bring a charger into the state that we count on; each step that fails is told, none ends the others.

    Runs after each connection's boot (or, of a charger that does not boot, some seconds after it connected), in a task
    of the charger's that ends with the connection. Never raises but ``CancelledError``. Returns in how many seconds it
    is to run again on the same connection; None: not again.
    """
    return await _SetUp(state, limits, operations, clock).run()


class _SetUp:
    """One run."""

    def __init__(self, state: ChargerState, limits: Limits, operations: Operations, clock: Clock) -> None:
        self._state = state
        self._limits = limits
        self._operations = operations
        self._clock = clock
        self._failed: dict[str, str] = {}
        self._reboot: list[str] = []
        self._silent = 0

    async def run(self) -> float | None:
        try:
            conf = configuration(self._state, self._operations)
            await self._step("safe limit", self._limits.install_safe)
            await self._step("limits", self._limits.restore, asks=False)
            await self._step("configuration", conf.read)
            await self._learn(conf)
            for name, value in self._wanted(conf).items():
                await self._step(name, lambda name=name, value=value: self._put(conf, name, value))  # type: ignore[misc]
            await self._trigger("StatusNotification")
            measurands = Measurands(self._state, conf, self._clock)
            probed, self._operations.probed = self._operations.probed, self._state.boot
            await self._step("measurands", lambda: measurands.find(probed), asks=False)
            if measurands.left_out:
                self._failed.setdefault("measurands", f"it fell over {', '.join(measurands.left_out)}")
            await self._trigger("MeterValues")
        except _SilentError:
            await self._close()
            return None
        except Unavailable:
            return None  # it is gone; with the next connection all is done again
        await self._tell()
        await measurands.proved()
        return measurands.again_s()

    async def _step(self, name: str, do: Callable[[], Awaitable[None]], *, asks: bool = True) -> None:
        """Do it. ``asks``: that it went well means that the charger answered something.

        Raises ``Unavailable`` when the connection is gone, ``_SilentError`` when it answers nothing.
        """
        try:
            await do()
        except NoAnswer as error:
            self._failed[name] = error.reason
            self._silent += 1
            if self._silent >= SILENT_STEPS:
                raise _SilentError from error
            return
        except Unavailable:
            raise
        except (CommandRejected, BadData) as error:
            self._failed[name] = error.reason
            asks = True
        if asks:
            self._silent = 0

    async def _learn(self, conf: Configuration) -> None:
        """What its configuration says about charging profiles and outlets."""
        names = conf.names
        units = {one.lower() for one in csv(conf.value(names.rate_unit))}
        amperes, watts = units & {"current", "a"}, units & {"power", "w"}
        await self._limits.learn(
            unit="A" if amperes else "W" if watts else None,
            max_level=_number(conf.value(names.max_level)),
            max_periods=_number(conf.value(names.max_periods)),
        )
        told = _number(conf.value(names.connectors)) if names.connectors else None
        if told is not None and told != self._state.settings.outlets:
            self._failed["connectors"] = f"it has {told}, configured are {self._state.settings.outlets}"

    def _wanted(self, conf: Configuration) -> Mapping[str, str]:
        """What is to be set otherwise than it is."""
        names, central, quirks = conf.names, self._state.central, self._state.quirks
        wanted = {
            names.sample: str(central.sample_s),
            names.heartbeat: str(central.heartbeat_s),
            names.ping: str(round(quirks.ping_s or central.ping_s)),
        }
        if central.id_tags == "known":  # a tag that we do not know may not charge, whether we are there or not
            wanted |= {names.stop_invalid: "true", names.offline_unknown: "false"}
        if not conf.known:  # without meter values a charger is of no use
            wanted = {names.sample: wanted[names.sample]}
        for name in names.energy_too:
            has = csv(conf.value(name))
            if ENERGY not in has:
                wanted[name] = ",".join([*has, ENERGY])
        return {name: value for name, value in wanted.items() if not self._stands(conf, name, value)}

    @staticmethod
    def _stands(conf: Configuration, name: str, value: str) -> bool:
        return conf.fixed(name) or same(clean(conf.value(name)), value)

    async def _put(self, conf: Configuration, name: str, value: str) -> None:
        status = await conf.put(name, value)
        if status == "RebootRequired":
            self._reboot.append(name)
        if status not in SET:
            raise CommandRejected(f"set {name}", Refusal.DEVICE_REFUSED, f"it answered {status}")

    async def _trigger(self, message: str) -> None:
        """Ask for what it would send at its next change or sample only."""
        if "TriggerMessage" in self._state.quirks.skip:
            return
        each = self._state.quirks.trigger_outlet == "each" and not self._operations.triggers_whole
        for outlet in range(1, self._state.settings.outlets + 1) if each else (0,):
            await self._trigger_one(message, outlet)
            if self._silent and outlet:  # some answer for 0 only (evcc 16327)
                await self._trigger_one(message, 0)
                self._operations.triggers_whole = True
                return

    async def _trigger_one(self, message: str, outlet: int) -> None:
        args = {"message": message, "outlet": outlet}
        await self._step(f"{message} {outlet}", lambda: self._act("trigger", args))

    async def _act(self, action: str, args: Mapping[str, object]) -> None:
        await self._operations.act(action, args)

    async def _close(self) -> None:
        """Have it connect anew, which is all that helps such a charger."""
        now_s, before_s = self._clock.monotonic_s(), self._operations.closed_s
        await self._tell()
        if before_s is not None and now_s - before_s < CLOSE_AGAIN_S:
            return
        self._operations.closed_s = now_s
        self._operations.triggers_whole = False
        try:
            await self._state.link.close(GOING_AWAY, "answers no question")
        except AgentError:
            return  # it went by itself

    async def _tell(self) -> None:
        """Tell what is not as it was the time before."""
        before = self._state.remembered(NOTE) or {}
        now = {"failed": self._failed, "reboot_required": self._reboot, "failsafe": self._failsafe()}
        if dict(before) == now:
            return
        await self._state.remember(NOTE, now)
        if now["failsafe"] != before.get("failsafe", ""):
            self._state.tell("charger.no_failsafe", {"reason": now["failsafe"]})
        mismatch = self._failed.get("connectors", "")
        failed_before = before.get("failed")
        if mismatch and mismatch != (failed_before.get("connectors") if isinstance(failed_before, Mapping) else ""):
            self._state.tell("charger.mismatch", {"reason": mismatch})
        self._state.tell("charger.set_up", {"failed": self._failed, "reboot_required": self._reboot})

    def _failsafe(self) -> str:
        """Why it would not fall to its safe limit without us; empty when it would."""
        if "safe limit" in self._failed:
            return self._failed["safe limit"]
        return "" if self._limits.failsafe else "it takes one charging profile of one period only"


class _SilentError(Exception):
    """It answers nothing."""


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None
