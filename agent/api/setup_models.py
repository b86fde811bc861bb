"""What the routes of set-up are sent and answer with."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, StringConstraints, model_validator

from agent.api.bodies import Body, DeviceEntry, JsonBody
from agent.api.models import Model
from agent.api.setup_view import (
    SCAN_KINDS,
    CheckFinding,
    DeviceEntryNow,
    FoundDevice,
    KindStatus,
    ProfileInfo,
    ScanKind,
    ScanState,
    ScanStatus,
    Severity,
    SiteNow,
    Trial,
)
from agent.api.times import iso

MAX_TEXT = 60_000
_MAX_PLACES = 64
_MAX_UNITS = 256

Place = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Places = Annotated[list[Place], Field(max_length=_MAX_PLACES)]


class SiteOut(Model):
    """The settings of the site as they count now."""

    id: str = Field(description="name of the site in topics and in the central database")
    name: str
    timezone: str = Field(description="IANA name, for schedules and daily totals")
    import_limit_a: float | None = Field(description="fuse of the grid connection per phase, in A; null: not said")
    power_return_s: float = Field(description="after a power cut stations wait at random up to this")
    editable: bool = Field(description="it can be changed here")
    read_only: str = Field(description="why the file can't be written here; empty: it can")
    locked: list[str] = Field(description="keys that the environment overrides: they can't be changed here")
    id_change: str = Field(description="what another id means; PATCH wants confirm_id: true with one")
    demo: bool = Field(description="`enlace demo` started this gateway: /api/demo answers")

    @classmethod
    def of(cls, site: SiteNow, *, demo: bool) -> "SiteOut":
        """As JSON."""
        return cls(
            id=site.id,
            name=site.name,
            timezone=site.timezone,
            import_limit_a=site.import_limit_a,
            power_return_s=site.power_return_s,
            editable=not site.read_only,
            read_only=site.read_only,
            locked=list(site.locked),
            id_change=site.id_change,
            demo=demo,
        )


class SiteChange(JsonBody):
    """Other settings of the site: what is absent stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Depot 7", "timezone": "America/Mexico_City", "import_limit_a": 63}]}
    )

    name: Annotated[str, StringConstraints(max_length=200)] | None = Field(None, description="name for people")
    timezone: Annotated[str, StringConstraints(max_length=100)] | None = Field(None, description="IANA name")
    import_limit_a: int | float | None = Field(None, description="fuse per phase, in A; null: there is none")
    power_return_s: int | float | None = Field(None, description="longest wait after a power cut, in s")
    id: Annotated[str, StringConstraints(max_length=100)] | None = Field(None, description="name of the site in topics")
    confirm_id: bool = Field(default=False, description="true: another id is meant, with all that GET says of it")

    def values(self) -> dict[str, object]:
        """The keys that are to be written; None takes one out."""
        return {key: getattr(self, key) for key in sorted(self.model_fields_set - {"confirm_id"})}

    @model_validator(mode="after")
    def _something(self) -> "SiteChange":
        empty = [key for key in ("id", "timezone") if key in self.model_fields_set and getattr(self, key) is None]
        if empty:
            raise ValueError(f"`{empty[0]}` can't be null")
        if not self.model_fields_set - {"confirm_id"}:
            raise ValueError("name what is to change")
        return self


class CheckFindingOut(Model):
    """Something that is wrong with a configuration, or worth a look."""

    severity: Severity = Field(description="error: it can't be used like this")
    where: str = Field(description="file:line:column; empty: the place does not matter")
    what: str = Field(description="what is wrong, or worth a look")
    hint: str = Field(description="what to do; empty: the rest says it")
    key: str = Field(description="of an entry: the key that it is about, dotted; empty: the whole")
    text: str = Field(description="the line that `enlace check` prints")

    @classmethod
    def of(cls, one: CheckFinding) -> "CheckFindingOut":
        """As JSON."""
        return cls(severity=one.severity, where=one.where, what=one.what, hint=one.hint, key=one.key, text=one.text)


class CheckOut(Model):
    """What `enlace check` says."""

    ok: bool = Field(description="no error is among them: it can be used")
    findings: list[CheckFindingOut] = Field(description="in the order of the file")


class CheckBody(JsonBody):
    """What is to be checked: a whole file, or a device."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"entry": {"id": "cp1", "driver": "ocpp", "charge_point_id": "CP-0001"}}]}
    )

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT)] | None = Field(None, description="the file's text")
    entry: DeviceEntry | None = Field(None, description="a device, as it would be added")
    replaces: str = Field("", max_length=100, description="with entry: the device in whose place it would stand")

    @model_validator(mode="after")
    def _one(self) -> "CheckBody":
        if (self.text is None) == (self.entry is None):
            raise ValueError("send either `text` or `entry`")
        return self


class ScanBody(Body):
    """Where to look for devices; what is absent means everywhere on this machine and in its own networks."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"kinds": ["modbus"], "hosts": ["10.0.0.21:502"]}]})

    kinds: Annotated[list[ScanKind], Field(min_length=1, max_length=len(SCAN_KINDS))] = Field(
        default=list(SCAN_KINDS), description="modbus: over TCP; serial: meters and Modbus on serial ports"
    )
    hosts: Places = Field(default=[], description="modbus: only these hosts, with :port where it is not 502")
    networks: Places = Field(default=[], description="modbus: only these networks, such as 192.168.1.0/24")
    ports: Places = Field(default=[], description="serial: only these ports")
    units: Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(max_length=_MAX_UNITS)] = Field(
        default=[], description="modbus: only these unit ids"
    )


class KindOut(Model):
    """How far the search of a kind is."""

    kind: ScanKind = Field(description="what is looked for")
    state: ScanState = Field(description="how it goes")
    detail: str = Field(description="what is tried now, or why it ended")
    done: int = Field(description="of total: hosts, ports or interfaces")
    total: int = Field(description="hosts, ports or interfaces to look at")
    left_s: float | None = Field(description="about how long the present step takes; null: not known")

    @classmethod
    def of(cls, one: KindStatus) -> "KindOut":
        """As JSON."""
        return cls(kind=one.kind, state=one.state, detail=one.detail, done=one.done, total=one.total, left_s=one.left_s)


class FoundOut(Model):
    """A device that was found."""

    kind: ScanKind = Field(description="how it was found")
    title: str = Field(description="what it is")
    text: str = Field(description="what it is and where, on one line")
    entry: dict[str, JsonValue] = Field(description="proposed for POST /api/devices")
    yaml: str = Field(description="the same as a line of the file")
    configured: bool = Field(description="it is in the configuration by now")
    ready: bool = Field(description="false: the name of its profile is not known and must be written")
    values: dict[str, str] = Field(description="some of what it reads, to be held against its display")
    known: dict[str, str] = Field(description="what it says of itself")
    alternatives: list[str] = Field(description="other profiles that fit")
    notes: list[str] = Field(description="what else is to be known, or done")

    @classmethod
    def of(cls, one: FoundDevice) -> "FoundOut":
        """As JSON."""
        return cls.model_validate(
            {
                "kind": one.kind,
                "title": one.title,
                "text": one.text,
                "entry": dict(one.entry),
                "yaml": one.yaml,
                "configured": one.configured,
                "ready": one.ready,
                "values": dict(one.values),
                "known": dict(one.known),
                "alternatives": list(one.alternatives),
                "notes": list(one.notes),
            }
        )


class ScanOut(Model):
    """A search for devices, or that there was none."""

    state: ScanState = Field(description="idle: there was none since the start")
    started: str | None = Field(description="when it began; null: there was none")
    ended: str | None = Field(description="when it ended; null: it has not")
    kinds: list[KindOut] = Field(description="one for each kind that is looked for")
    messages: list[str] = Field(description="what happened, the newest last")
    found: list[FoundOut] = Field(description="in the order in which they were found")

    @classmethod
    def of(cls, one: ScanStatus) -> "ScanOut":
        """As JSON."""
        return cls(
            state=one.state,
            started=None if one.started_us is None else iso(one.started_us),
            ended=None if one.ended_us is None else iso(one.ended_us),
            kinds=[KindOut.of(kind) for kind in one.kinds],
            messages=list(one.messages),
            found=[FoundOut.of(found) for found in one.found],
        )


class TestedValueOut(Model):
    """A value that a test has read."""

    point: str
    value: int | float
    unit: str
    label: str | None = Field(description="the value in words, for choices")


class TestedOut(Model):
    """What a test of a device came to."""

    ok: bool = Field(description="it was read")
    text: str = Field(description="what was read, or what is wrong")
    hint: str = Field(description="what to do about it; of what was read: values that can hardly be")
    values: list[TestedValueOut] = Field(description="what was read, at most 50")
    seconds: float = Field(description="how long it took")

    @classmethod
    def of(cls, one: Trial) -> "TestedOut":
        """As JSON."""
        values = [
            TestedValueOut(point=value.point, value=value.value, unit=value.unit, label=value.label)
            for value in one.values
        ]
        return cls(ok=one.ok, text=one.text, hint=one.hint, values=values, seconds=one.seconds)


class DeviceEntryOut(Model):
    """A device as it stands in the configuration, without secrets."""

    id: str
    entry: dict[str, JsonValue] = Field(description="its keys, for PUT /api/devices/{id}")
    yaml: str = Field(description="the same as a line of the file")
    editable: bool = Field(description="it can be changed here")
    reason: str = Field(description="why it can't be edited here; empty: it can")

    @classmethod
    def of(cls, device: str, one: DeviceEntryNow) -> "DeviceEntryOut":
        """As JSON."""
        fields = {"id": device, "entry": dict(one.entry), "yaml": one.yaml}
        return cls.model_validate({**fields, "editable": not one.locked, "reason": one.locked})


class ProfileOut(Model):
    """A device model."""

    name: str = Field(description="for `profile:` of a device")
    driver: Literal["can", "modbus"]
    kind: str = Field(description="charger, meter, inverter, battery or other")
    maker: str
    model: str
    title: str = Field(description="both, for people")
    needs: list[str] = Field(description="keys that an entry must have beside id, driver and profile")
    unit_id: int | None = Field(description="modbus: unit id as it leaves the factory")
    bitrate: int | None = Field(description="can: bit/s that it speaks; null: not known")
    own: bool = Field(description="it lies beside the site's configuration")

    @classmethod
    def of(cls, one: ProfileInfo) -> "ProfileOut":
        """As JSON."""
        return cls(
            name=one.name,
            driver=one.driver,
            kind=one.kind,
            maker=one.maker,
            model=one.model,
            title=f"{one.maker} {one.model}".strip(),
            needs=list(one.needs),
            unit_id=one.unit_id,
            bitrate=one.bitrate,
            own=one.own,
        )


class ProfilePage(Model):
    """A page of device models."""

    total: int
    page: int
    page_size: int
    items: list[ProfileOut]


class SchemaOut(Model):
    """JSON schemas (2020-12) for forms."""

    site: dict[str, JsonValue] = Field(description="of the section `site:`")
    devices: dict[str, dict[str, JsonValue]] = Field(description="of the entries of `devices:`, by driver")
