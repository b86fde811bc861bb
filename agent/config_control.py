"""The configuration's sections about acting on site: schedules, alarms, rules, load management, who is told."""

from datetime import UTC
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from agent.config_ocpp import linkable, linkable_at
from agent.control.cron import Cron
from agent.control.when import Condition, parse, parse_clear
from agent.credentials import NamedFile
from agent.yamlfile import Section, complaint
from cloud_sync.settings import EventBackendSettings

#: Fit for a topic level, a file name and a name in a rule.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
StationId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[1-9][0-9]?)?$")]

#: Longer than a year is a mistake, and thousands of years are no time that can be written.
LONGEST_S = 366 * 86400
NotNegative = Annotated[float, Field(ge=0)]
#: Nothing draws more per phase (4 MW at 230 V are 5,800 A): who writes more means W or mA. The API has the same bound.
Ampere = Annotated[float, Field(ge=0, le=10_000)]
Seconds = Annotated[float, Field(ge=0, le=LONGEST_S)]
Positive = Annotated[float, Field(gt=0)]
#: Also what a ready-made alarm is called: ``battery1-silent``.
AlarmId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Mode = Literal["live", "shadow"]


class StationAct(Section):
    """What is done with a station."""

    station: StationId | Literal["*"] = Field(
        description="a charger's id, `id.2` for its second outlet, or `*` for each charger as a whole"
    )
    set: Literal["on", "off", "toggle"] | None = Field(None, description="switch it")
    limit_a: Ampere | None = Field(None, description="what it may draw per phase, in A")
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
    every_s: Annotated[float, Field(ge=1, le=LONGEST_S)] | None = Field(
        None, description="instead of `cron`: again after so long"
    )
    then: tuple[StationAct, ...] = Field(min_length=1, description="what is done")
    enabled: bool = Field(True, description="false: it stands here and is not run")

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        return value if value is None else linkable(value, lambda: Cron(value, UTC))

    @model_validator(mode="after")
    def _one_rhythm(self) -> "Schedule":
        if (self.cron is None) == (self.every_s is None):
            raise complaint("a schedule has either `cron:` or `every_s:`", "write one of them")
        return self


class StationSwitching(Section):
    """How often a station's contactor may be switched. A stop that protects waits for nothing."""

    station: StationId = Field(description="a charger's id, or `id.2` for its second outlet")
    min_on_s: Seconds = Field(60, description="once on it stays on for so long")
    min_off_s: Seconds = Field(60, description="once off it stays off for so long; 300 for a DC charger")
    per_hour: int = Field(6, ge=1, le=200, description="it is switched so many times an hour at most")
    per_day: int = Field(60, ge=1, le=1000, description="and so many times a day")


class AlarmAct(Section):
    """What is done with a station while an alarm or rule is active; `do:` once, when it becomes so."""

    station: StationId | Literal["*"] = Field(description="a charger's id, `id.2` for its outlet 2, or `*` for all")
    set: Literal["on", "off"] | None = Field(None, description="switch it")
    limit_a: Ampere | None = Field(None, description="what it may draw per phase, in A")
    do: str | None = Field(None, description="an action of the charger: stop, reset, unlock, …")
    args: dict[str, str | int | float | bool] = Field(default_factory=dict, description="arguments of `do`")

    @model_validator(mode="after")
    def _says_something(self) -> "AlarmAct":
        if self.set is None and self.limit_a is None and self.do is None:
            raise complaint("nothing is done with it", "add `set:`, `limit_a:` or `do:`")
        if self.do is not None and (self.set is not None or self.limit_a is not None):
            raise complaint("`do:` stands alone", "write two entries")
        return self


def _check_conditions(when: str, clear: str | None) -> None:
    """Raise a complaint at the one of the two that can't be read."""
    raises = linkable_at(lambda: parse(when), "when")
    if clear is not None:
        linkable_at(lambda: parse_clear(clear, raises), "clear")


class Rule(Section):
    """Something that is done with stations while a condition holds. Nobody is told; weaker than a person's wish."""

    id: Id = Field(description="name of the rule, unique among rules and alarms")
    when: str = Field(description="the condition, such as `battery1.soc_pct < 20`; `docs/alarms.md` has the language")
    for_s: Seconds = Field(0, description="it must hold for so long without a break")
    clear: str | None = Field(None, description="what ends it: `> 25`, or a condition; absent: the contrary of `when`")
    clear_for_s: Seconds = Field(10, description="that must hold for so long without a break")
    then: tuple[AlarmAct, ...] = Field(min_length=1, description="what is done while it holds")
    hold_s: Seconds = Field(0, description="it goes on being done for so long after the end")
    unknown: Literal["hold", "raise", "clear"] = Field(
        "hold", description="what counts while its signals are not known: as it was, as true, as over"
    )
    mode: Mode = Field("live", description="shadow: it is judged and told, and does nothing")
    enabled: bool = Field(True, description="false: it stands here and is not judged")

    @model_validator(mode="after")
    def _readable(self) -> "Rule":
        _check_conditions(self.when, self.clear)
        return self

    def conditions(self) -> tuple[Condition, Condition | None]:
        """What raises it and what ends it. Raises ``ConfigError``; one that was read has none that do."""
        when = parse(self.when)
        return when, None if self.clear is None else parse_clear(self.clear, when)


class Alarm(Section):
    """Something that people are told of, and that may switch or limit stations. Stronger than a person's wish."""

    id: Id = Field(description="name of the alarm, unique among rules and alarms")
    when: str = Field(description="the condition, such as `battery1.temperature_max_degc > 50`; see `docs/alarms.md`")
    for_s: Seconds = Field(0, description="it must hold for so long without a break")
    clear: str | None = Field(None, description="what ends it: `< 45`, or a condition; absent: the contrary of `when`")
    clear_for_s: Seconds = Field(10, description="that must hold for so long without a break")
    severity: Literal["info", "warning", "critical"] = Field("warning", description="info needs no acknowledgement")
    latch: bool = Field(False, description="it goes on until somebody has acknowledged it, also when its cause is gone")
    text: str = Field("", description="what is wrong and what to do, for people")
    then: tuple[AlarmAct, ...] = Field((), description="what is done with stations while it goes on")
    hold_s: Seconds = Field(0, description="it goes on being done for so long after the end")
    interlock: bool = Field(False, description="stronger than every other alarm; only to switch off or to limit")
    unknown: Literal["hold", "raise", "clear"] = Field(
        "hold", description="what counts while its signals are not known: as it was, as true, as over"
    )
    suppressed_by: tuple[AlarmId, ...] = Field((), description="alarms that explain this one: it is silent meanwhile")
    notify: tuple[Id, ...] | None = Field(None, description="channels of `notify:`; absent: each whose severity fits")
    mode: Mode = Field("live", description="shadow: it is judged and told, and does nothing")
    enabled: bool = Field(True, description="false: it stands here and is not judged")

    @model_validator(mode="after")
    def _readable(self) -> "Alarm":
        _check_conditions(self.when, self.clear)
        return self

    def conditions(self) -> tuple[Condition, Condition | None]:
        """What raises it and what ends it. Raises ``ConfigError``; one that was read has none that do."""
        when = parse(self.when)
        return when, None if self.clear is None else parse_clear(self.clear, when)

    @model_validator(mode="after")
    def _interlock_only_stops(self) -> "Alarm":
        if self.interlock and any(act.set == "on" for act in self.then):
            raise complaint("an interlock never switches on", "write `set: off`, or take `interlock:` out")
        return self


class AlarmSet(Section):
    """Ready-made alarms for devices of a kind; `docs/alarms.md` lists them."""

    set: Id = Field(description="name of the set: bms, charger, meter, gateway, or a file in `alarms/` beside this one")
    devices: tuple[Id, ...] = Field((), description="for these devices; absent: for all that have what the set reads")
    values: dict[str, float] = Field(default_factory=dict, description="other values than the set's own")
    without: tuple[str, ...] = Field((), description="alarms of the set that are left out")
    then: tuple[AlarmAct, ...] = Field((), description="what is done while a critical one of them goes on")


class Channel(Section):
    """Somebody who is told of alarms: by e-mail, webhook, or a push service."""

    id: Id = Field(description="name of the channel")
    url_file: NamedFile = Field(
        description="file with one address per line, as Apprise writes them: mailto://, json://, …"
    )
    severity: Literal["info", "warning", "critical"] = Field("warning", description="the mildest that is told")
    every_s: Seconds = Field(60, description="one message in so long at most; what comes meanwhile waits")
    returns: bool = Field(True, description="also told when an alarm is over")


class LoadStation(Section):
    """A station's part in load management."""

    station: StationId = Field(description="a charger's id, or `id.2` for its second outlet")
    priority: int = Field(0, ge=-100, le=100, description="higher ones get their minimum first")
    weight: Positive = Field(1, description="its share of what is left, against the others")
    phases: tuple[Literal[1, 2, 3], ...] = Field(
        (), max_length=3, description="the grid's phases that it is on, in the order of its own; absent: not known"
    )
    max_a: Positive | None = Field(None, description="fuse of its line, in A per phase")

    @field_validator("phases")
    @classmethod
    def _different(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise complaint("a phase stands here twice", "write each of the station's phases once, such as `[2, 3, 1]`")
        return value


class LoadManagement(Section):
    """Never more than `site.import_limit_a` per phase: what is left is shared among the stations."""

    meter: Id = Field(description="device that measures the grid connection, per phase")
    margin_a: NotNegative | None = Field(None, description="is kept free; absent: 1 A, or 3 % where that is more")
    silent_s: Annotated[float, Field(ge=2, le=60)] = Field(10, description="silence after which `failsafe_a` counts")
    failsafe_a: Ampere | None = Field(
        None, description="each station's limit while the meter is silent; absent: its own safe value, else 0"
    )
    batteries: tuple[Id, ...] = Field((), description="whose discharge counts only as far as their BMS allows it now")
    stations: tuple[LoadStation, ...] = Field((), description="those that differ; all that can be limited take part")


class EventBackend(Section):
    """A server that is asked for timed events which are due, and told of their start and end."""

    url: str = Field(pattern=r"^https?://\S+$", description="BACKEND_URL, such as https://central.example")
    token_file: NamedFile | None = Field(None, description="file that holds the bearer token and nothing else")
    every_s: Annotated[float, Field(ge=5, le=LONGEST_S)] = Field(60, description="how often it is asked")
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(10, description="how long an answer may take")
    then: tuple[AlarmAct, ...] = Field((), description="what is done with stations while one of its events goes on")

    @model_validator(mode="after")
    def _fits(self) -> "EventBackend":
        if any(act.do is not None for act in self.then):
            raise complaint("what goes on for a while is no `do:`", "write `set:` or `limit_a:`")
        return linkable(self, lambda: self.settings(Path()))

    def settings(self, base: Path) -> EventBackendSettings:
        """What ``cloud_sync`` is given; relative paths count from ``base``. Raises ``ConfigError``."""
        token_file = None if self.token_file is None else base / self.token_file
        return EventBackendSettings(self.url, token_file, self.every_s, self.timeout_s)
