"""``enlace central`` with all its secrets: a certificate and a password at the broker, a password at PostgreSQL.

The secrets stand in files only: none is in what the program says, nor in what others can see of its processes.
"""

import asyncio
import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from cloud_sync.settings import UplinkSettings
from cloud_sync.uplink import Uplink
from tests.authority import Authority
from tests.e2e.brokers import ROOT, BrokerProcess, mosquitto, needs
from tests.e2e.postgres import NEEDED, Postgres, postgres_server
from tests.e2e.site import wait_until
from tests.e2e.subscriber import QuickClock, until
from tests.unit.uplink_fakes import BOOT, MemoryOutbox, block, event

pytestmark = NEEDED

PATIENCE_S = 120.0
SITE = "depot-7"
#: The right ones and the wrong ones: neither may be seen.
AT_BROKER, AT_DATABASE, OF_SITE, WRONG = "sesame-broker-41", "sesame-database-42", "sesame-site-43", "sesame-wrong-44"


@pytest.fixture
def server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


def asking(server: Postgres) -> str:
    """A database of a role that has to show its password, as a connection string without it."""
    dsn = server.new_database()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE guarded LOGIN PASSWORD {}").format(sql.Literal(AT_DATABASE)))
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO guarded").format(sql.Identifier(connection.info.dbname)))
        row = connection.execute("SHOW hba_file").fetchone()
        assert row is not None
        rules = Path(row[0])
        rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        connection.execute("SELECT pg_reload_conf()")
    guarded = dsn.replace("enlace@", "guarded@")
    wait_until(lambda: asks(guarded), "the server has read its rules anew, which it does in its own time")
    return guarded


def asks(dsn: str) -> bool:
    """Whether nobody comes in without a password."""
    try:
        psycopg.connect(dsn, passfile="/nowhere").close()
    except psycopg.OperationalError:
        return True
    return False


def write_secret(file: Path, text: str) -> None:
    file.touch(0o600)
    file.write_text(f"{text}\n")


def write_passfile(file: Path, password: str) -> None:
    write_secret(file, f"127.0.0.1:*:*:guarded:{password}")


def hashed(user: str, password: str) -> str:
    """A line of Mosquitto's password file: PBKDF2 with SHA-512."""
    salt, rounds = os.urandom(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"{user}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


@asynccontextmanager
async def strict_broker(authority: Authority, folder: Path) -> AsyncIterator[BrokerProcess]:
    """Mosquitto that wants TLS, a certificate of the authority and a password from everybody."""
    cert_file, key_file = authority.issue("server", "localhost")
    passwords = folder / "passwords"
    write_secret(passwords, "".join(map(hashed, ("central", SITE), (AT_BROKER, OF_SITE))))
    lines = f"cafile {authority.ca_file}\ncertfile {cert_file}\nkeyfile {key_file}\nrequire_certificate true"
    broker = mosquitto(folder, f"{lines}\nallow_anonymous false\npassword_file {passwords}", persistent=True)
    try:
        await broker.start()
        yield broker
    finally:
        await broker.kill()


@asynccontextmanager
async def gateway(authority: Authority, url: str, folder: Path) -> AsyncIterator[MemoryOutbox]:
    """A gateway's uplink, which trusts the central server's word only."""
    password, outbox = folder / "site-password", MemoryOutbox()
    write_secret(password, OF_SITE)
    cert_file, key_file = authority.issue("site", SITE)
    settings = UplinkSettings(
        *(url, SITE), confirm="ack", username=SITE, password_file=password,
        ca_file=authority.ca_file, cert_file=cert_file, key_file=key_file,
    )  # fmt: skip
    uplink = Uplink(settings, outbox, QuickClock(), lambda _: None, boot=BOOT, version="1.0")
    task = asyncio.ensure_future(uplink.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def central(arguments: list[str], said: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with said.open("wb") as file:
        process = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT, stdout=file, stderr=file)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(60):
                await process.wait()


def seen_of(pid: int) -> str:
    """What every user of the machine, or its own, can read of a process and its children."""
    folder = Path(f"/proc/{pid}")
    children = (folder / "task" / str(pid) / "children").read_text().split()
    own = (folder / "cmdline").read_text() + (folder / "environ").read_text(errors="replace")
    return own + "".join(seen_of(int(child)) for child in children)


@pytest.mark.announced_warnings
@needs("mosquitto")
def test_every_secret_comes_from_its_file_and_is_seen_nowhere(server: Postgres, tmp_path: Path) -> None:
    """Begun with the wrong passwords at both ends, which are said and then put right while it runs."""

    async def scenario() -> None:
        authority, said = Authority(tmp_path), tmp_path / "said"
        at_broker, passfile = tmp_path / "broker-password", tmp_path / "pgpass"
        dsn = f"{asking(server)}?passfile={passfile}"
        write_passfile(passfile, WRONG)
        write_secret(at_broker, WRONG)
        cert_file, key_file = authority.issue("central", "central")
        command = [sys.executable, "-m", "agent", "central", "--database", dsn]
        async with strict_broker(authority, tmp_path) as broker:
            url = f"mqtts://localhost:{broker.port}"
            link = ["--broker", url, "--username", "central", "--password-file", str(at_broker), "--ca-file"]
            link += [str(authority.ca_file), "--cert-file", str(cert_file), "--key-file", str(key_file)]
            async with (
                gateway(authority, url, tmp_path) as outbox,
                central([*command, *link, "--workers", "2", "--name", "test"], said) as process,
            ):
                outbox.add(*(block(seq) for seq in range(1, 11)), event(1))
                await until(lambda: said.read_text().count("waiting for the database") >= 2, PATIENCE_S)
                write_passfile(passfile, AT_DATABASE)
                await until(lambda: "refuses: Not authorized" in said.read_text(), PATIENCE_S)
                write_secret(at_broker, AT_BROKER)
                await until(lambda: outbox.cursors == {"telemetry": 10, "event": 1}, PATIENCE_S)
                seen = seen_of(process.pid)
                assert seen.count("--worker\0") == 2
                status = await asyncio.create_subprocess_exec(
                    *command, "--status", cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
                told, _ = await status.communicate()
            assert (process.returncode, status.returncode) == (0, 0)
        assert SITE in told.decode()
        assert "password authentication failed" in said.read_text()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM enlace.samples").fetchone() == (250,)
        private = "".join(key_file.read_text().splitlines()[1:-1])
        for secret in (AT_BROKER, AT_DATABASE, OF_SITE, WRONG, private[:40]):
            for text in (said.read_text(), told.decode(), seen):
                assert secret not in text

    asyncio.run(scenario())
