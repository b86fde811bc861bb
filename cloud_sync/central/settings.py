"""Where the broker and the database are, and who we are to them: settings that can't work are refused with words."""

import socket
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from agent.core.errors import ConfigError
from cloud_sync.settings import SESSION_EXPIRY_S, LinkSettings, check_topic_level

MAX_WORKERS = 64
#: How many messages an MQTT 5 broker sends ahead of our acknowledgements: the most that MQTT knows (worker.py, rule 4).
RECEIVE_MAXIMUM = 65_535
#: What libpq waits for, and when it takes a connection for dead, unless the DSN says otherwise.
_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


@dataclass(frozen=True, slots=True)
class CentralSettings:
    """One central server. ``database`` is a libpq connection string or URL, without a password. Raises ``ConfigError``.

    ``name`` tells the machines apart whose workers share one ``group``; the broker keeps a session for each worker.
    """

    broker_url: str
    database: str
    root: str = "enlace"
    group: str = "central"
    name: str = ""  #: empty: the machine's name
    workers: int = 1
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    #: How long a gap below a gateway's ``base`` stays open: what fills it may be with another worker, or at the broker.
    give_up_s: float = 60.0

    def __post_init__(self) -> None:
        for what, text in (("root", self.root), ("group", self.group)):
            check_topic_level(what, text)
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigError(f"{self.workers} workers", f"can't be: 1 to {MAX_WORKERS}")
        check_dsn(self.database)
        self.link(0).check_files()

    def link(self, index: int) -> LinkSettings:
        """The settings of one worker's connection to the broker."""
        return LinkSettings(
            url=self.broker_url,
            client_id=f"{self.group}-{self.name or socket.gethostname()}-{index}",
            username=self.username,
            password_file=self.password_file,
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            session_expiry_s=SESSION_EXPIRY_S,
            receive_maximum=RECEIVE_MAXIMUM,
        )


def check_dsn(dsn: str) -> None:
    """Refuse a connection string that libpq can't read, or that holds a secret. Raises ``ConfigError``."""
    op = "database"  # without the string, which may hold a password
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        hint = "write postgresql://user@host/database or host=… dbname=…"
        raise ConfigError(op, "its connection string can't be read", hint) from error
    if parts.get("password") is not None:
        raise ConfigError(
            op, "its connection string holds a password, which every user of this machine can see",
            "put it into a file for libpq, mode 0600: passfile=/etc/enlace/central.pgpass",
        )  # fmt: skip
    if not parts.get("dbname") and not parts.get("service"):
        raise ConfigError(op, "its connection string names no database", "add /database or dbname=…")


def patient(dsn: str) -> dict[str, str]:
    """The parameters of a connection that finds out when the server is gone."""
    given = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    return {**_PATIENCE, "application_name": "enlace central", **given}
