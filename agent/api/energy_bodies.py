"""What the routes of energy, recommendations and the stations' figures are sent and answer. Energies are in Wh."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator

from agent.api.bodies import Body
from agent.api.models import Model
from agent.api.telemetry_bodies import DEVICE, TelemetryOut
from agent.api.times import iso, parse_time
from agent.api.view import PostedEnergy
from agent.insight.energy import Energy
from agent.insight.postings import MAX_KWH
from agent.insight.recommendations import Recommendation
from agent.insight.service import InsightSettings
from agent.insight.statistics import StationCounts

MAX_POSTINGS = 500

BucketName = Literal["hour", "day", "month"]
DirectionName = Literal["import", "export"]


class EnergyPosting(Body):
    """Consumption of a device in an interval that one time names."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"device_id": "ac-3", "kwh": 1.25, "timestamp": "2026-11-20T23:00:00Z"}]}
    )

    device_id: Annotated[str, StringConstraints(pattern=f"^{DEVICE.pattern}$")] = Field(
        description="any name that is no configured device's"
    )
    kwh: Annotated[float, Field(ge=0, le=MAX_KWH)] = Field(description="of this interval alone, no meter reading")
    timestamp: Annotated[str, Field(max_length=40)] = Field(
        description="ISO 8601 with an offset, or seconds since 1970; it belongs to this hour, day and month"
    )

    @field_validator("timestamp")
    @classmethod
    def _time(cls, value: str) -> str:
        parse_time(value)
        return value

    def posted(self, place: int) -> PostedEnergy:
        """As the house has it."""
        return PostedEnergy(place, self.device_id, parse_time(self.timestamp), self.kwh)


#: One posting, or a list of them.
Postings = EnergyPosting | Annotated[list[EnergyPosting], Field(min_length=1, max_length=MAX_POSTINGS)]


class EnergyTaken(TelemetryOut):
    """What became of postings. All that were inserted are on disk."""

    late: int = Field(description="of the inserted ones: older than others; their energy counts at the newest's time")


class PeriodOut(Model):
    """The energy of one hour, day or month of the site's time zone."""

    from_: str = Field(alias="from", serialization_alias="from")
    to: str
    wh: float | None = Field(description="null: nothing is known of it")
    estimated: bool = Field(description="it may be off, mostly too low")
    reasons: list[str] = Field(
        description="gap, moved, begin, power, reset, replaced, jump: why it is estimated; glitch, rollover: corrected"
    )


class SpanOut(Model):
    """Energy that flowed some time between two readings, over the bounds of periods; it is in no period."""

    from_: str = Field(alias="from", serialization_alias="from")
    to: str
    wh: float


class EnergyOut(Model):
    """The energy of a device."""

    device: str
    direction: DirectionName
    bucket: BucketName
    source: Literal["register", "posted", "power"] | None = Field(description="null: nothing is known of it")
    signals: list[str]
    total_wh: float | None
    periods: list[PeriodOut]
    spans: list[SpanOut]
    corrections: dict[str, int] = Field(description="how often the register needed which")
    cost: float | None = Field(
        description="what it costs by the tariff, or earns where it is given; null: not asked for, or not known"
    )

    @classmethod
    def of(cls, found: Energy, bucket: BucketName, cost: float | None = None) -> "EnergyOut":
        """As JSON."""
        periods = [
            PeriodOut.model_validate(
                {
                    "from": iso(one.from_us),
                    "to": iso(one.to_us),
                    "wh": _wh(one.wh),
                    "estimated": one.estimated,
                    "reasons": list(one.reasons),
                }
            )
            for one in found.periods
        ]
        spans = [
            SpanOut.model_validate({"from": iso(one.from_us), "to": iso(one.to_us), "wh": _wh(one.wh)})
            for one in found.spans
        ]
        return cls(
            device=found.device,
            direction=found.direction,
            bucket=bucket,
            source=found.source,
            signals=list(found.signals),
            total_wh=_wh(found.total_wh),
            periods=periods,
            spans=spans,
            corrections=dict(found.corrections or {}),
            cost=None if cost is None else round(cost, 4),
        )


class PriceOut(Model):
    """A price that holds in a part of each week, in minutes from Monday, 00:00, of the site's time zone."""

    from_min: int = Field(description="from 0 to 10079")
    to_min: int = Field(description="not included; up to 10080")
    price_per_kwh: float = Field(description="in the currency of the tariff")


class EnergySettingsOut(Model):
    """What energy is reckoned with."""

    grid: str | None = Field(description="the device that measures the grid connection, as configured; null: it is not")
    timezone: str = Field(description="of hours, days, months and prices")
    currency: str = Field(description="of the prices, as ISO 4217 names it; empty: no tariff is configured")
    prices: list[PriceOut] = Field(description="a week in order, each minute once; empty: no tariff is configured")
    export_price_per_kwh: float | None = Field(description="what is paid for a kWh that is given; null: nobody said")

    @classmethod
    def of(cls, settings: InsightSettings) -> "EnergySettingsOut":
        """As JSON."""
        tariff = settings.tariff
        return cls(
            grid=settings.grid,
            timezone=str(settings.zone),
            currency="" if tariff is None else tariff.currency,
            prices=[]
            if tariff is None
            else [PriceOut(from_min=one, to_min=two, price_per_kwh=price) for one, two, price in tariff.runs()],
            export_price_per_kwh=None if tariff is None else tariff.export_price_per_kwh,
        )


class EvidenceOut(Model):
    """What a recommendation is drawn from."""

    signal: str
    from_: str = Field(alias="from", serialization_alias="from")
    to: str
    values: dict[str, float]


class RecommendationOut(Model):
    """Something worth doing. Savings are estimates for 30 days; null: there is none to tell, or no tariff."""

    id: str = Field(description="the same each time for the same cause")
    kind: str
    device: str
    text: str
    priority: int = Field(description="1 (act soon) to 3 (when there is time)")
    since: str = Field(description="since when it can be seen in the last four weeks")
    saving_kwh: float | None
    saving_money: float | None
    currency: str
    evidence: list[EvidenceOut]

    @classmethod
    def of(cls, one: Recommendation) -> "RecommendationOut":
        """As JSON."""
        evidence = [
            EvidenceOut.model_validate(
                {"signal": each.signal, "from": iso(each.from_us), "to": iso(each.to_us), "values": dict(each.values)}
            )
            for each in one.evidence
        ]
        return cls(
            id=one.id,
            kind=one.kind,
            device=one.device,
            text=one.text,
            priority=one.priority,
            since=iso(one.since_us),
            saving_kwh=one.saving_kwh,
            saving_money=one.saving_money,
            currency=one.currency,
            evidence=evidence,
        )


class RecommendationPage(Model):
    """A page of recommendations, the most urgent first."""

    total: int
    page: int
    page_size: int
    items: list[RecommendationOut]


class StationStats(Model):
    """How many stations there are, and what they can give. A charger with several outlets is these, not one more."""

    total: int
    active: int = Field(description="not decided to be off")
    inactive: int
    total_kw: float = Field(description="what all of them can give together")
    active_kw: float
    unrated: int = Field(description="stations whose power nobody knows; they are in no sum")

    @classmethod
    def of(cls, found: StationCounts) -> "StationStats":
        """As JSON."""
        return cls(
            total=found.total,
            active=found.active,
            inactive=found.inactive,
            total_kw=round(found.kw, 3),
            active_kw=round(found.active_kw, 3),
            unrated=found.unrated,
        )


def _wh(value: float | None) -> float | None:
    """Thousandths of a Wh: sums of floats end in many more figures that mean nothing."""
    return None if value is None else round(value, 3)
