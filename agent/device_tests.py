"""Reading a device once, to see whether it works: one that is not saved yet, or one that runs.

Rules of this file:

1. What is not saved is built exactly as the configuration would build it, and read by its own driver; nothing of it is
   stored, and nothing is written to it (drivers write with the first command only).
2. No port is opened twice. An entry whose wire a device has already is refused; a device that runs is asked through the
   driver that runs (``Supervisor.try_now``), and what comes is seen in the hub.
3. A charger calls us: an entry is tested by whether it waits at our port now, a device that runs by a Heartbeat and its
   meter values, which it is told to send (TriggerMessage).
4. Each test is bounded, and only one goes on at a time, and none beside a search for devices.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.api.setup_view import OccupiedError, Trial
from agent.api.view import DeviceInfo, PendingCharger
from agent.config import CanDevice, Config, Device, OcppDevice, SerialMeterDevice, read_config_text
from agent.core.clock import Clock
from agent.core.errors import AgentError, ConfigError
from agent.core.model import Signal
from agent.core.ports import Latest, Operable
from agent.device_probe import LOOK_S, MISSES, SETTLE_S, SILENT, Probe, answered
from agent.devices import Preparer, plan_all
from agent.pipeline.health import Health
from agent.scan_targets import addresses_of, configured_in
from agent.site_check import SiteCheck
from agent.site_editor import SiteEditor
from agent.yamlfile import Json

#: How long the first value may take: of what is asked, of meters that speak by themselves, of readouts at 300 bit/s,
#: of buses, and of chargers that were told to send something.
ASKED_S, HEARD_S, READOUT_S, CAN_S, TOLD_S = 12.0, 12.5, 45.0, 8.0, 5.0
TRIGGER_S = 10.0


@dataclass(frozen=True, slots=True)
class TestedSite:
    """What a test looks at of the gateway that runs."""

    config: Callable[[], Config]
    devices: Callable[[], Sequence[DeviceInfo]]
    signals: Callable[[], Sequence[Signal]]
    latest: Callable[[Sequence[Signal]], Sequence[Latest]]
    try_now: Callable[[str], None]
    operable: Callable[[str], Operable | None]
    pending: Callable[[], Sequence[PendingCharger]]
    url: Callable[[], str]  #: where chargers call, without their ids; empty: nowhere yet
    searching: Callable[[], bool]


class DeviceTests:
    """``DeviceTests`` of ``agent/api/setup_view.py``."""

    def __init__(self, path: Path, clock: Clock, editor: SiteEditor, check: SiteCheck, site: TestedSite) -> None:
        self._path = path
        self._clock = clock
        self._editor = editor
        self._check = check
        self._site = site
        self._busy = False

    @property
    def running(self) -> bool:
        """Whether one goes on."""
        return self._busy

    # --- what is not saved ---

    async def entry(self, entry: Mapping[str, object]) -> Trial:
        """Read a device that is not configured. Raises ``ConfigError`` and ``OccupiedError``."""
        there = {device.id for device in self._site.config().devices}
        replaces = str(entry["id"]) if entry.get("id") in there else ""
        async with self._alone():
            device = await asyncio.to_thread(self._read, entry, replaces)
            if isinstance(device, OcppDevice):
                return self._calls(device)
            await asyncio.to_thread(self._free, device)
            prepare = Preparer(self._path.resolve().parent)
            prepared = await asyncio.to_thread(prepare.one, device)
            plans = await asyncio.to_thread(plan_all, [prepared])
            probe = Probe(self._clock, plans.specs)
            ((listener, _),) = plans.wires(probe.ids, self._clock)
            return await probe.read(listener, device.driver, _limit_s(device))

    def _read(self, entry: Mapping[str, object], replaces: str) -> Device:
        """The device as the configuration would have it. Raises ``FindingsError``."""
        self._check.refuse_wrong(entry, replaces)
        text, index = self._editor.draft(entry, replaces)
        reading = read_config_text(text, str(self._path))
        if reading.config is None:
            raise ConfigError("test", "; ".join(map(str, reading.problems)))
        return reading.config.devices[index]

    def _free(self, device: Device) -> None:
        """Raises ``OccupiedError`` when a device that runs has the wire."""
        row: Json = device.model_dump(mode="json")
        wanted = configured_in({"devices": [row]}, addresses_of)
        for other in self._site.config().devices:
            other_row: Json = other.model_dump(mode="json")
            used = configured_in({"devices": [other_row]}, addresses_of)
            same_bus = _same_bus(device, other)
            if used.nodes & wanted.nodes or used.addresses & wanted.addresses or same_bus:
                raise _occupied(other)

    def _calls(self, device: OcppDevice) -> Trial:
        """Whether a charger waits for us to let it in. Raises ``OccupiedError`` for one that was let in."""
        identity = device.charge_point_id
        waiting = next((one for one in self._site.pending() if one.identity == identity), None)
        for other in self._site.config().devices:
            if waiting is None and isinstance(other, OcppDevice) and other.charge_point_id == identity:
                raise _occupied(other)
        if waiting is not None and waiting.connected:
            said = " ".join(str(waiting.boot[key]) for key in ("vendor", "model") if waiting.boot.get(key))
            told = f": {said}" if said else ""
            return Trial(ok=True, text=f"it calls from {waiting.address} and speaks {waiting.version}{told}")
        url = self._site.url()
        where = f"{url}/{identity}" if url else "this gateway: its port for chargers opens when the first one is saved"
        if waiting is not None:
            text = f"it called from {waiting.address} and is not here now: {waiting.reason}"
            return Trial(ok=False, text=text, hint=f"chargers try again after some minutes; it calls {where}")
        hint = f"enter as its central system: {where}; chargers try again after some minutes only, or after a restart"
        return Trial(ok=False, text=f"no charger has called as {identity}", hint=hint)

    # --- what runs ---

    async def device(self, device: str) -> Trial:
        """Read a configured device through its running driver. Raises ``OccupiedError``."""
        configured = next((one for one in self._site.config().devices if one.id == device), None)
        if configured is None:
            raise OccupiedError("test", f"device {device} was just taken out of the configuration")
        async with self._alone():
            before = self._health(device)
            began_s = self._clock.monotonic_s()
            operable = self._site.operable(device)
            if operable is not None:
                failed = await self._trigger(operable)
                if failed is not None:
                    return self._done(failed, began_s)
            self._site.try_now(device)
            return self._done(await self._wait(configured, before, began_s), began_s)

    async def _trigger(self, charger: Operable) -> Trial | None:
        """Have a charger send something; why that was in vain, None: it answered."""
        for message in ("Heartbeat", "MeterValues"):
            try:
                async with asyncio.timeout(TRIGGER_S):
                    await charger.act("trigger", {"message": message})
            except TimeoutError:
                return Trial(ok=False, text=f"it did not answer within {TRIGGER_S:.0f} s", hint=SILENT["ocpp"])
            except AgentError as error:
                if message == "Heartbeat":
                    return Trial(ok=False, text=error.reason, hint=error.hint or SILENT["ocpp"])
        return None

    async def _wait(self, device: Device, before: "_Health", began_s: float) -> Trial:
        """Until it is heard, or seen to fail."""
        limit_s = _limit_s(device)
        while True:
            await self._clock.sleep_s(LOOK_S)
            since_s = self._clock.monotonic_s() - began_s
            now = self._health(device.id)
            if self._fresh(device.id, since_s) or now.answered_since(since_s):
                await self._clock.sleep_s(SETTLE_S)
                values = self._fresh(device.id, self._clock.monotonic_s() - began_s)
                return answered(values)
            if now.worse_than(before):
                return Trial(ok=False, text=now.error, hint=now.hint or SILENT[device.driver])
            if since_s >= limit_s:
                if isinstance(device, OcppDevice):
                    return Trial(ok=True, text="it answers; it sends no meter values now")
                text = f"nothing was heard of it in {limit_s:.0f} s"
                return Trial(ok=False, text=now.error or text, hint=now.hint or SILENT[device.driver])

    def _fresh(self, device: str, since_s: float) -> list[Latest]:
        """What was heard of it since then."""
        signals = [signal for signal in self._site.signals() if signal.device == device]
        found = self._site.latest(signals)
        return [one for one in found if one.value is not None and one.age_s is not None and one.age_s <= since_s]

    def _health(self, device: str) -> "_Health":
        info = next((one for one in self._site.devices() if one.id == device), None)
        if info is None or (info.unit is None and info.wire is None):
            return _Health(0, 0, "", "", None, gone=False)
        unit, wire = info.unit, info.wire
        said = unit or wire
        assert said is not None  # noqa: S101 - one of both is there
        return _Health(
            unit.misses if unit else 0,
            wire.restarts if wire else 0,
            said.last_error,
            said.hint,
            unit.last_answer_age_s if unit else None,
            gone=wire is not None and wire.state is Health.OFFLINE and wire.next_try_s is not None,
        )

    # --- both ---

    def _done(self, tested: Trial, began_s: float) -> Trial:
        seconds = round(self._clock.monotonic_s() - began_s, 2)
        return Trial(tested.ok, tested.text, tested.hint, tested.values, seconds)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Raises ``OccupiedError``."""
        if self._busy:
            raise OccupiedError("test", "another device is being tested", "try again in some seconds")
        if self._site.searching():
            raise OccupiedError(
                "test", "devices are being searched for", "wait for the end of the search, or cancel it"
            )
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


@dataclass(frozen=True, slots=True)
class _Health:
    """What tells a failure that is newer than the test from one that is older."""

    misses: int
    restarts: int
    error: str
    hint: str
    answered_age_s: float | None
    gone: bool  #: its wire waits for its next try

    def answered_since(self, since_s: float) -> bool:
        return self.answered_age_s is not None and self.answered_age_s <= since_s

    def worse_than(self, before: "_Health") -> bool:
        """Whether it was tried meanwhile, in vain."""
        if self.gone and (self.restarts > before.restarts or not before.gone):
            return True
        return self.misses >= before.misses + (1 if before.misses >= MISSES else MISSES)


def _limit_s(device: Device) -> float:
    """How long the first value may take."""
    if isinstance(device, CanDevice):
        return CAN_S
    if isinstance(device, SerialMeterDevice):
        if device.protocol == "d0" and device.request:
            return READOUT_S
        return ASKED_S if device.protocol == "mbus" else HEARD_S
    return TOLD_S if isinstance(device, OcppDevice) else ASKED_S


def _same_bus(device: Device, other: Device) -> bool:
    """Whether both are on a CAN bus that only one can have open; SocketCAN gives each its own socket."""
    if not isinstance(device, CanDevice) or not isinstance(other, CanDevice) or device.interface == "socketcan":
        return False
    return (device.interface, device.channel) == (other.interface, other.channel)


def _occupied(by: Device) -> OccupiedError:
    hint = "save it, then test it: it is asked through the connection that is there"
    return OccupiedError("test", f"device {by.id} has this wire, which is opened only once", hint)
