"""The section ``api:`` of the configuration: where the local HTTP API listens, and how it proves who it is."""

import ipaddress
import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from agent.credentials import NamedFile
from agent.yamlfile import Section, complaint

MAX_PORT = 65535

#: An address that stands for all of this machine's own, and the one among them that it reaches itself.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what the configuration says, not what we listen on
_URI = re.compile(r"(mailto:|https:|tel:)[!-~]{3,200}")


class Api(Section):
    """The local HTTP API."""

    listen: str = Field("127.0.0.1:8080", description="address and port; port 0 takes a free one and logs it")
    tls: Literal["auto", "off"] = Field(
        "auto", description="auto: TLS unless only this machine itself can reach the address; off: never"
    )
    cert_file: NamedFile | None = Field(
        None, description="PEM file: the site's own certificate and its chain; absent: the gateway makes one"
    )
    key_file: NamedFile | None = Field(None, description="PEM file of its key, without a password")
    security_contact: str | None = Field(
        None, description="who is told of weak spots, as a URI (mailto:, https:, tel:); stands in security.txt"
    )

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            split_address(value)
        except ValueError as error:
            raise complaint(f"`{value}` is no address", str(error)) from error
        return value

    @field_validator("security_contact")
    @classmethod
    def _uri(cls, value: str | None) -> str | None:
        if value is not None and not _URI.fullmatch(value):
            raise complaint(f"`{value}` is no contact", "write a URI such as mailto:security@example.com")
        return value

    @model_validator(mode="after")
    def _pair(self) -> "Api":
        if (self.cert_file is None) != (self.key_file is None):
            raise complaint("a certificate needs its key", "give both cert_file and key_file, or none of them")
        if self.cert_file is not None and self.tls == "off":
            raise complaint("there is a certificate, but TLS is off", "delete `tls: off`, or cert_file and key_file")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS: with the site's own certificate anywhere, with ours where others can reach it."""
        if self.tls == "off":
            return False
        return self.cert_file is not None or not is_loopback(split_address(self.listen)[0])

    @property
    def own_door(self) -> tuple[str, int]:
        """Host and port where this machine itself reaches it; port 0: one that is known at run time only."""
        host, port = split_address(self.listen)
        return _EVERYWHERE.get(host, host), port

    @property
    def own_url(self) -> str:
        """The same as the beginning of a URL."""
        host, port = self.own_door
        return f"{'https' if self.encrypted else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` as its two parts; IPv6 hosts stand in brackets. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("write address:port, such as 127.0.0.1:8080 or [::1]:8080")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
