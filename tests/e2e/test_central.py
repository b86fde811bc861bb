"""``enlace central`` as a fleet has it: real stores and uplinks, a real broker, real processes, a real PostgreSQL.

What is in the stores must be in the database, each row once, whatever is killed on the way.
"""

import asyncio
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from agent.core.model import Batch, Event, Number, Signal
from agent.store.db import Store
from agent.store.settings import StoreSettings
from cloud_sync import lanes
from cloud_sync.central.settings import CentralSettings
from cloud_sync.central.worker import Worker
from cloud_sync.settings import UplinkSettings
from cloud_sync.uplink import Uplink
from tests.e2e.brokers import ROOT, broker_process, needs
from tests.e2e.postgres import NEEDED, Postgres, postgres_server
from tests.e2e.subscriber import QuickClock, until
from tests.unit.uplink_fakes import SIGNALS, T0_US

pytestmark = NEEDED

PATIENCE_S = 90.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody was there to take is sent again after a second instead of half a minute."""
    monkeypatch.setattr(lanes, "FIRST_PATIENCE_S", 1.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


class Site:
    """A store and its uplink, as a gateway has them. ``confirm: ack``: the central server's word moves the cursor."""

    def __init__(self, name: str, url: str, folder: Path, payload: str) -> None:
        self.name = name
        self.store = Store.open(folder / f"{name}.db", QuickClock(), StoreSettings(commit_s=0.02, seal_s=1.0))
        self.signals: list[Signal] = self.store.assign(SIGNALS[:4])
        settings = UplinkSettings(url, site=name, payload=payload, confirm="ack")
        self.uplink = Uplink(settings, self.store, QuickClock(), self.store.record, boot=self.store.boot, version="1.0")
        self.moments = 0

    async def live(self, moments: int) -> None:
        """So many readings of all signals, and an event."""
        for moment in range(self.moments, self.moments + moments):
            ids = array("i", [signal.id for signal in self.signals])
            times = array("q", [T0_US + moment * 10_000] * len(ids))
            self.store.append(Batch(ids, times, array("q", [moment] * len(ids)), valid=moment % 5 != 0))
        self.moments += moments
        await asyncio.wrap_future(self.store.record(Event("test.round", T0_US, self.name, {"moments": self.moments})))
        await asyncio.wrap_future(self.store.flush())

    def rows(self) -> list[tuple[str, int, Number | None]]:
        names = {signal.id: signal.name for signal in self.signals}
        found = self.store.rows(list(names), 0, 2**62)
        return sorted((names[id_], t_us, None if value is None else float(value)) for t_us, id_, value in found)

    @property
    def waiting(self) -> int:
        return sum(stream.backlog for stream in self.uplink.status().streams.values())


def stored_rows(dsn: str, site: str) -> list[tuple[str, int, Number | None]]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT point, (extract(epoch FROM t) * 1000000)::bigint, value FROM enlace.samples WHERE site = %s",
            (site,),
        )
        return sorted((point, t_us, value) for point, t_us, value in found)


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def command(url: str, dsn: str, *more: str) -> list[str]:
    arguments = ["--broker", url, "--database", dsn, "--name", "test", *more]
    return [sys.executable, "-m", "agent", "central", *arguments]


@asynccontextmanager
async def central_process(url: str, dsn: str, workers: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command(url, dsn, "--workers", str(workers)), cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(60):
                await process.wait()


@asynccontextmanager
async def sites(*all_sites: Site) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(site.uplink.run()) for site in all_sites]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for site in all_sites:
            await asyncio.to_thread(site.store.close)


def ready(dsn: str, workers: int) -> bool:
    """Whether so many workers have the database, and thus the broker next."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'enlace central' AND datname = %s"
    with psycopg.connect(dsn) as connection:
        return connection.execute(query, (connection.info.dbname,)).fetchone() == (workers,)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


async def ended(*tasks: "asyncio.Future[None]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.announced_warnings
@needs("mosquitto")
def test_nothing_is_lost_and_nothing_doubled_whatever_is_killed(tmp_path: Path) -> None:
    """Workers and the database are killed, the broker is restarted, while three sites with three payloads go on."""

    async def scenario(server: Postgres) -> None:
        dsn = server.new_database()
        async with broker_process("mosquitto-persistent", tmp_path) as broker:
            names = {"json": "a", "json+zlib": "b", "blocks": "c"}
            found = [Site(name, broker.url, tmp_path, payload) for payload, name in names.items()]

            async def go_on(rounds: int) -> None:
                for _ in range(rounds):
                    await asyncio.gather(*(site.live(20) for site in found))
                    await asyncio.sleep(0.02)

            async with central_process(broker.url, dsn, 2) as central, sites(*found):
                await until(lambda: ready(dsn, 2), PATIENCE_S)
                await go_on(10)
                await until(lambda: all(site.waiting == 0 for site in found), PATIENCE_S)
                for _ in range(2):
                    os.kill(children(central.pid)[0], signal.SIGKILL)
                    await go_on(15)
                await asyncio.to_thread(server.kill)
                await go_on(15)
                await asyncio.to_thread(server.start)
                await broker.terminate()
                await go_on(15)
                await broker.start()
                await go_on(15)
                await until(lambda: all(site.waiting == 0 for site in found), PATIENCE_S)
                for site in found:
                    assert stored_rows(dsn, site.name) == site.rows()
                    assert len(site.rows()) == site.moments * 4
                rounds = ask(dsn, "SELECT site, count(*) FROM enlace.events WHERE kind = 'test.round' GROUP BY 1")
                assert sorted(rounds) == [(site.name, 85) for site in found]
                assert not ask(dsn, "SELECT * FROM enlace.gaps WHERE state <> 'filled'")
                assert not ask(dsn, "SELECT * FROM enlace.refused")
                assert not ask(dsn, "SELECT * FROM enlace.pending")
            assert central.returncode == 0

    with postgres_server() as server:
        asyncio.run(scenario(server))


@pytest.mark.announced_warnings
def test_a_broker_without_shared_subscriptions_is_served_by_plain_ones(server: Postgres, tmp_path: Path) -> None:
    """Our own broker speaks MQTT 3.1.1. Two workers both get everything: it is written once."""

    async def scenario() -> None:
        dsn = server.new_database()
        async with broker_process("amqtt", tmp_path) as broker:
            site = Site("a", broker.url, tmp_path, "blocks")
            settings = CentralSettings(broker.url, dsn, name="test")
            workers = [Worker(settings, QuickClock(), index) for index in range(2)]
            tasks = [asyncio.ensure_future(worker.run()) for worker in workers]
            await until(lambda: all(worker._plain for worker in workers))
            async with sites(site):
                for _ in range(10):
                    await site.live(20)
                await until(lambda: site.waiting == 0, PATIENCE_S)
                await until(lambda: sum(worker.counts.repeated for worker in workers) > 0)
                assert stored_rows(dsn, "a") == site.rows()
            await ended(*tasks)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@needs("mosquitto")
def test_a_database_that_begins_anew_is_told_what_the_sites_signals_are(server: Postgres, tmp_path: Path) -> None:
    """The gateway and the broker notice nothing of it, so no catalogue would come by itself."""

    async def scenario() -> None:
        dsn = server.new_database()
        async with broker_process("mosquitto", tmp_path) as broker:
            site = Site("a", broker.url, tmp_path, "json")

            async def whole() -> list[tuple[str, int, Number | None]]:
                """What a database has in the end of what came behind its beginning."""
                before = len(site.rows())
                await site.live(20)
                found = site.rows()
                await until(lambda: site.waiting == 0, PATIENCE_S)
                await until(lambda: ask(dsn, "SELECT * FROM enlace.pending") == [], PATIENCE_S)
                assert len(found) == before + 80
                # Its state is a message of its own, which may come behind the last rows.
                await until(lambda: ask(dsn, "SELECT site, online FROM enlace.sites") == [("a", True)], PATIENCE_S)
                return stored_rows(dsn, "a")

            async with sites(site):
                task = asyncio.ensure_future(Worker(CentralSettings(broker.url, dsn, name="test"), QuickClock()).run())
                assert await whole() == site.rows()
                await ended(task)
                dsn = server.new_database()
                task = asyncio.ensure_future(Worker(CentralSettings(broker.url, dsn, name="test"), QuickClock()).run())
                assert len(await whole()) == 80
                name, other = dsn.rpartition("/")[2], server.new_database().rpartition("/")[2]
                with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
                    connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
                    connection.execute(f"ALTER DATABASE {other} RENAME TO {name}".encode())
                assert len(await whole()) == 80
                await ended(task)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@needs("mosquitto")
def test_a_flood_of_nonsense_is_refused_and_delays_nobody(server: Postgres, tmp_path: Path) -> None:
    async def scenario() -> None:
        dsn = server.new_database()
        async with broker_process("mosquitto", tmp_path) as broker:
            site = Site("a", broker.url, tmp_path, "json")
            worker = Worker(CentralSettings(broker.url, dsn, name="test"), QuickClock())
            task = asyncio.ensure_future(worker.run())
            flood = Site("flood", broker.url, tmp_path, "json")
            async with sites(site, flood):
                await until(lambda: flood.uplink.status().connected)
                await site.live(20)
                await until(lambda: site.waiting == 0, PATIENCE_S)  # the worker has subscribed
                session = flood.uplink._session
                assert session is not None
                for number in range(200):
                    for name in ("telemetry", "event", "catalog", "state"):
                        await session.publish(f"enlace/evil{number % 7}/{name}", os.urandom(200))
                    if number % 50 == 0:
                        await site.live(20)
                await until(lambda: worker.counts.refused >= 800, PATIENCE_S)
                await until(lambda: site.waiting == 0, PATIENCE_S)
                assert stored_rows(dsn, "a") == site.rows()
                assert ask(dsn, "SELECT count(*) FROM enlace.refused") == [(800,)]
                assert ask(dsn, "SELECT name FROM enlace.site WHERE name LIKE 'evil%'") == []
            await ended(task)

    asyncio.run(scenario())


@needs("mosquitto")
def test_workers_end_with_their_parent_however_that_ends(server: Postgres, tmp_path: Path) -> None:
    async def scenario() -> None:
        dsn = server.new_database()
        async with broker_process("mosquitto", tmp_path) as broker, central_process(broker.url, dsn, 2) as central:
            await until(lambda: ready(dsn, 2), PATIENCE_S)
            workers = children(central.pid)
            assert len(workers) == 2
            central.kill()
            await central.wait()
            await until(lambda: not any(alive(worker) for worker in workers), PATIENCE_S)

    asyncio.run(scenario())


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agent", "central", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_command_says_what_is_wrong_and_ends_for_good(server: Postgres) -> None:
    dsn = server.new_database()
    for arguments, words in (
        (("--database", "postgresql://u:hidden1@h/d", "--broker", "mqtt://h"), "holds a password"),
        (("--database", dsn), "no broker is named"),
        (("--database", dsn, "--broker", "http://h"), "is no broker's address"),
        (("--database", dsn, "--broker", "mqtts://h", "--ca-file", "/nowhere"), "/nowhere"),
        (("--database", dsn, "--broker", "mqtt://h", "--workers", "0"), "0 workers"),
    ):
        done = run(*arguments)
        assert (done.returncode, words in done.stderr) == (78, True), done.stderr
        assert "hidden1" not in done.stderr
        assert "Traceback" not in done.stderr


def test_the_command_makes_the_tables_and_tells_how_the_sites_are(server: Postgres) -> None:
    dsn = server.new_database()
    assert run("--database", dsn, "--migrate").returncode == 0
    done = run("--database", dsn, "--status")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 sites")
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO enlace.site(name, online) VALUES ('depot-7', true)")
        connection.execute(
            """INSERT INTO enlace.stream_state(site, stream, start_seq, upto, base, newest)
                SELECT id, 'telemetry', 0, 90, 0, 100 FROM enlace.site"""
        )
        connection.execute(
            "INSERT INTO enlace.gap(site, stream, from_seq, to_seq) SELECT id, 'telemetry', 91, 95 FROM enlace.site"
        )
    head, line, total = run("--database", dsn, "--status").stdout.splitlines()
    assert head.split()[:4] == ["site", "online", "seen", "telemetry"]
    first, last = line.split(" s ago ")
    assert first.split()[:2] == ["depot-7", "yes"]
    assert last.split() == ["90", "10", "-", "-", "1", "0", "0", "0"]
    assert total == "1 sites"
    nobody = run("--database", dsn.replace(str(server.port), "1"), "--status")
    assert nobody.returncode == 2
    assert "Traceback" not in nobody.stderr


def test_workers_of_a_database_that_is_newer_end_with_78(server: Postgres) -> None:
    dsn = server.new_database()
    run("--database", dsn, "--migrate")
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO enlace.migration(version) VALUES (99)")
    done = run("--database", dsn, "--broker", "mqtt://127.0.0.1:1", "--workers", "2")
    assert done.returncode == 78
    assert "version 99" in done.stderr
    assert "Traceback" not in done.stderr
