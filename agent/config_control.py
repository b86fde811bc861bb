"""The configuration's sections about acting on site: schedules."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from agent.yamlfile import Section, complaint

#: Fit for a topic level, a file name and a name in a rule.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
StationId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[1-9][0-9]?)?$")]

CRON_FIELDS = 5


class StationAct(Section):
    """What is done with a station."""

    station: StationId = Field(description="a charger's id, or `id.2` for its second outlet")
    set: Literal["on", "off", "toggle"] | None = Field(None, description="switch it")
    limit_a: Annotated[float, Field(ge=0)] | None = Field(None, description="what it may draw per phase, in A")
    do: str | None = Field(None, description="an action of the charger: start, stop, reset, unlock, …")
    args: dict[str, str | int | float | bool] = Field(default_factory=dict, description="arguments of `do`")

    @model_validator(mode="after")
    def _says_something(self) -> "StationAct":
        if self.set is None and self.limit_a is None and self.do is None:
            raise complaint("nothing is done with it", "add `set:`, `limit_a:` or `do:`")
        if self.do is not None and (self.set is not None or self.limit_a is not None):
            raise complaint("`do:` stands alone", "write two entries")
        return self


class Schedule(Section):
    """Something that is done again and again, by the clock of the site's time zone."""

    id: Id = Field(description="name of the schedule, unique on the site")
    cron: str | None = Field(None, description="minute hour day-of-month month day-of-week, as crontab(5) has them")
    every_s: Annotated[float, Field(ge=1)] | None = Field(None, description="instead of `cron`: again after so long")
    then: tuple[StationAct, ...] = Field(min_length=1, description="what is done")
    enabled: bool = Field(True, description="false: it stands here and is not run")

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None and len(value.split()) != CRON_FIELDS:
            raise complaint(
                f"`{value}` is no cron line", "write five fields, such as `0 22 * * *` for each day at 22:00"
            )
        return value

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Schedule":
        if (self.cron is None) == (self.every_s is None):
            raise complaint("a schedule has either `cron:` or `every_s:`", "write one of them")
        return self
