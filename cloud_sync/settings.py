"""Where the broker is, who we are to it, and what we send: settings that can't work are refused with words."""

import errno
import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from agent.core.errors import ConfigError
from cloud_sync.signed import MAX_COMMANDERS, Commander

_PORTS = {"mqtt": 1883, "mqtts": 8883}
#: What a root or a site's id may not hold: MQTT's wildcards and separator, and its reserved first character.
UNSAFE_IN_TOPICS = frozenset("+#/$\0")
_PAYLOADS = ("json", "json+zlib", "blocks", "sparkplug")
_CONFIRMATIONS = ("auto", "ack", "puback")
_COMMANDS = ("auto", "yes", "no")
#: How long the broker keeps what came for us while we are away. A command is older than its time to live long before;
#: it is taken nonetheless, so that its sender is told that it expired.
SESSION_EXPIRY_S = 86_400
#: How many messages an MQTT 5 broker sends us that are not acknowledged.
RECEIVE_MAXIMUM = 32


def check_topic_level(what: str, text: str) -> None:
    """Refuse what can't be a level of an MQTT topic (MQTT 5, 4.7). Raises ``ConfigError``."""
    unsafe = sorted(set(text) & UNSAFE_IN_TOPICS)
    if unsafe or not text:
        wrong = f"holds {' '.join(map(repr, unsafe))}" if unsafe else "is empty"
        raise ConfigError(f"{what} {text!r}", wrong, "it is a level of MQTT topics: take letters, digits, -")


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when this client vanishes."""

    topic: str
    payload: bytes
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Broker:
    """Where one broker listens: ``mqtt://host[:port]`` or ``mqtts://host[:port]``. Raises ``ConfigError``."""

    url: str
    host: str = field(init=False)
    port: int = field(init=False)
    tls: bool = field(init=False)

    def __post_init__(self) -> None:
        op = f"uplink broker {self.url.rpartition('@')[2]!r}"  # never with a password
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(op, str(error), "write mqtt://host:1883 or mqtts://host:8883") from error
        if parts.username is not None or parts.password is not None:
            raise ConfigError("uplink broker", "holds a user name or password", "use username: and password_file:")
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ConfigError(op, "is no broker's address", "write mqtt://host:1883 or mqtts://host:8883")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ConfigError(op, "has something behind the port", "topics start with root: and the site's id")
        object.__setattr__(self, "host", parts.hostname)
        object.__setattr__(self, "port", port or _PORTS[parts.scheme])
        object.__setattr__(self, "tls", parts.scheme == "mqtts")


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the broker is and who we are to it. ``url`` is a broker's, or those of the nodes of one cluster with
    commas between them, which are tried in turn.

    Raises ``ConfigError`` at once for what can't work. Renewed files need no restart (``credentials.py``).
    """  # noqa: D205 - one paragraph

    url: str
    client_id: str
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30
    will: Will | Callable[[], Will] | None = None  #: a function: asked at the start of each connection
    #: How long the broker keeps what we subscribed to while we are away (MQTT 3.1.1: for ever, unless 0).
    session_expiry_s: int = 0
    receive_maximum: int = RECEIVE_MAXIMUM
    brokers: tuple[Broker, ...] = field(init=False)

    def __post_init__(self) -> None:
        brokers = tuple(Broker(url.strip()) for url in self.url.split(","))
        object.__setattr__(self, "brokers", brokers)
        op = f"uplink broker {self.url!r}"
        if len({broker.tls for broker in brokers}) > 1:
            raise ConfigError(op, "is partly without TLS", "write mqtts:// for all nodes of the cluster")
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigError(op, "has one of cert_file and key_file", "a client certificate needs both")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ConfigError(op, "has certificates but no TLS", "write mqtts:// instead of mqtt://")
        if self.password_file is not None and not self.username:
            raise ConfigError(op, "has a password_file but no username", "add username:")
        if not 5 <= self.keepalive_s <= 3600:  # noqa: PLR2004 - the two numbers of the message
            raise ConfigError(op, f"keepalive_s is {self.keepalive_s}", "take 5 to 3600 s")

    @property
    def tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self.brokers[0].tls

    @property
    def private(self) -> bool:
        """Whether nobody on the way can read along or put something in."""
        return self.tls or all(_is_loopback(broker.host) for broker in self.brokers)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are named, in the order in which they are told."""
        named = (self.password_file, self.ca_file, self.cert_file, self.key_file)
        return tuple(path for path in named if path is not None)

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS settings; None without TLS. Raises ``OSError`` on files that can't be read or used.

        A key that asks for a password is one that can't be used: nobody is there to type it.
        """
        if not self.tls:
            return None
        for path in (self.ca_file, self.cert_file, self.key_file):
            if path is not None:
                path.read_bytes()  # its error names the file, unlike that of the ssl module
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        return context

    def password(self) -> str | None:
        """The password from its file. Raises ``OSError``, for an empty one too: it is perhaps being written."""
        if self.password_file is None:
            return None
        password = self.password_file.read_text().strip()
        if not password:
            raise OSError(errno.ENODATA, "no password in it", str(self.password_file))
        return password

    def check_files(self) -> None:
        """Read every file once. Raises ``ConfigError`` that names what is wrong, for use before the start."""
        for path in self.files:
            try:
                path.read_bytes()
                self.password()
            except OSError as error:
                raise ConfigError(
                    f"read {path}", error.strerror or str(error), "named in the uplink's section"
                ) from error
        try:
            self.tls_context()
        except OSError as error:
            raise ConfigError(
                "uplink certificates", str(error), "they must be PEM files that belong together"
            ) from error


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """The uplink's part of the configuration. ``client_id`` is ``{root}-{site}`` when empty. Raises ``ConfigError``."""

    broker_url: str
    site: str
    root: str = "enlace"
    payload: str = "json"
    client_id: str = ""
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 30
    #: ``yes``, ``no``, or ``auto``: where nobody on the way to the broker can put one in that is taken.
    commands: str = "auto"
    #: Whose word moves the cursor: ``ack`` the central server's, ``puback`` the broker's, ``auto``
    #: the broker's until the first word of a central server.
    confirm: str = "auto"
    sparkplug_group: str = ""  #: Sparkplug B's group id; empty: ``root``
    sparkplug_host: str = ""  #: the primary host whose STATE is waited for; empty: none
    commanders: tuple[Commander, ...] = ()  #: whose signature a command needs; none: no signature is asked for

    def __post_init__(self) -> None:
        for name, text in (("root", self.root), ("site id", self.site)):
            check_topic_level(f"uplink {name}", text)
        if self.payload not in _PAYLOADS:
            raise ConfigError(f"uplink payload {self.payload!r}", "is not known", f"take {' or '.join(_PAYLOADS)}")
        if self.commands not in _COMMANDS:
            raise ConfigError(f"uplink commands {self.commands!r}", "is not known", f"take {', '.join(_COMMANDS)}")
        if self.confirm not in _CONFIRMATIONS:
            raise ConfigError(f"uplink confirm {self.confirm!r}", "is not known", f"take {', '.join(_CONFIRMATIONS)}")
        for name, text in (("sparkplug_group", self.sparkplug_group), ("sparkplug_host", self.sparkplug_host)):
            if text:
                check_topic_level(f"uplink {name}", text)
        if len(self.commanders) > MAX_COMMANDERS:
            raise ConfigError(
                "uplink commanders", f"are {len(self.commanders)}", f"{MAX_COMMANDERS} are checked at most"
            )
        self.link()

    @property
    def takes_commands(self) -> bool:
        """Whether commands are taken from the broker."""
        if self.commands == "auto":
            return self.link().private or bool(self.commanders)
        return self.commands == "yes"

    def topic(self, name: str) -> str:
        """``{root}/{site}/{name}``."""
        return f"{self.root}/{self.site}/{name}"

    def link(self, will: Will | Callable[[], Will] | None = None, *, commands: bool = False) -> LinkSettings:
        """The settings of the connection. ``commands``: the broker keeps those that come while we are away.

        Not where the payload is Sparkplug's, which wants each session to start clean.
        """
        return LinkSettings(
            url=self.broker_url,
            client_id=self.client_id or f"{self.root}-{self.site}",
            username=self.username,
            password_file=self.password_file,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            keepalive_s=self.keepalive_s,
            will=will,
            session_expiry_s=SESSION_EXPIRY_S if commands and self.payload != "sparkplug" else 0,
        )


def _no_password() -> str:
    raise OSError(errno.EINVAL, "the key has a password")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class EventBackendSettings:
    """A server that knows timed events. ``url`` is what its paths begin behind. Raises ``ConfigError``.

    The token's file is read anew for each question, so that a new token needs no restart.
    """

    url: str
    token_file: Path | None = None
    every_s: float = 60
    timeout_s: float = 10  #: for a whole answer

    def __post_init__(self) -> None:
        hint = "write http://host or https://host"
        try:
            parts = urlsplit(self.url)
            parts.port  # noqa: B018 - looking at it is what raises
        except ValueError as error:
            raise ConfigError("event backend", f"its url is none: {error}", hint) from error
        if parts.username is not None or parts.password is not None:
            raise ConfigError("event backend", "its url holds a user name or password", "use token_file:")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"event backend {self.url!r}", "is no server's address", hint)
        if parts.query or parts.fragment:
            raise ConfigError(f"event backend {self.url!r}", "has something behind its path", hint)

    def address(self, path: str) -> str:
        """The URL of a path of its API."""
        return f"{self.url.rstrip('/')}/api/events-status/{path}/"

    def token(self) -> str | None:
        """The bearer token; None: it wants none. Raises ``ConfigError``, which never holds it."""
        if self.token_file is None:
            return None
        op = f"read the token in {self.token_file}"
        try:
            token = self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(op, why or "it can't be read") from error
        if not (token and token.isascii() and token.isprintable() and " " not in token):
            raise ConfigError(op, "it holds no token", "write the token and nothing else")
        return token
