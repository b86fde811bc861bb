"""The configuration's sections about OCPP: the local central system, and its chargers."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from agent.core.errors import ConfigError
from agent.credentials import NamedFile
from agent.yamlfile import Section, complaint
from drivers.codec.ocpp_model import Version
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint

Positive = Annotated[float, Field(gt=0)]
#: What stands at the end of a charger's URL (OCPP-J 1.6, 3.1.1); 2.0.1 allows 48 characters.
ChargePointId = Annotated[str, StringConstraints(pattern=r"^[^\s/?#%]{1,48}$")]

MAX_PORT = 65535


class OcppCertificate(Section):
    """A server certificate."""

    cert_file: NamedFile = Field(description="PEM file: the certificate and those between it and the authority")
    key_file: NamedFile = Field(description="PEM file of its key")


class OcppSection(Section):
    """The local central system (CSMS) of the chargers that speak OCPP."""

    listen: str = Field("0.0.0.0:9000", description="address and port; port 0 takes a free one and logs it")
    security_profile: Annotated[int, Field(ge=0, le=3)] = Field(
        1,
        description="1 password; 2 password over TLS; 3 TLS with client certificates; 0 no proof at all, for closed "
        "networks only",
    )
    certificates: tuple[OcppCertificate, ...] = Field(
        (), description="profiles 2 and 3: one with an ECDSA and one with an RSA key; absent: made here, in data_dir"
    )
    client_ca_file: NamedFile | None = Field(
        None, description="profile 3: PEM file of who signs the chargers' certificates, beside this gateway itself"
    )
    legacy_tls: bool = Field(False, description="also cipher suites without forward secrecy, for old 1.6 chargers")
    unknown: Literal["pending", "refuse"] = Field(
        "pending", description="chargers that are not configured: kept waiting and shown for adoption, or refused"
    )
    without_subprotocol: Literal["refuse", "ocpp1.6", "ocpp2.0.1"] = Field(
        "refuse", description="what a charger speaks that offers no subprotocol"
    )
    id_tags: Literal["known", "any"] = Field("known", description="who may charge: known id tags, or anybody")
    heartbeat_s: Annotated[int, Field(ge=5, le=86400)] = Field(60, description="chargers send heartbeats this often")
    sample_s: Annotated[int, Field(ge=1, le=3600)] = Field(10, description="chargers send meter values this often")
    ping_s: Positive = Field(30, description="WebSocket pings; a charger that answers none is taken as gone")
    call_timeout_s: Positive = Field(30, description="how long a charger may take to answer")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT:
            raise complaint(f"`{value}` is no address", "write address:port, such as 0.0.0.0:9000")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "OcppSection":
        if self.security_profile < 2 and (self.certificates or self.client_ca_file):  # noqa: PLR2004
            raise complaint(f"profile {self.security_profile} has no TLS", "raise it, or delete the certificates")
        return self

    def settings(self, data_dir: Path, timezone: str) -> CentralSettings:
        """What ``drivers/ocpp`` is given."""
        host, _, port = self.listen.rpartition(":")
        endpoint = Endpoint(
            host=host.removeprefix("[").removesuffix("]"),
            port=int(port),
            profile=self.security_profile,
            certificates=tuple((one.cert_file, one.key_file) for one in self.certificates),
            client_ca_file=self.client_ca_file,
            legacy_tls=self.legacy_tls,
        )
        spoken = self.without_subprotocol
        return CentralSettings(
            endpoint=endpoint,
            data_dir=data_dir,
            unknown=self.unknown,
            without_subprotocol=None if spoken == "refuse" else Version(spoken),
            id_tags=self.id_tags,
            timezone=timezone,
            heartbeat_s=self.heartbeat_s,
            sample_s=self.sample_s,
            ping_s=self.ping_s,
            call_timeout_s=self.call_timeout_s,
        )


class OcppKeys(Section):
    """What a charger on OCPP has beside the keys that all devices have."""

    charge_point_id: ChargePointId = Field(description="the last part of the URL under which it calls")
    connectors: Annotated[int, Field(ge=1, le=64)] = Field(1, description="outlets (1.6: connectors, 2.0.1: EVSEs)")
    version: Literal["ocpp1.6", "ocpp2.0.1", "ocpp2.1"] | None = Field(
        None, description="what it must speak; absent: the best that it offers"
    )
    profile: str | None = Field(
        None, description="a model of config/profiles/ocpp; absent: the one that its vendor and model match"
    )
    password_file: NamedFile | None = Field(
        None, description="file with its password; absent: the one that was set when it was adopted"
    )
    security_profile: Annotated[int, Field(ge=0, le=3)] | None = Field(
        None, description="0 lets this charger in without a password on a port of profile 1"
    )
    phases: Literal[1, 2, 3] = Field(3, description="phases that it is connected to")
    max_current_a: Positive = Field(32, description="highest current per phase of an outlet's installation")
    min_current_a: Positive = Field(6, description="lowest current that it can offer (IEC 61851-1: 6 A)")
    safe_limit_a: Annotated[float, Field(ge=0)] = Field(
        6, description="what an outlet may draw when nobody tells it otherwise; installed before it is used"
    )
    off: Literal["suspend", "stop"] = Field(
        "suspend", description="switched off: the vehicle waits with 0 A, or its session is ended"
    )

    def charger(self, device: str) -> ChargerSettings:
        """What ``drivers/ocpp`` is given. Raises ``ConfigError`` for keys that don't fit together."""
        return ChargerSettings(
            device=device,
            identity=self.charge_point_id,
            outlets=self.connectors,
            version=None if self.version is None else Version(self.version),
            profile=self.profile,
            password_file=self.password_file,
            security_profile=self.security_profile,
            phases=self.phases,
            max_a=self.max_current_a,
            min_a=self.min_current_a,
            safe_a=self.safe_limit_a,
            off=self.off,
        )


T = TypeVar("T")


def linkable(value: T, build: Callable[[], object]) -> T:
    """The value, when what is built from it is accepted; otherwise a complaint in the builder's words."""
    linkable_at(build)
    return value


def linkable_at(build: Callable[[], T], *at: str) -> T:
    """What is built; otherwise a complaint in the builder's words. ``at``: the model's key that it is about."""
    try:
        return build()
    except ConfigError as error:
        raise complaint(error.reason, error.hint, at) from error
