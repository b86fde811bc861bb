"""Backups of stores that run, restores that are cut off at every step, and numbers that are never given twice."""

import asyncio
import fcntl
import io
import json
import os
import shutil
import sqlite3
import sys
import tarfile
import threading
from array import array
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.api.times import iso
from agent.backup import Site, back_up
from agent.backup_file import MANIFEST, read_manifest
from agent.cli.main import main
from agent.config import load_config
from agent.core.clock import FakeClock, SystemClock
from agent.core.errors import StoreError
from agent.core.model import Batch, Event, Session, SignalSpec
from agent.restore import Places, restore
from agent.restore_journal import finish
from agent.store import audit, sealing
from agent.store.db import Store
from agent.store.opening import connect, lock_store
from agent.store.schema import STEPS, migrate
from agent.store.settings import StoreSettings
from agent.store.upkeep import Upkeeper
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Session as MqttSession
from cloud_sync.settings import LinkSettings
from tests.e2e.brokers import broker_process
from tests.e2e.site import answers, enlace, process, send, token, wait_until
from tests.killed import killed_at
from tests.ports import free_port

WAIT_S = 60.0
SECRET = b"do-not-tell-anybody"
NOW_US = 1_795_000_000_000_000


def quiet(_what: str, _done: int, _size: int) -> None:
    """Progress that nobody looks at."""


@contextmanager
def opened(folder: Path, clock: FakeClock | SystemClock | None = None) -> Iterator[Store]:
    store = Store.open(folder / "enlace.db", clock or FakeClock(NOW_US), StoreSettings(seal_s=1e9))
    try:
        yield store
    finally:
        store.close()


def put(store: Store, *words: int, at_us: int = NOW_US) -> None:
    """Each in a block of its own."""
    for word in words:
        store.append(Batch(array("i", [1]), array("q", [at_us + word]), array("q", [word])))
        store.flush().result(WAIT_S)


def words_of(store: Store) -> list[object]:
    return [word for _, _, word in store.rows([1], -(2**62), 2**62)]


def records(store: Store) -> dict[tuple[str, int], object]:
    """Everything that may still leave the house, by its key: what is confirmed never does, so it is packed anew."""
    blocks = store.blocks(store.acked("telemetry"), 10_000)
    found: dict[tuple[str, int], object] = {("telemetry", one.seq): (one.first_seq, one.data) for one in blocks}
    return found | {("event", one.seq): one.event for one in store.events(store.acked("event"), 10_000)}


def clashes(*stores: dict[tuple[str, int], object]) -> list[tuple[str, int]]:
    """Keys that have had two contents."""
    seen: dict[tuple[str, int], object] = {}
    return [key for one in stores for key, content in one.items() if seen.setdefault(key, content) != content]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with every kind of file that a backup takes, and a store with a little of everything."""
    base = tmp_path / "etc"
    (base / "profiles").mkdir(parents=True)
    (base / "broker.password").write_bytes(SECRET)
    (base / "broker.password").chmod(0o600)
    (base / "own.dbc").write_text(
        'VERSION ""\n\nNS_:\n\nBS_:\n\nBU_:\n\nBO_ 1 M: 8 X\n SG_ s : 0|8@1+ (1,0) [0|0] "" X\n'
    )
    (tmp_path / "far.pem").write_text("a certificate of the machine")
    path = base / "site.yaml"
    path.write_text(
        f"# kept as it is\ndata_dir: {tmp_path}/data\nsite: {{id: depot}}\n"
        "devices:\n  - {id: can1, driver: can, channel: can0, dbc: own.dbc}\n"
        'uplink: {broker: "mqtts://127.0.0.1:1", username: me, password_file: broker.password, '
        f"ca_file: {tmp_path}/far.pem}}\n"
    )
    data = tmp_path / "data"
    (data / "api-tls").mkdir(parents=True)
    (data / "api-tls" / "server.key").write_bytes(SECRET)
    (data / "api-tls" / "server.key").chmod(0o600)
    (data / "users.json").write_bytes(b'{"users": "' + SECRET + b'"}')
    (data / "users.json").chmod(0o600)
    with opened(data) as store:
        store.assign([SignalSpec("d", "x"), SignalSpec("d", "y")])
        put(store, 1, 2, 3)
        store.record(Event("test.first", NOW_US)).result(WAIT_S)
        asyncio.run(store.begin(Session("cp1", 1, "k", NOW_US, id_tag=SECRET.decode())))
        asyncio.run(store.write("ocpp.credential", "cp1", {"passwords": [SECRET.decode()]}))
        asyncio.run(store.write("alarm", "hot", {"shelved_until_us": NOW_US}))
    return Site(load_config(path, {}), path, data)


def make(site: Site, target: Path, *, secrets: bool = True, at_us: int = NOW_US) -> Path:
    back_up(site, target, FakeClock(at_us), quiet, io.BytesIO(), secrets=secrets)
    return target


def put_back(file: Path, folder: Path, *, at_us: int = NOW_US + 60_000_000, **more: bool) -> Path:
    """Restored below that folder; where the data is."""
    support = more.pop("support", False)
    restore(
        file, Places(folder / "etc" / "site.yaml", folder / "data", **more), FakeClock(at_us), quiet, support=support
    )
    return folder / "data"


def tree(*folders: Path) -> dict[str, bytes]:
    """What stands in folders, but for locks and for what a backup does not touch."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def test_all_of_a_site_comes_back_with_its_modes(site: Site, tmp_path: Path) -> None:
    file = make(site, tmp_path / "b.tar")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    new = tmp_path / "new"
    data = put_back(file, new)
    assert (new / "etc" / "site.yaml").read_bytes() == site.path.read_bytes()
    for name in ("etc/broker.password", "data/users.json", "data/api-tls/server.key"):
        assert SECRET in (new / name).read_bytes()
        assert (new / name).stat().st_mode & 0o777 == 0o600
    assert (new / "etc" / "own.dbc").read_text() == (site.path.parent / "own.dbc").read_text()
    assert not [path for path in (*new.rglob(".*"),) if path.name != ".lock"]
    with opened(data) as store:
        assert words_of(store) == [1, 2, 3]
        assert store.list_sessions()[0] == 1
        assert store.note("ocpp.credential", "cp1") is not None
        assert store.note("alarm", "hot") == {"shelved_until_us": NOW_US}
    assert audit.verify(data / "enlace.db").ok


class Keyboard(io.StringIO):
    """Somebody at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("there", "reason", "question"),
    [
        ("config", "there is a configuration at {config}, and no terminal", "{config} is moved aside"),
        ("data", "there is a site at {data}, and no terminal", "{data} is moved aside"),
        (
            "config data",
            "there is a site at {data} and a configuration at {config}, and no terminal",
            "{data} and {config} are moved aside",
        ),
    ],
)
def test_who_restores_is_asked_about_what_is_there(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    there: str,
    reason: str,
    question: str,
) -> None:
    """And about nothing else: a folder that is not there was called a site."""
    config, data = tmp_path / "new" / "site.yaml", tmp_path / "new" / "data"
    config.parent.mkdir()
    if "config" in there:
        config.write_text("site: {id: other}\n")
    if "data" in there:
        data.mkdir()
        (data / "users.json").touch()
    before = tree(config.parent)
    arguments = ["restore", str(make(site, tmp_path / "b.tar")), "--config", str(config), "--data-dir", str(data)]
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(arguments) == 2
    assert reason.format(config=config, data=data) in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Keyboard("n\n"))
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"{question.format(config=config, data=data)} and replaced.\n")
    assert tree(config.parent) == before


def test_a_backup_for_support_holds_no_secret_and_is_not_restored_by_mistake(site: Site, tmp_path: Path) -> None:
    assert SECRET in make(site, tmp_path / "whole.tar").read_bytes()
    file = make(site, tmp_path / "support.tar", secrets=False)
    assert SECRET not in file.read_bytes()
    with pytest.raises(StoreError, match="without secrets"):
        put_back(file, tmp_path / "new")
    with opened(put_back(file, tmp_path / "new", support=True)) as store:
        assert words_of(store) == [1, 2, 3]
        assert store.note("alarm", "hot") is not None


def test_what_stands_elsewhere_is_put_back_only_where_asked_for_and_never_over_what_is_there(
    site: Site, tmp_path: Path
) -> None:
    file = make(site, tmp_path / "b.tar")
    far = tmp_path / "far.pem"
    far.unlink()
    put_back(file, tmp_path / "one")
    assert not far.exists()
    put_back(file, tmp_path / "two", outside=True)
    assert far.read_text() == "a certificate of the machine"
    far.write_text("another one")
    put_back(file, tmp_path / "three", outside=True)
    assert far.read_text() == "another one"


def test_a_backup_under_load_is_one_moment_and_holds_no_commit_up(site: Site, tmp_path: Path) -> None:
    """Rows and events are put in pairs, the event second: a backup that mixes moments has an event too many."""
    with opened(site.data_dir, SystemClock()) as store:
        stop, pairs = threading.Event(), 0

        def load() -> None:
            nonlocal pairs
            while not stop.is_set():
                pairs += 1
                put(store, 100 + pairs)
                store.record(Event("test.pair", pairs)).result(WAIT_S)

        def seen(_what: str, _done: int, _size: int) -> None:
            before = pairs
            for _ in range(12_000):
                if pairs > before + 1:
                    return
                threading.Event().wait(0.005)
            raise AssertionError("nothing was committed while the backup went on")

        worker = threading.Thread(target=load)
        worker.start()
        wait_until(lambda: pairs > 3, "some pairs")
        try:
            back_up(site, tmp_path / "b.tar", SystemClock(), seen, io.BytesIO())
        finally:
            stop.set()
            worker.join()
    data = tmp_path / "new" / "data"
    restore(tmp_path / "b.tar", Places(tmp_path / "new" / "site.yaml", data), SystemClock(), quiet)
    with opened(data, SystemClock()) as store:
        rows = [word for word in words_of(store) if isinstance(word, int) and word > 100]
        told = [one.event.t_us for one in store.events(0, 100_000, "test.pair")]
    assert rows == list(range(101, 101 + len(rows)))
    assert told == list(range(1, len(told) + 1))
    assert len(rows) - len(told) in {0, 1}
    assert 0 < len(rows) < pairs


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The stores whose first pass, as on a busy machine, comes only when it is asked for: by the order of opening."""
    late: Container[int] = request.param
    made: list[Upkeeper] = []

    def due_s(upkeep: Upkeeper) -> float:
        if upkeep not in made:
            made.append(upkeep)
            if made.index(upkeep) in late:
                upkeep._due_s = 1e18
        return real(upkeep)

    real = Upkeeper.due_s
    monkeypatch.setattr(Upkeeper, "due_s", due_s)


@pytest.mark.parametrize("slow", [(), (0,), (1,), (0, 1), (0, 2), (0, 1, 2)], indirect=True)
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "as they were"])
@pytest.mark.parametrize("uplink", [True, False], ids=["with an uplink", "before there was one"])
@pytest.mark.usefixtures("slow")
def test_no_key_ever_has_two_contents(site: Site, tmp_path: Path, *, uplink: bool, sealed: bool) -> None:
    """What is in the backup is sent later, as it was or sealed before; the copy would do it the other way."""
    clock = FakeClock(NOW_US)
    with opened(site.data_dir, clock) as store:
        if uplink:
            store.ack("telemetry", store.blocks(0, 1)[0].seq, at_once=True).result(WAIT_S)
            store.ack("event", 0, at_once=True).result(WAIT_S)
        put(store, 4, 5, 6)
        file = make(site, tmp_path / "b.tar")
        clock.advance(60)
        if not sealed:
            store.hold("telemetry", None).result(WAIT_S)
        store.maintain().result(WAIT_S)
        put(store, 7, 8)
        store.maintain().result(WAIT_S)
        store.assign([SignalSpec("d", "after the backup")])
        store.record(Event("test.after", clock.now_us())).result(WAIT_S)
        after = asyncio.run(store.begin(Session("cp1", 1, "later", clock.now_us())))[0]
        sent = records(store)
        lost = {one.id: one.name for one in store.catalog()[1]}
        version = store.catalog()[0]
    clock.advance(60)
    data = put_back(file, tmp_path / "new", at_us=clock.now_us())
    with opened(data, clock) as store:
        store.assign([SignalSpec("d", "x"), SignalSpec("d", "y"), SignalSpec("d", "another name")])
        put(store, 9)
        store.record(Event("test.new", clock.now_us())).result(WAIT_S)
        begun = asyncio.run(store.begin(Session("cp1", 1, "new", clock.now_us())))[0]
        first = records(store)
        store.maintain().result(WAIT_S)
        assert not clashes(sent, first)
        assert not clashes(sent, records(store))
        if uplink:
            twice = {number for stream, number in sent.keys() & first.keys() if stream == "telemetry"}
            assert len(twice) >= 3, "what came before the backup keeps its numbers"
        assert begun.id > after.id
        assert store.catalog()[0] > version
        assert not [one for one in store.catalog()[1] if lost.get(one.id, one.name) != one.name]
        assert words_of(store)[:6] == [1, 2, 3, 4, 5, 6]
        told = store.events(0, 100, "store.restored")
        assert [one.event.data["backup"] for one in told] == [read_manifest(file).id]
    report = audit.verify(data / "enlace.db")
    assert report.ok, report.faults


def test_the_store_that_is_replaced_says_how_far_its_numbers_went(site: Site, tmp_path: Path) -> None:
    file = make(site, tmp_path / "b.tar")
    with opened(site.data_dir) as store:
        store.assign([SignalSpec("d", f"s{number}") for number in range(9000)])
        highest = max(one.id for one in store.catalog()[1])
    put_back(file, tmp_path)
    with opened(tmp_path / "data") as store:
        (one,) = store.assign([SignalSpec("d", "new")])
        assert one.id > highest
    aside = list((tmp_path / "data").glob("before-restore-*/enlace.db"))
    assert len(aside) == 1
    shutil.copytree(aside[0].parent, tmp_path / "aside")
    with opened(tmp_path / "aside") as store:
        assert len(store.catalog()[1]) > 9000


def test_a_clock_behind_the_backup_can_choose_no_numbers(site: Site, tmp_path: Path) -> None:
    file = make(site, tmp_path / "b.tar")
    with pytest.raises(StoreError, match="set the clock first"):
        put_back(file, tmp_path / "new", at_us=NOW_US - 1)


def test_an_older_schema_is_restored_and_a_newer_one_refused(site: Site, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    with closing(connect(old / "enlace.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection, STEPS[:1])
        connection.execute("INSERT INTO event VALUES(5, 1, 6, 'old.event', '', '{}')")
    file = make(replace(site, data_dir=old), tmp_path / "old.tar")
    assert read_manifest(file).schema_version == 1
    with opened(put_back(file, tmp_path / "new")) as store:
        assert [one.seq for one in store.events(0, 10, "old.")] == [5]
    with closing(sqlite3.connect(old / "enlace.db")) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    with pytest.raises(StoreError, match="this program knows"):
        make(replace(site, data_dir=old), tmp_path / "newer.tar")
    newer = rewritten(
        file,
        tmp_path / "forged.tar",
        {MANIFEST: lambda text: text.replace(b'"schema_version": 1', b'"schema_version": %d' % (len(STEPS) + 1))},
    )
    with pytest.raises(StoreError, match="restore it with that version"):
        put_back(newer, tmp_path / "other")


def rewritten(file: Path, target: Path, changes: dict[str, Callable[[bytes], bytes]]) -> Path:
    """The backup with other contents of some members."""
    with tarfile.open(file) as old, tarfile.open(target, "w") as new:
        for info in old:
            content = old.extractfile(info)
            assert content is not None
            data = changes.get(info.name, bytes)(content.read())
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return target


def test_a_damaged_cut_off_or_hostile_backup_changes_nothing(site: Site, tmp_path: Path) -> None:
    file = make(site, tmp_path / "b.tar")
    before = tree(site.path.parent, site.data_dir)
    whole = file.read_bytes()
    place = whole.index(SECRET)
    bad = {
        "byte": whole[:place] + b"D" + whole[place + 1 :],
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "no tar": b"hello" * 1000,
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match="another one"):
            put_back(tmp_path / name, tmp_path)

    def to(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
        return lambda text: text.replace(old, new)

    for change in (to(b"data/users.json", b"data/../../evil"), to(b'"sha256": "', b'"sha256": "0'), to(b"{", b"[")):
        hostile = rewritten(file, tmp_path / "hostile", {MANIFEST: change})
        with pytest.raises(StoreError, match="another one"):
            put_back(hostile, tmp_path)
    with pytest.raises(StoreError, match="newer Enlace"):
        put_back(rewritten(file, tmp_path / "hostile", {MANIFEST: to(b'"format": 1', b'"format": 2')}), tmp_path)
    assert tree(site.path.parent, site.data_dir) == before


def test_a_gateway_that_runs_is_not_disturbed(site: Site, tmp_path: Path) -> None:
    file = make(site, tmp_path / "b.tar")
    before = tree(site.data_dir)
    lock = lock_store(site.data_dir / "enlace.db")
    try:
        with pytest.raises(StoreError, match="a gateway runs on it"):
            put_back(file, tmp_path)
    finally:
        os.close(lock)
    assert tree(site.data_dir) == before


def test_a_store_that_is_damaged_is_told_and_no_backup_of_it_looks_whole(site: Site, tmp_path: Path) -> None:
    database = site.data_dir / "enlace.db"
    with closing(connect(database)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'hot'").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 200)
    with pytest.raises(StoreError):
        make(site, tmp_path / "b.tar")
    assert not [path for path in tmp_path.iterdir() if "b.tar" in path.name]


def test_room_is_looked_for_first(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make(site, tmp_path / "b.tar")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(StoreError, match="1 MiB left"):
        make(site, tmp_path / "other.tar")
    with pytest.raises(StoreError, match="1 MiB left"):
        put_back(file, tmp_path / "new")
    assert not (tmp_path / "other.tar").exists()
    assert not list((tmp_path / "new").rglob("enlace.db"))


def test_a_pipe_that_nobody_reads_any_more_is_told_as_that(site: Site) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as out, pytest.raises(StoreError, match="who was to read") as caught:
        back_up(site, None, FakeClock(NOW_US), quiet, out)
    assert "standard output" in caught.value.op
    assert not [path for path in site.data_dir.iterdir() if path.name.startswith(".enlace-backup-")]


def test_a_full_place_behind_standard_output_is_told_as_that(site: Site) -> None:
    with Path("/dev/full").open("wb", buffering=0) as out, pytest.raises(StoreError, match="No space left") as caught:
        back_up(site, None, FakeClock(NOW_US), quiet, out)
    assert str(caught.value).startswith("back up to standard output: No space left on device (free some space")


def test_what_killed_backups_left_is_taken_away_by_the_next_and_what_another_writes_is_not(
    site: Site, tmp_path: Path
) -> None:
    left, busy = tmp_path / ".enlace-backup-1-b.tar", tmp_path / ".enlace-backup-2-b.tar"
    left.touch()
    busy.touch()
    with busy.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        make(site, tmp_path / "b.tar")
        assert not left.exists()
        assert busy.exists()


def test_blocks_that_begin_to_leave_while_a_pass_goes_on_are_not_sealed(tmp_path: Path) -> None:
    """A pass looks once at what may be sealed, and seals group by group: sending may begin in between."""
    with opened(tmp_path) as store:
        store.assign([SignalSpec("d", "x")])
        put(store, 1, 2, 3)
    with closing(connect(tmp_path / "enlace.db")) as connection:
        groups = sealing.groups(connection, 2**62, 1000)
        connection.execute("INSERT INTO cursor(stream, acked, sent, sending) VALUES('telemetry', 0, 0, 1)")
        for group in groups:
            sealing.work_on(connection, group, {}, 1, NOW_US)
        assert connection.execute("SELECT count(*) FROM hot").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM block").fetchone() == (0,)


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.long)])
def test_a_restore_that_is_killed_at_any_step_leaves_the_old_state_or_the_new_one(
    site: Site, tmp_path: Path, stride: int
) -> None:
    """The old site differs from the backup in each file; after a kill the next start finishes or nothing changed."""
    file = make(site, tmp_path / "b.tar")
    with opened(site.data_dir) as store:
        put(store, 40)
    (site.data_dir / "users.json").write_text("old users")
    (site.data_dir / "api-tls" / "server.key").write_text("old key")
    site.path.write_text(site.path.read_text() + "# old\n")
    (site.path.parent / "broker.password").write_text("old password")
    shutil.copytree(site.path.parent, tmp_path / "saved" / "etc")
    shutil.copytree(site.data_dir, tmp_path / "saved" / "data")
    outcomes: list[str] = []
    for step in range(1, 1000, stride):
        for name, place in (("etc", site.path.parent), ("data", site.data_dir)):
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "saved" / name, place)
        ended = killed_at(
            step, lambda: restore(file, Places(site.path, site.data_dir), FakeClock(NOW_US + 60_000_000), quiet)
        )
        outcomes.append(_state(site))
        if ended:
            break
    assert ended
    assert outcomes[-1] == "new"
    assert outcomes == sorted(outcomes, reverse=True), "once it counts it stays"
    assert outcomes.count("old") > 20 // stride
    assert outcomes.count("new") > 20 // stride


def _state(site: Site) -> str:
    """Which state a start would find: it finishes what was begun. Fails where it is a mixture."""
    finish(load_config(site.path, {}).data_dir / "enlace.db")  # as ``enlace run`` does it
    told = {
        "old key" in (site.data_dir / "api-tls" / "server.key").read_text(),
        "old users" in (site.data_dir / "users.json").read_text(),
        "# old" in site.path.read_text(),
        "old password" in (site.path.parent / "broker.password").read_text(),
    }
    with opened(site.data_dir) as store:
        told.add(40 in words_of(store))
        assert {1, 2, 3} <= set(words_of(store))
    assert len(told) == 1, "a mixture"
    return "old" if told.pop() else "new"


DRILL = """\
data_dir: {folder}/data
site: {{id: depot-7}}
api: {{listen: "127.0.0.1:{port}"}}
devices: []
alarm_sets: []
uplink: {{broker: "{broker}"}}
"""


class Central:
    """Keeps (stream, number) as its key, and the first content of each; ``doubled``: keys that had another one."""

    def __init__(self, url: str) -> None:
        self.ready = asyncio.Event()
        self.kept: dict[tuple[str, int], dict[str, object]] = {}
        self.doubled: list[tuple[str, int]] = []
        self._link = MqttLink(LinkSettings(url, "central"), SystemClock())

    async def run(self) -> None:
        await self._link.run(self._serve)

    async def _serve(self, session: MqttSession) -> None:
        await session.subscribe("enlace/depot-7/telemetry", "enlace/depot-7/event")
        self.ready.set()
        while True:
            message = await session.next_message()
            content = json.loads(message.payload)
            key = message.topic.rpartition("/")[2], content["seq"]
            for name in ("base", "catalog"):  # how far the stream and the catalogue are, not what this one says
                content.pop(name, None)
            if self.kept.setdefault(key, content) != content:
                self.doubled.append(key)
            session.acknowledge(message)

    def kinds(self) -> set[object]:
        return {one.get("kind") for one in self.kept.values()}


@pytest.mark.announced_warnings
def test_a_restore_drill(tmp_path: Path) -> None:
    """Backed up under load, killed, restored into an empty folder: all that was is there, and it goes on."""
    clock = SystemClock()
    with opened(tmp_path / "data", clock) as store:
        asyncio.run(store.begin(Session("cp1", 1, "k", clock.now_us())))
        asyncio.run(store.write("ocpp.credential", "cp1", {"passwords": ["salted"]}))

    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker:
            central = Central(broker.url)
            listening = asyncio.create_task(central.run())
            try:
                await central.ready.wait()
                await asyncio.to_thread(_drill, tmp_path, broker.url, central)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    asyncio.run(scenario())


def _drill(folder: Path, broker: str, central: Central) -> None:
    port, log = free_port(), folder / "gateway.log"
    url, path, file = f"http://127.0.0.1:{port}", folder / "site.yaml", folder / "b.tar"
    path.write_text(DRILL.format(folder=folder, port=port, broker=broker))
    posted = 0

    def post(count: int) -> None:
        nonlocal posted
        now_us = SystemClock().now_us()
        rows = [
            {"vin": "VAN1", "ts": iso(now_us - 900_000_000 + (posted + one) * 1000), "soc": (posted + one) % 100}
            for one in range(count)
        ]
        assert send("POST", f"{url}/api/telemetry", rows)["inserted"] == count
        posted += count

    with process("agent", "run", "--config", str(path), log=log) as child:
        wait_until(lambda: answers(f"{url}/api/system/health"), "the API answers")
        token(url, log)
        post(500)
        with process("agent", "backup", str(file), "--config", str(path), log=folder / "backup.log") as backup:
            while backup.poll() is None:
                post(20)
        assert backup.returncode == 0, (folder / "backup.log").read_text()
        before = posted
        for _ in range(10):
            post(50)
        child.kill()
        child.wait()
    shutil.rmtree(folder / "data")
    path.unlink()
    done = enlace("restore", str(file), "--config", str(path))
    assert done.returncode == 0, done.stderr
    assert audit.verify(folder / "data" / "enlace.db").ok
    told = keys_of(central)
    with process("agent", "run", "--config", str(path), log=folder / "again.log"):
        wait_until(lambda: answers(f"{url}/api/system/health"), "the API answers again")
        token(url, folder / "again.log")  # logs in, with the password of before
        post(30)
        wait_until(lambda: "store.restored" in central.kinds(), "the central server hears of it")
        wait_until(lambda: len([key for key in keys_of(central) - told if key[0] == "telemetry"]) > 0, "new rows")
        assert send("GET", f"{url}/api/sessions")["total"] == 1
    assert not central.doubled
    with opened(folder / "data", SystemClock()) as store:
        (signal_id,) = [one.id for one in store.catalog()[1] if one.full_name == "VAN1.soc_pct"]
        rows = len(list(store.rows([signal_id], 0, 1 << 62)))
        assert 500 + 30 <= rows <= before + 30
        assert store.note("ocpp.credential", "cp1") == {"passwords": ["salted"]}


def keys_of(central: Central) -> set[tuple[str, int]]:
    return set(central.kept)
