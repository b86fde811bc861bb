"""``/api/vehicles``: what posts telemetry, and the batteries of the site, in the words of the battery monitor.

A vehicle is a posted device, or a configured one that has a state of charge. What is read from history is read in a
thread, two at a time.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query

from agent.api.access import Routes
from agent.api.energy_routes import Reads
from agent.api.paging import Page, Time, needed, page_of, time_us
from agent.api.times import iso
from agent.api.users import Role
from agent.api.vehicle_bodies import (
    AlertOut,
    AnomalyPage,
    FindingOut,
    SummaryOut,
    VehicleLatestOut,
    VehicleOut,
    VehiclePage,
)
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock
from agent.core.model import Signal
from agent.core.ports import Latest
from agent.insight.service import SUMMARY_POINTS
from agent.insight.statistics import DeviceLatest, device_latest

MAX_PAGE_SIZE = 200
_DAY_US = 86_400_000_000
_SOC = "soc_pct"

Vin = Annotated[str, Path(min_length=1, max_length=64)]
VinFilter = Annotated[str | None, Query(min_length=1, max_length=64, description="part of the VIN or name")]
Size = Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE, description="items on a page")]
SignalFilter = Annotated[str | None, Query(min_length=1, max_length=200, description="part of the signal's name")]


def add_vehicle_routes(routes: Routes, view: GatewayView, ports: SitePorts, clock: Clock) -> None:
    """Add the routes."""
    one = _VehicleRoutes(view, ports, clock)
    tag: dict[str, Any] = {"tags": ["vehicles"]}
    path = "/api/vehicles/{vin}"
    routes.add("GET", "/api/vehicles", one.index, Role.VIEWER, summary="List vehicles and batteries", **tag)
    routes.add("GET", f"{path}/latest", one.latest, Role.VIEWER, summary="A vehicle as it was last heard", **tag)
    routes.add("GET", f"{path}/summary", one.summary, Role.VIEWER, summary="A range in figures", **tag)
    routes.add("GET", f"{path}/anomalies", one.anomalies, Role.VIEWER, summary="What was unusual", **tag)


class _VehicleRoutes:
    def __init__(self, view: GatewayView, ports: SitePorts, clock: Clock) -> None:
        self._view = view
        self._ports = ports
        self._clock = clock
        self._reads = Reads(ports)
        self._grouped: tuple[Sequence[Signal], Mapping[str, Sequence[Signal]]] = ((), {})

    async def index(self, vin: VinFilter = None, page: Page = 1, page_size: Size = 50) -> VehiclePage:
        """List vehicles by name, each as it was last heard."""
        posted = set(self._posted())
        found = [one for one in sorted({*posted, *self._batteries()}) if vin is None or vin in one]
        chosen = page_of(found, page, page_size)
        latest = await self._latest(chosen)
        alarms = self._alarms()
        items = [
            VehicleOut.of(latest[one], _alerts(latest[one], alarms.get(one, ())), posted=one in posted)
            for one in chosen
        ]
        return VehiclePage(total=len(found), page=page, page_size=page_size, items=items)

    async def latest(self, vin: Vin) -> VehicleLatestOut:
        """Tell the newest row of a vehicle, with its power and what is worth a look.

        Of each value the newest is told, which need not be of the newest row. `alerts` come from these values, and from
        the alarms of the site that are about this device.
        """
        self._known(vin)
        found = (await self._latest([vin]))[vin]
        alerts = _alerts(found, self._alarms().get(vin, ()))
        return VehicleLatestOut.of(found, alerts, posted=vin in self._posted())

    async def summary(self, vin: Vin, from_ts: Time = None, to_ts: Time = None) -> SummaryOut:
        """Tell the lowest and highest values from `from_ts` to `to_ts`, both included; without them of the last day."""
        self._known(vin)
        from_us, to_us = self._range(from_ts, to_ts, _DAY_US)
        points = (*SUMMARY_POINTS, "temperature_degc")
        found = await self._reads.ask(lambda insight: insight.summary(vin, from_us, to_us + 1, points))
        return SummaryOut.of(vin, from_us, to_us, found)

    async def anomalies(
        self,
        vin: Vin,
        from_ts: Time = None,
        to_ts: Time = None,
        signal: SignalFilter = None,
        page: Page = 1,
        page_size: Size = 50,
    ) -> AnomalyPage:
        """Tell hours that were unlike the same hour of the week before; without a range of the last seven days."""
        self._known(vin)
        from_us, to_us = self._range(from_ts, to_ts, 7 * _DAY_US)
        found = await self._reads.ask(lambda insight: insight.anomalies(vin, from_us, to_us))
        chosen = [one for one in found.findings if signal is None or signal in one.signal]
        return AnomalyPage(
            vin=vin,
            total=len(chosen),
            page=page,
            page_size=page_size,
            items=[FindingOut.of(one) for one in page_of(chosen, page, page_size)],
            judged=list(found.judged),
            too_new=list(found.too_new),
        )

    def _range(self, from_ts: str | None, to_ts: str | None, default_us: int) -> tuple[int, int]:
        to_us = self._clock.now_us() if to_ts is None else time_us("query.to_ts", to_ts)
        from_us = to_us - default_us if from_ts is None else time_us("query.from_ts", from_ts)
        if from_us > to_us:
            detail = f"from_ts ({iso(from_us)}) must not be after to_ts ({iso(to_us)})"
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        return from_us, to_us

    def _posted(self) -> Sequence[str]:
        return () if self._ports.posted is None else self._ports.posted.devices()

    def _batteries(self) -> list[str]:
        """Configured devices that have a state of charge, or several."""
        own = {device.id for device in self._view.devices()}
        return [device for device, names in self._by_device().items() if device in own and _has_soc(names)]

    def _known(self, vin: str) -> None:
        if vin not in self._posted() and vin not in self._batteries():
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no vehicle {vin!r}: /api/vehicles lists them")

    async def _latest(self, devices: Sequence[str]) -> dict[str, DeviceLatest]:
        found: Mapping[str, Sequence[Latest]] = {}
        if self._ports.posted is not None:
            posted = set(self._posted())
            found = await needed(self._ports.posted, "posted devices").latest([one for one in devices if one in posted])
        groups = self._by_device()
        return {
            one: device_latest(one, found[one] if one in found else self._view.latest(groups.get(one, ())))
            for one in devices
        }

    def _by_device(self) -> Mapping[str, Sequence[Signal]]:
        signals = self._view.signals()
        if self._grouped[0] is not signals:
            groups: dict[str, list[Signal]] = {}
            for signal in signals:
                groups.setdefault(signal.device, []).append(signal)
            self._grouped = signals, groups
        return self._grouped[1]

    def _alarms(self) -> dict[str, list[AlertOut]]:
        """The alarms that are active, by the device that they are about."""
        found: dict[str, list[AlertOut]] = {}
        for one in () if self._ports.alarms is None else self._ports.alarms.alarms():
            spec = one.spec
            if one.active and spec.severity is not None:
                text = spec.text or one.why
                alert = AlertOut(code=spec.id, source="alarm", text=text, severity=spec.severity.value)
                found.setdefault(spec.device, []).append(alert)
        return found


def _alerts(found: DeviceLatest, alarms: Sequence[AlertOut]) -> list[AlertOut]:
    own = [AlertOut(code=one.code, source="values", text=one.text, severity=None) for one in found.alerts]
    return [*own, *alarms]


def _has_soc(signals: Sequence[Signal]) -> bool:
    return any(signal.name == _SOC for signal in signals)
