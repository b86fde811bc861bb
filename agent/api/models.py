"""The JSON that the API answers with. Times are ISO 8601 UTC; a value that is not known is null, never 0."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from agent.api.times import iso
from agent.api.view import DeviceInfo, History, HistoryPoint
from agent.core.model import Kind, Number, Signal
from agent.core.ports import Latest

DeviceKind = Literal["configured", "posted", "gateway"]
DeviceState = Literal["starting", "online", "offline", "unsupported"]


class Model(BaseModel):
    """Base of all answers. Infinities and NaN never reach JSON."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class PartOut(Model):
    """A part of the gateway."""

    name: str
    ok: bool
    detail: str = Field(description="what is wrong; empty when nothing is")
    hint: str = Field(description="what to do about it")


class WiresOut(Model):
    """How many wires are in which state."""

    total: int
    online: int
    starting: int
    offline: int
    unsupported: int


class DevicesOut(Model):
    """How many devices are in which state."""

    total: int
    online: int
    starting: int
    offline: int
    unsupported: int


class StoreOut(Model):
    """What the store takes, and what it could not keep."""

    bytes: int = Field(description="of the database and its log")
    quota_bytes: int = Field(description="above it data is given up: docs/storage.md has the order")
    ledger_bytes: int = Field(description="of events and sessions, which are never given up; as of the last hour")
    evidence_bytes: int = Field(
        description="of unusable databases that stand aside (copy them away, then delete them) and of an upgrade's copy"
    )
    lost_rows: int = Field(description="rows given up although the central server had not confirmed them")
    written_bytes_per_day: float | None = Field(description="to the flash; null before a day has passed")


class StatusOut(Model):
    """What everybody may know."""

    status: Literal["OK", "degraded"]


class HealthOut(Model):
    """Health of the whole gateway. The answer is 200 also when it is degraded: the gateway itself works."""

    status: Literal["OK", "degraded"]
    db: Literal["OK", "error"]
    parts: list[PartOut]
    wires: WiresOut
    devices: DevicesOut
    store: StoreOut | None = Field(description="what it takes; null: this gateway runs without one")
    broker: str | None = Field(description="where the central server's broker is; null: the site has no uplink")
    site: str
    version: str
    boot: str
    time: str
    uptime_s: float


class SignalOut(Model):
    """What is known of a signal, its values apart."""

    id: int
    name: str = Field(description="device.point")
    device: str
    point: str
    unit: str
    kind: Kind
    source: str = Field(description="where it is read, in the field's words")
    labels: dict[int, str]

    @classmethod
    def of(cls, signal: Signal) -> "SignalOut":
        """A signal as JSON."""
        return cls(
            id=signal.id,
            name=signal.full_name,
            device=signal.device,
            point=signal.name,
            unit=signal.unit,
            kind=signal.kind,
            source=signal.source,
            labels=dict(signal.labels),
        )


class SignalPage(Model):
    """A page of signals."""

    total: int = Field(description="signals that match, on all pages")
    page: int
    page_size: int
    items: list[SignalOut]


class ValueOut(Model):
    """The newest value of a signal."""

    id: int
    name: str
    value: int | float | None = Field(description="in the signal's unit; null when it is not known now")
    label: str | None = Field(description="the value in words, for choices")
    unit: str
    time: str | None = Field(description="when this value was read for the first time, or became unknown")
    age_s: float | None = Field(description="seconds since it was last read; null before the first time")

    @classmethod
    def of(cls, latest: Latest) -> "ValueOut":
        """A latest value as JSON."""
        return cls.model_validate(value_fields(latest))


class Times(dict[int | None, str | None]):
    """ISO 8601 of µs since 1970, each written once: the values of a device mostly have a few times in all."""

    def __missing__(self, t_us: int | None) -> str | None:
        self[t_us] = text = None if t_us is None else iso(t_us)
        return text


def value_fields(latest: Latest, times: Times | None = None) -> dict[str, object]:
    """The fields of ``ValueOut`` as a plain dict: live streams write thousands of them a second."""
    signal, value, t_us, age_s = latest.signal, latest.value, latest.t_us, latest.age_s
    return {
        "id": signal.id,
        "name": signal.full_name,
        "value": value,
        "label": label_of(signal, value) if signal.labels else None,
        "unit": signal.unit,
        "time": (Times() if times is None else times)[t_us],
        "age_s": None if age_s is None else round(age_s, 3),
    }


def label_of(signal: Signal, value: Number | None) -> str | None:
    """The choice's name."""
    if isinstance(value, int) or (value is not None and value.is_integer()):
        return signal.labels.get(int(value))
    return None


class DeviceOut(Model):
    """A device, its health and its age. Its health is its own where it is asked or silent, otherwise its wire's."""

    id: str
    driver: str
    kind: DeviceKind = Field(description="in the configuration; known by what clients post; this gateway itself")
    name: str = Field(description="for people; empty: it has none")
    profile: str = Field(
        description="its model or protocol, as the configuration names it; empty: its driver needs none"
    )
    address: str = Field(description="where it is reached; empty: nowhere")
    testable: bool = Field(description="POST /api/devices/{id}/test reads it now")
    editable: bool = Field(description="its entry can be changed here: GET /api/devices/{id}/entry")
    wire: str | None
    state: DeviceState
    since: str | None = Field(description="when it came into this state")
    last_error: str
    hint: str
    next_try_s: float | None = Field(description="seconds until it is tried again; null while it answers")
    restarts: int = Field(description="how often its wire was opened again")
    signals: int
    known: int = Field(description="signals with a value now")
    age_s: float | None = Field(description="seconds since any of its signals was read; null before the first time")
    counters: dict[str, int] = Field(description="figures of its wire since the start; docs/metrics.md explains them")

    @classmethod
    def of(
        cls, device: DeviceInfo, latest: Sequence[Latest], kind: DeviceKind = "configured", *, editable: bool = False
    ) -> "DeviceOut":
        """A device as JSON; ``latest`` of all its signals."""
        wire, health = device.wire, device.unit or device.wire
        ages = [entry.age_s for entry in latest if entry.age_s is not None]
        return cls(
            id=device.id,
            driver=device.driver,
            kind=kind,
            name=device.name,
            profile=device.profile,
            address=device.address,
            testable=kind == "configured",
            editable=editable and kind == "configured",
            wire=wire.name if wire else None,
            state=device.state.value,
            since=iso(health.since_us) if health else None,
            last_error=health.last_error if health else "",
            hint=health.hint if health else "",
            next_try_s=None if health is None or health.next_try_s is None else round(health.next_try_s, 1),
            restarts=wire.restarts if wire else 0,
            signals=len(latest),
            known=sum(entry.value is not None for entry in latest),
            age_s=round(min(ages), 3) if ages else None,
            counters=dict(wire.counters) if wire else {},
        )


class DevicePage(Model):
    """A page of devices."""

    total: int
    page: int
    page_size: int
    items: list[DeviceOut]


class DeviceLatestOut(Model):
    """All values of a device."""

    device: DeviceOut
    values: list[ValueOut]

    @classmethod
    def json_of(cls, device: DeviceInfo, latest: Sequence[Latest], kind: DeviceKind = "configured") -> bytes:
        """It as JSON, past its own checks: dashboards and collectors ask for this hundreds of times a second."""
        times = Times()
        fields = {"device": DeviceOut.of(device, latest, kind), "values": [value_fields(one, times) for one in latest]}
        return to_json(fields, inf_nan_mode="null")


class PointOut(Model):
    """One interval of history."""

    time: str
    min: int | float | None = Field(description="null: it was unknown all along")
    max: int | float | None
    mean: float | None = Field(description="null also for states")
    last: int | float | None = Field(description="null: it was unknown at the end")
    count: int = Field(description="stored rows that the point stands for")
    gap: bool = Field(description="it was unknown at some time in the interval")

    @classmethod
    def of(cls, point: HistoryPoint) -> "PointOut":
        """A point as JSON."""
        return cls(
            time=iso(point.t_us),
            min=point.min,
            max=point.max,
            mean=point.mean,
            last=point.last,
            count=point.count,
            gap=point.gap,
        )


class HistoryOut(Model):
    """The history of a signal, thinned out with minima and maxima kept."""

    signal: SignalOut
    from_time: str = Field(serialization_alias="from")
    to_time: str = Field(serialization_alias="to", description="not included")
    interval_s: float = Field(description="width of a point; 0 when each is one stored row")
    points: list[PointOut]

    @classmethod
    def of(cls, signal: Signal, from_us: int, to_us: int, history: History) -> "HistoryOut":
        """A history as JSON."""
        return cls(
            signal=SignalOut.of(signal),
            from_time=iso(from_us),
            to_time=iso(to_us),
            interval_s=history.interval_s,
            points=[PointOut.of(point) for point in history.points],
        )
