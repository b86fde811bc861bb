"""What the API is sent. Unknown keys are refused, and so is what has the wrong type (``"16"`` for 16)."""

import json
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    field_validator,
    model_validator,
)

from agent.api.times import parse_time
from agent.control.model import DEFAULT_TTL_S, MAX_TTL_S

MAX_DEPTH = 8
_ON = ("on", "active", "activo")

RoleName = Literal["viewer", "operator", "admin"]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Text = Annotated[str, StringConstraints(max_length=200)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Ampere = Annotated[float, Field(ge=0, le=10_000)]
SwitchWord = Literal["on", "off", "active", "inactive", "activo", "inactivo"]
#: OCPP 2.0.1 part 2, IdTokenType: at most 36 characters; 1.6 has 20. Printable ASCII, as both ask for.
Tag = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,36}$")]


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("one line of text")
    return text


def _name(text: str) -> str:
    if text.isspace():
        raise ValueError("more than blanks")
    return _line(text)


StationName = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_name)]
StationPlace = Annotated[str, StringConstraints(max_length=200), AfterValidator(_line)]
StationKw = Annotated[float, Field(gt=0, le=100_000)]


def _switch(word: str) -> str:
    return "on" if word in _ON else "off"


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _plain(value: JsonValue, depth: int = 0) -> JsonValue:
    """The value, when it is not too deep and all its text can be written."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, each in value.items():
            _plain(key, depth)
            _plain(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _plain(each, depth + 1)
    elif isinstance(value, str):
        value.encode()  # a UnicodeEncodeError is a ValueError
    elif value is not None:
        json.dumps(value, allow_nan=False)
    return value


class JsonBody(Body):
    """A body with JSON of any kind somewhere in it."""

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, value: object) -> object:
        if isinstance(value, dict):
            _plain(value, -1)
        return value


class Credentials(Body):
    """A log-in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"username": "ana", "password": "a few words of mine"}]})

    username: UserName
    password: Password
    cookie: bool = Field(False, description="for browsers: an HttpOnly cookie instead of tokens")


class SetUp(Credentials):
    """The first admin."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"code": "K7QF-2M9X-0ZHT-51WD", "username": "ana", "password": "a few words of mine"}]
        }
    )

    code: Annotated[str, StringConstraints(max_length=64)] = Field(description="from the gateway's log")


class Refresh(Body):
    """A refresh token."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "Kx3…"}]})

    refresh_token: Annotated[str, StringConstraints(max_length=200)]


class PasswordChange(Body):
    """Another password for oneself."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"old": "a few words of mine", "new": "other words of mine"}]}
    )

    old: Password
    new: Password


class NewUser(Body):
    """Another user."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "luis", "password": "a few words of his", "role": "operator"}]}
    )

    username: UserName
    password: Password
    role: RoleName


class UserChange(Body):
    """What is to change of a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "operator"}]})

    role: RoleName | None = None
    password: Password | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "UserChange":
        if self.role is None and self.password is None:
            raise ValueError("nothing is to change: add role or password")
        return self


class NewToken(Body):
    """An API token for a machine."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(examples=["grafana"])


class NewStation(Body):
    """A station to register: it has no wire to this gateway."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Lot 4", "location": "North yard", "max_kw": 22, "status": "on"}]}
    )

    name: StationName
    location: StationPlace = ""
    max_kw: StationKw | None = Field(None, description="what it can deliver")
    status: SwitchWord = "on"

    @property
    def switch(self) -> str:
        """``on`` or ``off``."""
        return _switch(self.status)


class StationChange(Body):
    """What is wanted of a station, by hand; of a registered one also its name, its place and what it can give."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "on", "limit_a": 16, "for_s": 3600}]})

    status: SwitchWord | None = None
    limit_a: Ampere | None = Field(None, description="what it may draw per phase, in A")
    for_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = Field(
        None, description="for so long; absent: until somebody says otherwise"
    )
    name: StationName | None = None
    location: StationPlace | None = None
    max_kw: StationKw | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "StationChange":
        if self.status is None and self.limit_a is None and not self.describes:
            raise ValueError("nothing is wanted: add status, limit_a; or name, location, max_kw")
        return self

    @property
    def describes(self) -> bool:
        """Whether it says what a registered station is."""
        return not (self.name is None and self.location is None and self.max_kw is None)

    @property
    def switch(self) -> str | None:
        """``on``, ``off`` or nothing."""
        return None if self.status is None else _switch(self.status)


class StationCommand(JsonBody):
    """A command to a station."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"action": "limit", "args": {"limit_a": 10}}]})

    action: Name = Field(description="on, off, limit, release, or one of the charger's actions")
    args: dict[str, JsonValue] = Field(default_factory=dict)
    ttl_s: Annotated[float, Field(gt=0, le=MAX_TTL_S)] = Field(DEFAULT_TTL_S, description="do it so soon or not at all")
    id: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,100}$")] | None = Field(
        None, description="the same id is never done twice; absent: one is made"
    )


class CommandEnvelope(StationCommand):
    """A command, as it also comes over MQTT."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": "a1", "target": "cp1", "action": "limit", "args": {"limit_a": 10}, "ttl_s": 30}]
        }
    )

    target: Name = Field(description="a station or device")
    issued_at: str | None = Field(None, max_length=40, description="ISO 8601 with an offset, or seconds since 1970")

    @field_validator("issued_at")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            parse_time(value)
        return value


class DeviceEntry(JsonBody):
    """A device as it stands in the configuration: ``id``, ``driver``, and what the driver wants."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-0001"}]}
    )

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    driver: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]


class IdTagFields(Body):
    """What is known of an id tag."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "Van 3", "status": "Blocked"}]})

    label: Annotated[Text, AfterValidator(_line)] = Field("", description="whose it is, in words")
    status: Literal["Accepted", "Blocked"] = "Accepted"
    until: str | None = Field(None, max_length=40, description="not after this time; absent: for ever")
    parent: Tag | None = Field(None, description="its group: one tag of a group may end what another began")

    @field_validator("until")
    @classmethod
    def _time(cls, value: str | None) -> str | None:
        if value is not None:
            parse_time(value)
        return value


class IdTag(IdTagFields):
    """An id tag."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tag": "04A2B3C4D5E6F7", "label": "Van 3"}]})

    tag: Tag


class JobRun(Body):
    """Which schedule is to be done now."""

    id: Name = Field(examples=["night_off"])
