"""The configuration's sections about energy: what it costs, and what insight should know of the site."""

from typing import Annotated

from pydantic import Field, StringConstraints, field_validator, model_validator

from agent.insight.tariff import DAYS, Band, Tariff, days_of, minute_of, tariff_of
from agent.yamlfile import Section, complaint

Price = Annotated[float, Field(ge=-1000, le=1000)]
Time = Annotated[str, StringConstraints(pattern=r"^[0-2][0-9]:[0-5][0-9]$")]
_KW = 1000


class TariffBand(Section):
    """A price of energy on some days from one time to another."""

    days: tuple[str, ...] = Field(("all",), description="mon, tue, …, a range such as mon-fri, or all")
    from_: Time = Field("00:00", alias="from", description="time of day in the site's time zone")
    to: Time = Field("24:00", description="time of day; before `from`: on the next day")
    price_per_kwh: Price = Field(description="price of a kWh, in the tariff's currency")

    @field_validator("days", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        # What such a validator returns is no longer read as JSON: a list must become a tuple here.
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("days")
    @classmethod
    def _known_days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                days_of(text)
            except ValueError as error:
                raise complaint(f"`{text}` is no day", f"write {', '.join(DAYS)}, mon-fri, or all") from error
        return value

    @field_validator("from_", "to")
    @classmethod
    def _in_a_day(cls, value: str) -> str:
        try:
            minute_of(value)
        except ValueError as error:
            raise complaint(f"`{value}` is no time of day", str(error)) from error
        return value

    def band(self) -> Band:
        """The same as numbers."""
        days = sorted({day for text in self.days for day in days_of(text)})
        return Band(tuple(days), minute_of(self.from_), minute_of(self.to), self.price_per_kwh)


class TariffSection(Section):
    """What energy costs: bands that cover each minute of the week once."""

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = Field(description="ISO 4217: MXN, EUR, …")
    bands: tuple[TariffBand, ...] = Field(min_length=1, max_length=200, description="prices by day and time")
    demand_price_per_kw: Annotated[float, Field(ge=0)] | None = Field(
        None, description="price of each kW of a month's highest quarter hour; absent: there is none"
    )
    export_price_per_kwh: Price | None = Field(
        None, description="what is paid for a kWh that the site gives to the grid; absent: it is not reckoned"
    )
    contract_kw: Annotated[float, Field(gt=0)] | None = Field(
        None, description="power that is agreed upon with the grid operator; absent: the fuse counts"
    )

    @model_validator(mode="after")
    def _covers_the_week(self) -> "TariffSection":
        try:
            self.tariff()
        except ValueError as error:
            raise complaint(str(error), "let the bands cover each minute of the week once") from error
        return self

    def tariff(self) -> Tariff:
        """What ``agent.insight`` is given. Raises ``ValueError`` where the bands leave a gap or overlap."""
        contract_w = None if self.contract_kw is None else self.contract_kw * _KW
        bands = [one.band() for one in self.bands]
        return tariff_of(self.currency, bands, self.demand_price_per_kw, contract_w, self.export_price_per_kwh)


class InsightSection(Section):
    """What recommendations should know of the site."""

    grid: str | None = Field(None, description="device that measures the grid connection; absent: the meter there is")
    ambient: str | None = Field(
        None, description="signal of the air around the batteries, such as `weather.temperature_degc`"
    )
