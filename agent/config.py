"""The typed configuration of a site: one YAML file, every key documented here, unknown ones refused.

Secrets never stand in it: they are read from files (``password_file``). Every scalar outside of ``devices`` can be
overridden from the environment: ``uplink.broker`` by ``ENLACE_UPLINK_BROKER``, and so on (``env_names``).
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args, get_origin
from zoneinfo import available_timezones

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from agent.config_api import Api
from agent.config_control import (
    Alarm,
    AlarmSet,
    Channel,
    EventBackend,
    LoadManagement,
    Rule,
    Schedule,
    StationSwitching,
)
from agent.config_energy import InsightSection, TariffSection
from agent.config_ocpp import OcppKeys, OcppSection, linkable
from agent.control.registered import may_be_registered
from agent.core.errors import ConfigError
from agent.credentials import NamedFile
from agent.yamlfile import Document, Json, Problem, Section, complaint, parse, read_text
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.signed import Commander
from drivers.modbus.settings import ModbusUrl
from drivers.serial_meter.settings import MeterSettings

#: Fit for a topic level, a file name and a name in a rule.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Positive = Annotated[float, Field(gt=0)]
#: Alarms count in multiples of it, and a poller waits that long for its timer: neither may be endless.
Period = Annotated[float, Field(gt=0, le=86_400)]
Patience = Annotated[float, Field(gt=0, le=60)]
Place = tuple[int | str, ...]

#: M-Bus addresses have one byte.
MAX_ADDRESS = 255
#: The profile of devices that say themselves what they have.
SUNSPEC = "sunspec"
#: The device that this gateway itself is, with its disk, clock and uplink.
OWN_DEVICE = "gateway"
ENV_PREFIX = "ENLACE_"
#: Variables that are no configuration key: they are read by the command line.
ENV_OTHER = {"ENLACE_CONFIG", "ENLACE_DEMO_CONTROL", "ENLACE_TOKEN"}


class Site(Section):
    """Where this gateway stands."""

    id: Id = Field(description="name of the site in topics and in the central database")
    name: str = Field("", description="name for people")
    timezone: str = Field("UTC", description="IANA name, for schedules and daily totals")
    import_limit_a: Positive | None = Field(None, description="fuse of the grid connection per phase, in A")
    power_return_s: Annotated[float, Field(ge=0, le=1800)] = Field(
        600, description="after a power cut each station that draws nothing waits, at random up to this; 0: no wait"
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise complaint(f"`{value}` is no known time zone", "write an IANA name such as America/Mexico_City")
        return value


class Report(Section):
    """Report by exception: which readings of a device are kept."""

    deadband: Annotated[float, Field(ge=0)] | None = Field(
        None, description="smallest change that counts, in the signal's unit; absent: every change"
    )
    min_interval_s: Annotated[float, Field(ge=0)] = Field(0, description="at most one value in this time")
    max_interval_s: Positive = Field(60, description="an unchanged value that is still being read is kept this often")
    every: bool = Field(False, description="keep every reading, changed or not")

    @model_validator(mode="after")
    def _fits(self) -> "Report":
        if self.max_interval_s < self.min_interval_s:
            raise complaint("max_interval_s is below min_interval_s", "make it longer, or the other one shorter")
        if self.every and (self.deadband is not None or self.min_interval_s):
            raise complaint("every: true keeps all readings", "delete `deadband` and `min_interval_s`, or `every`")
        return self


class CanDevice(Section):
    """A device on a CAN bus, decoded by a profile or by DBC files."""

    id: Id = Field(description="name of the device, unique on the site")
    driver: Literal["can"] = Field(description="always can")
    name: str = Field("", description="name for people")
    channel: str = Field(description="the bus: can0; for other interfaces what python-can calls channel")
    interface: str = Field("socketcan", description="socketcan, or any interface that python-can knows")
    profile: str | None = Field(None, description="a device model of config/profiles, or the path of one")
    dbc: tuple[str, ...] = Field((), description="DBC files instead of a profile, or on top of it")
    keep_unmapped: bool | None = Field(
        None, description="also keep the DBC signals that the profile maps to no point; default: what the profile says"
    )
    bitrate: Annotated[int, Field(gt=0)] | None = Field(None, description="bit/s, for interfaces that set it")
    fd: bool = Field(False, description="CAN FD frames are read too")
    stale_after_s: Positive | None = Field(None, description="silence that makes values invalid; default: 3 cycles")
    frozen_after_s: Positive = Field(5, description="how long an alive counter may stand still")
    source_address: Annotated[int, Field(ge=0, le=253)] | None = Field(
        None, description="J1939 address of the device, where several send the same messages"
    )
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="passed on to python-can's interface"
    )
    report: Report = Field(Report(), description="which readings are kept")

    @field_validator("dbc", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        # What such a validator returns is no longer read as JSON: a list must become a tuple here.
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _has_decoder(self) -> "CanDevice":
        if not self.profile and not self.dbc:
            raise complaint("nothing says how to decode it", "add `profile:` (a device model) or `dbc:` (DBC files)")
        return self


class ModbusDevice(Section):
    """A charger, meter, inverter or battery on Modbus TCP or RTU, known by a profile."""

    id: Id = Field(description="name of the device, unique on the site")
    driver: Literal["modbus"] = Field(description="always modbus")
    name: str = Field("", description="name for people")
    profile: str = Field(description="a device model of config/profiles, the path of one, or sunspec")
    url: str = Field(
        description="tcp://host:502, rtu:///dev/ttyUSB0?baud=9600&parity=N&stopbits=1, "
        "or rtu+tcp://host:port for RTU frames through a serial server"
    )
    unit_id: Annotated[int, Field(ge=0, le=255)] | None = Field(
        None, description="unit (slave) address; default: what the profile says"
    )
    part: Literal["inverter", "meter", "battery"] | None = Field(
        None, description="sunspec: which of several devices behind one unit id; default: the first that measures"
    )
    every_s: Period | None = Field(None, description="how often it is read; default: what the profile says")
    timeout_s: Patience | None = Field(None, description="how long an answer may take; default: what the profile says")
    report: Report = Field(Report(), description="which readings are kept")

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        return linkable(value, lambda: ModbusUrl.parse(value))

    @model_validator(mode="after")
    def _fits(self) -> "ModbusDevice":
        if self.part is not None and self.profile != SUNSPEC:
            raise complaint("`part:` is for `profile: sunspec`", "delete it")
        return self


class SerialMeterDevice(Section):
    """A meter that pushes telegrams or is asked for them, on a serial line."""

    id: Id = Field(description="name of the device, unique on the site")
    driver: Literal["serial_meter"] = Field(description="always serial_meter")
    name: str = Field("", description="name for people")
    protocol: Literal["dsmr", "sml", "d0", "mbus"] = Field(
        description="dsmr (P1 port), sml (optical head), d0 (IEC 62056-21) or mbus (EN 13757)"
    )
    port: str = Field(description="/dev/serial/by-id/…, /dev/tty…, or socket://host:port of a serial server")
    baud: Annotated[int, Field(ge=50, le=4_000_000)] | None = Field(
        None,
        description="bit/s; default: dsmr 115200 (DSMR 2.2 and 3 need 9600), sml and d0 9600, d0 with `request` 300, "
        "mbus 2400",
    )
    framing: Literal["8N1", "7E1", "8E1", "8N2", "8O1", "7O1"] | None = Field(
        None,
        description="data bits, parity, stop bits; default: dsmr 8N1 (DSMR 2.2 and 3 need 7E1), sml 8N1, d0 7E1, "
        "mbus 8E1",
    )
    request: bool | None = Field(
        None, description="d0: ask for readouts (modes A to C) instead of waiting for them; default: false"
    )
    every_s: Period | None = Field(None, description="mbus, and d0 with `request`: how often it is asked; default 60")
    address: str | None = Field(
        None,
        description="mbus: primary address (0 to 250; 254 where it is alone) or secondary one (16 hex digits); "
        "d0: device address",
    )
    key_file: NamedFile | None = Field(
        None, description="dsmr: file with the decryption key of an encrypted port, 32 hex"
    )
    auth_key_file: NamedFile | None = Field(
        None, description="dsmr: file with the authentication key, where there is one"
    )
    keep_unmapped: bool = Field(False, description="also keep numbers that are no point of ours, under their codes")
    stale_after_s: Positive | None = Field(None, description="silence that makes values invalid; default: 3 periods")
    report: Report = Field(Report(), description="which readings are kept")

    @field_validator("address", mode="before")
    @classmethod
    def _primary(cls, value: object) -> object:
        """A small number is written without quotes; in a long one leading zeros would be lost."""
        return str(value) if type(value) is int and 0 <= value <= MAX_ADDRESS else value

    @model_validator(mode="after")
    def _fits(self) -> "SerialMeterDevice":
        return linkable(self, self.settings)

    def settings(self) -> MeterSettings:
        """What ``drivers/serial_meter`` is given. Raises ``ConfigError`` for keys that don't fit together."""
        return MeterSettings(
            device=self.id,
            protocol=self.protocol,
            port=self.port,
            baud=self.baud,
            framing=self.framing,
            request=bool(self.request),
            every_s=self.every_s,
            address=self.address,
            key_file=self.key_file,
            auth_key_file=self.auth_key_file,
            keep_unmapped=self.keep_unmapped,
            stale_after_s=self.stale_after_s,
        )


class OcppDevice(OcppKeys):
    """A charger that calls us over OCPP (section `ocpp:`)."""

    id: Id = Field(description="name of the device, unique on the site")
    driver: Literal["ocpp"] = Field(description="always ocpp")
    name: str = Field("", description="name for people")
    report: Report = Field(Report(), description="which readings are kept")

    @model_validator(mode="after")
    def _fits(self) -> "OcppDevice":
        return linkable(self, lambda: self.charger(self.id))


#: One more driver = one more class here.
DEVICES = (CanDevice, ModbusDevice, SerialMeterDevice, OcppDevice)
Device = Annotated[CanDevice | ModbusDevice | SerialMeterDevice | OcppDevice, Field(discriminator="driver")]


class StoreSection(Section):
    """How much is kept, and for how long."""

    commit_s: Positive = Field(1, description="telemetry is committed in groups, this often")
    max_bytes: Annotated[int, Field(ge=16 * 2**20)] | None = Field(
        None, description="quota of the database file; absent: 80 % of what the disk has free"
    )
    keep_raw_days: Positive = Field(90, description="raw readings")
    keep_minutes_days: Positive = Field(730, description="1 min roll-ups")
    keep_hours_days: Positive = Field(7300, description="1 h roll-ups")


TopicLevel: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[^+#/\s]+$")]


class CommanderSection(Section):
    """One who may command from afar. Two entries may have one name: the key that is going and the one that comes."""

    name: Id = Field(description="how the audit calls who holds the key")
    public_key: str = Field(description="Ed25519, as `enlace keys` prints it, or the middle line of a PEM file")

    @model_validator(mode="after")
    def _fits(self) -> "CommanderSection":
        return linkable(self, self.commander)

    def commander(self) -> Commander:
        """What ``cloud_sync`` is given. Raises ``ConfigError`` for what is no key."""
        return Commander(self.name, self.public_key)


class UplinkSection(Section):
    """The central server, over MQTT."""

    broker: str = Field(description="mqtt://host:1883 or mqtts://host:8883; of a cluster several, with commas")
    root: Annotated[str, StringConstraints(pattern=r"^[^+#/\s][^+#\s]*$")] = Field("enlace", description="first topic")
    payload: Literal["json", "json+zlib", "blocks", "sparkplug"] = Field("json", description="how telemetry is sent")
    client_id: str | None = Field(None, description="MQTT client id; default: root-site")
    username: str | None = Field(None, description="for brokers that ask for one")
    password_file: NamedFile | None = Field(
        None, description="file that holds the password and nothing else; paths count from this file's folder"
    )
    ca_file: NamedFile | None = Field(
        None, description="PEM file of the authority that signed the broker's certificate"
    )
    cert_file: NamedFile | None = Field(None, description="PEM file of this gateway's certificate")
    key_file: NamedFile | None = Field(None, description="PEM file of its key, without a password")
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = Field(30, description="MQTT keep-alive")
    commands: Literal["auto", "yes", "no"] = Field(
        "auto", description="take commands; auto: signed ones, or from a broker over mqtts or on this machine only"
    )
    commanders: tuple[CommanderSection, ...] = Field(
        (), description="whose signature a command needs, see docs/mqtt.md; empty: none is asked for"
    )
    configure: Literal["yes", "no"] = Field(
        "no", description="take changes of this configuration as commands, see docs/remote-configuration.md"
    )
    confirm: Literal["auto", "ack", "puback"] = Field(
        "auto",
        description="whose word moves the cursor: the central server's, or the broker's; auto: see docs/mqtt.md",
    )
    sparkplug_group: TopicLevel | None = Field(None, description="Sparkplug B's group id; default: root")
    sparkplug_host: TopicLevel | None = Field(
        None, description="Sparkplug B's primary host: nothing is sent while its STATE says that it is offline"
    )

    @field_validator("broker")
    @classmethod
    def _url(cls, value: str) -> str:
        return linkable(value, lambda: LinkSettings(url=value, client_id=""))

    @model_validator(mode="after")
    def _fits(self) -> "UplinkSection":
        linkable(self, lambda: self.settings("site"))
        if self.configure == "yes" and not self.settings("site").takes_commands:
            raise complaint("`configure: yes` needs commands, and none are taken", "use mqtts://, or delete it")
        return self

    def settings(self, site: str, base: Path = Path()) -> UplinkSettings:
        """What ``cloud_sync`` is given; relative paths count from ``base``, the configuration's folder.

        Raises ``ConfigError`` for keys that don't fit together.
        """

        def based(path: Path | None) -> Path | None:
            return None if path is None else base / path

        return UplinkSettings(
            broker_url=self.broker,
            site=site,
            root=self.root,
            payload=self.payload,
            client_id=self.client_id or "",
            username=self.username or "",
            password_file=based(self.password_file),
            ca_file=based(self.ca_file),
            cert_file=based(self.cert_file),
            key_file=based(self.key_file),
            keepalive_s=self.keepalive_s,
            commands=self.commands,
            confirm=self.confirm,
            sparkplug_group=self.sparkplug_group or "",
            sparkplug_host=self.sparkplug_host or "",
            commanders=tuple(one.commander() for one in self.commanders),
        )


class Log(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severity that is logged")


class Config(Section):
    """The whole file."""

    data_dir: Path = Field(Path("/var/lib/enlace"), description="the database and all state")
    site: Site
    api: Api = Field(Api(), description="the local HTTP API")
    ocpp: OcppSection | None = Field(
        None, description="the local central system for chargers; absent: with its defaults where a device needs it"
    )
    devices: tuple[Device, ...] = Field((), description="what stands on the site; may be empty")
    stations: tuple[StationSwitching, ...] = Field((), description="those whose contactors differ from the usual")
    schedules: tuple[Schedule, ...] = Field((), description="what is done by the clock")
    alarms: tuple[Alarm, ...] = Field((), description="what people are told of, and what stops stations meanwhile")
    alarm_sets: tuple[AlarmSet, ...] | None = Field(
        None, description="ready-made alarms; absent: all that fit the devices, without acting on stations; []: none"
    )
    rules: tuple[Rule, ...] = Field((), description="what is done with stations while a condition holds")
    notify: tuple[Channel, ...] = Field((), description="who is told of alarms, beside MQTT")
    load_management: LoadManagement | None = Field(
        None, description="shares what the grid connection has left among the stations; absent: nobody does"
    )
    event_backend: EventBackend | None = Field(
        None, description="a server that knows timed events; absent: only those made here"
    )
    tariff: TariffSection | None = Field(None, description="what energy costs; absent: figures without money")
    insight: InsightSection = Field(InsightSection(), description="what recommendations should know of the site")
    store: StoreSection = Field(StoreSection(), description="what is kept, and for how long")
    uplink: UplinkSection | None = Field(None, description="the central server; absent: none")
    log: Log = Field(Log(), description="logging")

    @model_validator(mode="after")
    def _unique_ids(self) -> "Config":
        seen: set[str] = set()
        for number, device in enumerate(self.devices):
            at = "devices", number, "id"
            if device.id in seen:
                raise complaint(f"two devices are called `{device.id}`", "give each device an id of its own", at)
            if device.id == OWN_DEVICE:
                raise complaint(
                    f"no device can be called `{OWN_DEVICE}`: that is this gateway", "give it another id", at
                )
            if may_be_registered(device.id):
                text = f"no device can be called `{device.id}`: so are stations called that people register"
                raise complaint(text, "give it another id", at)
            seen.add(device.id)
        identities: dict[str, str] = {}
        for number, device in enumerate(self.devices):
            if isinstance(device, OcppDevice):
                other = identities.setdefault(device.charge_point_id, device.id)
                if other != device.id:
                    text = f"`{other}` and `{device.id}` have the same charge_point_id"
                    hint = "each charger has its own: see its settings, or `enlace scan ocpp`"
                    raise complaint(text, hint, ("devices", number, "charge_point_id"))
        _once("schedules", [(("schedules", place, "id"), one.id) for place, one in enumerate(self.schedules)])
        watched_once(self.alarms, self.rules)
        _once("channels", [(("notify", place, "id"), one.id) for place, one in enumerate(self.notify)])
        _one_entry([(("stations", place, "station"), one.station) for place, one in enumerate(self.stations)])
        parts, inside = self.load_management.stations if self.load_management else (), ("load_management", "stations")
        _one_entry([((*inside, place, "station"), one.station) for place, one in enumerate(parts)])
        return self

    @model_validator(mode="after")
    def _named_ones_exist(self) -> "Config":
        channels = {one.id for one in self.notify}
        for number, alarm in enumerate(self.alarms):
            for name in alarm.notify or ():
                if name not in channels:
                    at = "alarms", number, "notify"
                    raise complaint(f"alarm `{alarm.id}` tells `{name}`", "add that channel under `notify:`", at)
        devices = {one.id for one in self.devices}
        if self.insight.grid is not None and self.insight.grid not in devices:
            text = f"insight names `{self.insight.grid}`: there is no such device"
            raise complaint(text, "add it, or name another", ("insight", "grid"))
        load = self.load_management
        if load is None:
            return self
        if self.site.import_limit_a is None:
            text = "load management needs the limit that it keeps"
            raise complaint(text, "add `import_limit_a:` under `site:`", ("load_management",))
        for name in (load.meter, *load.batteries, *(one.station.partition(".")[0] for one in load.stations)):
            if name not in devices:
                text = f"load management names `{name}`: there is no such device"
                raise complaint(text, "add it, or name another", ("load_management",))
        return self


def watched_once(alarms: Sequence[Alarm], rules: Sequence[Rule]) -> None:
    """Raise a complaint where two of a file's ``alarms:`` and ``rules:`` are called the same."""
    named = [(("alarms", place, "id"), one.id) for place, one in enumerate(alarms)]
    _once("rules or alarms", [*named, *((("rules", place, "id"), one.id) for place, one in enumerate(rules))])


def _once(what: str, names: Iterable[tuple[Place, str]]) -> None:
    """``names``: with where each stands in the file."""
    for place, name in _repeated(names):
        raise complaint(f"two {what} are called `{name}`", "give each an id of its own", place)


def _one_entry(stations: Iterable[tuple[Place, str]]) -> None:
    for place, station in _repeated(stations):
        raise complaint(f"`{station}` has an entry here already", "keep one of the two", place)


def _repeated(names: Iterable[tuple[Place, str]]) -> Iterator[tuple[Place, str]]:
    """Those that stand further up too."""
    seen: set[str] = set()
    for place, name in names:
        if name in seen:
            yield place, name
        seen.add(name)


@dataclass(frozen=True, slots=True)
class Reading:
    """A file that was read: its configuration (None when it can't be used), all problems, and the places in it."""

    config: Config | None
    problems: tuple[Problem, ...]
    document: Document | None


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a file and the environment. Raises ``ConfigError`` with every problem, one per line."""
    reading = read_config(path, environ)
    if reading.config is None:
        raise ConfigError(f"read {path}", "\n" + "\n".join(map(str, reading.problems)))
    return reading.config


def read_config(path: Path, environ: Mapping[str, str] | None = None) -> Reading:
    """The configuration, or all problems of the file and of the environment.

    ``environ`` is the process's environment over the lines of a file ``.env`` in the working directory, unless given.
    Raises ``ConfigError`` when the file can't be read at all.
    """
    return read_config_text(read_text(path), str(path), environ)


def read_config_text(text: str, name: str, environ: Mapping[str, str] | None = None) -> Reading:
    """The same of a text. ``name`` is the file's, for the problems."""
    document, problems = parse(text, name)
    if document is None:
        return Reading(None, tuple(problems), None)
    problems = _override(document, dotenv(Path(".env")) | dict(os.environ) if environ is None else environ)
    config, found = document.check(Config)
    return Reading(None if problems else config, (*problems, *found), document)


def dotenv(path: Path) -> dict[str, str]:
    """``KEY=value`` lines of a file; empty where there is none. Quotes around a value are taken off, and ``export``.

    Raises ``ConfigError`` for one that can't be read.
    """
    if not path.is_file():
        return {}
    pairs = (line.partition("=") for line in read_text(path).splitlines() if not line.lstrip().startswith("#"))
    return {_variable(key): value.strip().strip("'\"") for key, equals, value in pairs if equals}


def _variable(key: str) -> str:
    return key.strip().removeprefix("export ").lstrip()


def env_names() -> dict[str, tuple[str, ...]]:
    """Each environment variable and the key that it overrides."""
    return {ENV_PREFIX + "_".join(path).upper(): path for path, _ in scalars(Config)}


def scalars(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key of a model and of its sections that holds one value, with its field; lists are left out."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        if any(get_origin(kind) is tuple for kind in kinds):
            continue
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        if section is not None:
            yield from scalars(section, (*path, name))
        else:
            yield (*path, name), field


def _override(document: Document, environ: Mapping[str, str]) -> list[Problem]:
    """Put the values of the environment into the document; a problem for each that can't be put."""
    fields = {ENV_PREFIX + "_".join(path).upper(): (path, field) for path, field in scalars(Config)}
    problems: list[Problem] = []
    for variable in sorted(name for name in environ if name.startswith(ENV_PREFIX) and name not in ENV_OTHER):
        if variable not in fields:
            problems.append(Problem("environment", 0, 0, f"{variable} overrides no key", "see docs/configuration.md"))
            continue
        path, field = fields[variable]
        annotated: type[object] = Annotated[field.annotation, field]  # type: ignore[assignment]
        adapter = TypeAdapter(annotated)
        try:
            value: Json = adapter.dump_python(adapter.validate_strings(environ[variable]), mode="json")
        except ValidationError as error:
            problems.append(Problem("environment", 0, 0, f"{variable}: {error.errors()[0]['msg']}"))
            continue
        _put(document, path, value)
    return problems


def _put(document: Document, path: tuple[str, ...], value: Json) -> None:
    place = document.data
    for key in path[:-1]:
        if not isinstance(place, dict):
            return
        place = place.setdefault(key, {})
    if isinstance(place, dict):
        place[path[-1]] = value
