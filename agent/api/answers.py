"""The JSON that the routes of users, stations, sessions and chargers answer with (``models.py`` has the others)."""

from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import Field, JsonValue

from agent.api.models import Model
from agent.api.times import iso
from agent.api.users import User
from agent.api.view import Adopted, PendingCharger
from agent.control.model import Decision, JobInfo, Result, Station, Wish
from agent.control.registered import Registered
from agent.core.model import Number, Session
from agent.core.ports import Setting
from agent.insight.statistics import rated_w

RoleName = Literal["viewer", "operator", "admin"]
_W_PER_KW = 1000


class SetUpOut(Model):
    """Whether the gateway has an admin yet."""

    needed: bool = Field(description="true: POST /api/auth/setup with the code from the gateway's log")


class TokensOut(Model):
    """A log-in of a program."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int = Field(description="seconds that the access token is good for")
    refresh_token: str = Field(description="good once, at /api/auth/refresh, within 30 days of the log-in")


class MeOut(Model):
    """Who one is."""

    username: str
    role: RoleName


class ApiTokenOut(Model):
    """An API token, without the token."""

    label: str
    created: str


class NewTokenOut(Model):
    """An API token. It is shown this once."""

    label: str
    token: str


class UserOut(Model):
    """A user."""

    username: str
    role: RoleName
    tokens: list[ApiTokenOut]

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """A user as JSON; no secret is in it."""
        tokens = [ApiTokenOut(label=one.label, created=iso(one.created_us)) for one in user.tokens]
        return cls(username=user.name, role=user.role.value, tokens=tokens)


class UserPage(Model):
    """A page of users."""

    total: int
    page: int
    page_size: int
    items: list[UserOut]


class ActiveOut(Model):
    """A log-in that has not ended."""

    username: str
    role: RoleName
    kind: Literal["browser", "program"]
    since: str = Field(description="when it was opened")
    last_seen: str = Field(description="its last request; after a restart of the gateway not before that")


class ActivePage(Model):
    """A page of open log-ins."""

    total: int
    page: int
    page_size: int
    items: list[ActiveOut]


class SettingOut(Model):
    """Something that can be set."""

    unit: str
    min: float
    max: float
    zero: bool = Field(description="0 is allowed below min: off")

    @classmethod
    def of(cls, setting: Setting) -> "SettingOut":
        """A setting as JSON."""
        return cls(unit=setting.unit, min=setting.min, max=setting.max, zero=setting.zero)


class ActionOut(Model):
    """Something that a device can be told to do."""

    doc: str
    args: dict[str, JsonValue] = Field(description="JSON schema of the arguments")


class StationOut(Model):
    """A station: a charger's outlet, or the whole charger."""

    id: str
    device: str
    outlet: int = Field(description="0: the whole charger")
    name: str
    status: Literal["on", "off"] | None = Field(description="what was decided last; null: nobody ever decided")
    limit_a: float | None = Field(description="what it may draw per phase; null: nobody ever decided")
    following: bool | None = Field(description="its power follows the decision; null: can't be told")
    power_w: float | None = Field(description="what it draws now; null: not known")
    connector: str | None = Field(description="what the charger says of it, as OCPP names it; null: not known")
    settings: dict[str, SettingOut]
    actions: list[str]
    number: int | None = Field(description="for clients that know stations by numbers; no other one ever has it")
    location: str = Field(description="of a registered station; empty for others")
    max_kw: float | None = Field(
        description="what it can deliver: as registered, or its most current on three phases of 230 V; null: not known"
    )
    registered: bool = Field(description="it has no wire to this gateway")

    @classmethod
    def of(
        cls,
        station: Station,
        power_w: Number | None = None,
        connector: str | None = None,
        number: int | None = None,
        registered: Registered | None = None,
    ) -> "StationOut":
        """A station as JSON."""
        max_w = rated_w(station) if registered is None else registered.max_w
        return cls(
            id=station.id,
            device=station.device,
            outlet=station.outlet,
            name=station.name,
            status=None if station.on is None else "on" if station.on else "off",
            limit_a=station.limit_a,
            following=station.following,
            power_w=power_w,
            connector=connector,
            settings={point: SettingOut.of(setting) for point, setting in station.settings.items()},
            actions=sorted(station.actions),
            number=number,
            location="" if registered is None else registered.location,
            max_kw=None if max_w is None else max_w / _W_PER_KW,
            registered=registered is not None,
        )


class StationPage(Model):
    """A page of stations."""

    total: int
    page: int
    page_size: int
    items: list[StationOut]


class WishOut(Model):
    """What somebody wants of a station."""

    key: str
    origin: str
    status: Literal["on", "off"] | None
    limit_a: float | None
    reason: str
    since: str
    until: str | None

    @classmethod
    def of(cls, wish: Wish) -> "WishOut":
        """A wish as JSON."""
        return cls(
            key=wish.key,
            origin=wish.origin.name.lower(),
            status=None if wish.on is None else "on" if wish.on else "off",
            limit_a=wish.limit_a,
            reason=wish.reason,
            since=iso(wish.since_us),
            until=None if wish.until_us is None else iso(wish.until_us),
        )


class DecisionOut(Model):
    """What was decided about a station, from what, and what came of it."""

    time: str
    status: Literal["on", "off"] | None
    limit_a: float | None
    reason: str
    result: str
    winner: WishOut | None
    wishes: list[WishOut]
    inputs: dict[str, float | None] = Field(description="the values that it was made of, by signal")

    @classmethod
    def of(cls, decision: Decision) -> "DecisionOut":
        """A decision as JSON."""
        return cls(
            time=iso(decision.t_us),
            status=None if decision.on is None else "on" if decision.on else "off",
            limit_a=decision.limit_a,
            reason=decision.reason,
            result=decision.outcome,
            winner=None if decision.winner is None else WishOut.of(decision.winner),
            wishes=[WishOut.of(wish) for wish in decision.wishes],
            inputs=dict(decision.inputs),
        )


class DecisionsOut(Model):
    """The decisions about a station, newest first."""

    station: str
    items: list[DecisionOut]


class ResultOut(Model):
    """The one outcome of a command."""

    id: str
    outcome: Literal["done", "rejected", "failed", "expired", "superseded"]
    reason: str
    refusal: str | None
    data: dict[str, JsonValue] = Field(description="what the device answered, or what was set and read back")
    time: str

    @classmethod
    def of(cls, result: Result) -> "ResultOut":
        """A result as JSON."""
        return cls.model_validate(
            {
                "id": result.id,
                "outcome": result.outcome.value,
                "reason": result.reason,
                "refusal": None if result.refusal is None else result.refusal.value,
                "data": dict(result.data),
                "time": iso(result.t_us),
            }
        )


class StationChanged(Model):
    """What came of a change: the station as it is now, and the results."""

    station: StationOut
    results: list[ResultOut]


class JobOut(Model):
    """A schedule."""

    id: str
    cron: str | None = Field(description="minute hour day-of-month month day-of-week, in the site's time zone")
    every_s: float | None = Field(description="instead of cron")
    running: bool
    last: str | None = Field(description="when it was last due and done; null: not yet")
    next: str | None = Field(description="when it is due; null: never, or held because the clock was never set")
    results: list[ResultOut] = Field(description="what came of its last run by the clock since the gateway's start")

    @classmethod
    def of(cls, job: JobInfo) -> "JobOut":
        """A schedule as JSON."""
        return cls(
            id=job.id,
            cron=job.cron,
            every_s=job.every_s,
            running=job.running,
            last=None if job.last_us is None else iso(job.last_us),
            next=None if job.next_us is None else iso(job.next_us),
            results=[ResultOut.of(result) for result in job.results],
        )


class JobPage(Model):
    """A page of schedules."""

    total: int
    page: int
    page_size: int
    items: list[JobOut]


class JobRunOut(Model):
    """What came of each command of a schedule that was done out of turn."""

    id: str
    results: list[ResultOut]


class SessionOut(Model):
    """A charging session."""

    id: int
    device: str
    outlet: int
    remote_id: str = Field(description="the charger's own name of it, where it has one")
    id_tag: str = Field(description="hash of who charged; empty: nobody was asked")
    start: str
    stop: str | None = Field(description="null: it runs")
    energy_wh: float | None = Field(description="null: not known")
    start_wh: float | None = Field(description="the charger's register when it began")
    last_wh: float | None = Field(description="the register as last told")
    reason: str = Field(description="why it ended; empty: it runs, or was not told")

    @classmethod
    def of(cls, session: Session, tag_hash: Callable[[str], str]) -> "SessionOut":
        """A session as JSON; the id tag is shown as its hash."""
        return cls(
            id=session.id,
            device=session.device,
            outlet=session.outlet,
            remote_id=session.remote_id,
            id_tag=tag_hash(session.id_tag) if session.id_tag else "",
            start=iso(session.start_us),
            stop=None if session.stop_us is None else iso(session.stop_us),
            energy_wh=session.energy_wh,
            start_wh=session.start_wh,
            last_wh=session.last_wh,
            reason=session.reason,
        )


class SessionPage(Model):
    """A page of sessions, newest first."""

    total: int
    page: int
    page_size: int
    items: list[SessionOut]


class IdTagOut(Model):
    """An id tag; the tag itself is never shown."""

    id: str = Field(description="hash of the tag, as sessions and events show it")
    label: str
    status: str
    until: str | None
    parent: str = Field(description="hash of its group; empty: none")

    @classmethod
    def of(cls, tag: str, note: Mapping[str, object], tag_hash: Callable[[str], str]) -> "IdTagOut":
        """A note of kind ``id_tag`` as JSON."""
        until_us, parent = note.get("until_us"), note.get("parent")
        return cls(
            id=tag_hash(tag),
            label=str(note.get("label") or ""),
            status=str(note.get("status") or ""),
            until=iso(until_us) if isinstance(until_us, int) else None,
            parent=tag_hash(parent) if isinstance(parent, str) and parent else "",
        )


class IdTagPage(Model):
    """A page of id tags."""

    total: int
    page: int
    page_size: int
    items: list[IdTagOut]


class PendingOut(Model):
    """A charger that calls and is not let in."""

    charge_point_id: str
    address: str
    version: str
    reason: str
    first_seen: str
    last_seen: str
    boot: dict[str, JsonValue] = Field(description="what it says of itself: vendor, model, serial number, firmware")
    device: str = Field(description="the configured device that it says to be; it only lacks a proof then; or empty")
    connected: bool = Field(description="it waits now")
    contested: bool = Field(description="another one presented another proof under this id: look before you adopt")

    @classmethod
    def of(cls, charger: PendingCharger) -> "PendingOut":
        """A pending charger as JSON."""
        return cls(
            charge_point_id=charger.identity,
            address=charger.address,
            version=charger.version,
            reason=charger.reason,
            first_seen=iso(charger.first_us),
            last_seen=iso(charger.last_us),
            boot={
                key: value if isinstance(value, str | int | float) else str(value)
                for key, value in charger.boot.items()
            },
            device=charger.device,
            connected=charger.connected,
            contested=charger.contested,
        )


class PendingPage(Model):
    """A page of pending chargers."""

    total: int
    page: int
    page_size: int
    items: list[PendingOut]


class AdoptedOut(Model):
    """How a charger proves from now on who it is."""

    outcome: Literal["pinned", "set", "enter", "nothing"] = Field(
        description="it keeps the password that it presented; it was given one; one is to be entered; it needs none"
    )
    text: str = Field(description="the same for people")
    password: str = Field(description="to be entered at the charger, its id is the user name; shown this once")
    password_hex: str = Field(description="the same in hex, which some chargers want")

    @classmethod
    def of(cls, adopted: Adopted) -> "AdoptedOut":
        """As JSON."""
        return cls.model_validate(
            {
                "outcome": adopted.outcome,
                "text": adopted.text,
                "password": adopted.password,
                "password_hex": adopted.password_hex,
            }
        )


class DeviceWritten(Model):
    """The configuration's file has it; the gateway takes it within some seconds."""

    id: str
    driver: str
    adoption: AdoptedOut | None = Field(None, description="of a charger on OCPP: how it proves who it is")
