"""What ``/api/vehicles`` answers: the battery monitor's names, and ours beside them."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from agent.api.models import Model
from agent.api.telemetry_bodies import MONITOR
from agent.api.times import iso
from agent.core.model import Number
from agent.insight.anomalies import Finding
from agent.insight.statistics import DeviceLatest, Extremes

_KW = 1000


class AlertOut(Model):
    """Something about a vehicle that is worth a look: of its latest values, or an alarm of the site that is active."""

    code: str = Field(description="one fixed word: soc_low, soh_low, temperature_high, stale, …, or the alarm's id")
    source: Literal["values", "alarm"]
    text: str
    severity: str | None = Field(description="of an alarm")


class VehicleOut(Model):
    """A vehicle as it was last heard. What is not known is null."""

    vin: str
    source: Literal["posted", "configured"]
    ts: str | None = Field(description="of the newest row; null: none is known")
    soc: float | None = Field(description="%")
    soh: float | None = Field(description="%")
    pack_voltage: float | None = Field(description="V")
    pack_current: float | None = Field(description="A, with the sign that was sent; ours is positive while charging")
    max_temp: float | None = Field(description="°C")
    min_temp: float | None = Field(description="°C")
    odo_km: float | None = Field(description="km")
    power_kw: float | None = Field(description="pack_voltage times pack_current, or what a configured battery says")
    alerts: list[str] = Field(description="the codes of what is worth a look")

    @classmethod
    def of(cls, found: DeviceLatest, alerts: Sequence[AlertOut], *, posted: bool) -> "VehicleOut":
        """As JSON."""
        return cls.model_validate(_fields(found, alerts, posted=posted))


class VehicleLatestOut(VehicleOut):
    """All that is known of a vehicle."""

    details: list[AlertOut] = Field(description="the alerts in words")
    values: dict[str, int | float | None] = Field(description="every point of it, by our names")

    @classmethod
    def of(cls, found: DeviceLatest, alerts: Sequence[AlertOut], *, posted: bool) -> "VehicleLatestOut":
        """As JSON."""
        more = {"details": list(alerts), "values": dict(found.values)}
        return cls.model_validate({**_fields(found, alerts, posted=posted), **more})


class VehiclePage(Model):
    """A page of vehicles."""

    total: int
    page: int
    page_size: int
    items: list[VehicleOut]


class SummaryOut(Model):
    """A range of a vehicle's telemetry in figures."""

    vin: str
    from_ts: str
    to_ts: str
    samples: int = Field(description="rows in the range, both ends included")
    soc_min: float | None
    soc_max: float | None
    temp_min: float | None
    temp_max: float | None

    @classmethod
    def of(cls, vin: str, from_us: int, to_us: int, found: Mapping[str, Extremes]) -> "SummaryOut":
        """As JSON. A pack that has no highest and lowest temperature has one temperature."""
        none = Extremes(0, None, None)
        soc, mean = found.get("soc_pct", none), found.get("temperature_degc", none)
        hot, cold = found.get("temperature_max_degc", none), found.get("temperature_min_degc", none)
        return cls(
            vin=vin,
            from_ts=iso(from_us),
            to_ts=iso(to_us),
            samples=max((one.samples for one in found.values()), default=0),
            soc_min=soc.lo,
            soc_max=soc.hi,
            temp_min=(cold if cold.samples else mean).lo,
            temp_max=(hot if hot.samples else mean).hi,
        )


class FindingOut(Model):
    """Something unusual: what an hour was like, against what this hour of the week was like before."""

    signal: str
    from_ts: str
    to_ts: str
    direction: Literal["high", "low"]
    value: float
    expected_low: float
    expected_high: float
    score: float = Field(description="how far off, in spreads of what is usual")
    text: str

    @classmethod
    def of(cls, one: Finding) -> "FindingOut":
        """As JSON."""
        return cls(
            signal=one.signal,
            from_ts=iso(one.from_us),
            to_ts=iso(one.to_us),
            direction=one.direction,
            value=one.value,
            expected_low=one.low,
            expected_high=one.high,
            score=one.score,
            text=one.text,
        )


class AnomalyPage(Model):
    """A page of what was unusual, by time."""

    vin: str
    total: int
    page: int
    page_size: int
    items: list[FindingOut]
    judged: list[str] = Field(description="signals that were looked at")
    too_new: list[str] = Field(description="signals that have too little history: two weeks are needed")


def _fields(found: DeviceLatest, alerts: Sequence[AlertOut], *, posted: bool) -> dict[str, object]:
    values: dict[str, Number | None] = {name: found.values.get(point) for name, point in MONITOR.items()}
    mean = found.values.get("temperature_degc")
    for name in ("max_temp", "min_temp"):
        values[name] = mean if values[name] is None else values[name]
    return {
        "vin": found.device,
        "source": "posted" if posted else "configured",
        "ts": None if found.t_us is None else iso(found.t_us),
        **values,
        "power_kw": None if found.power_w is None else round(found.power_w / _KW, 6),
        "alerts": list(dict.fromkeys(one.code for one in alerts)),
    }
