"""The chain over the ledger: whatever is changed in the file is found, and ``enlace audit`` says so (trials C11)."""

import contextlib
import csv
import hashlib
import io
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli.main import main
from agent.core.clock import FakeClock
from agent.core.errors import StoreError
from agent.core.model import Event
from agent.store import audit, schema
from agent.store.audit import Report, verify
from agent.store.audit_file import verify_lines
from agent.store.db import Store

WAIT_S = 60.0
MUTATIONS = 1000
EVENTS = 300

#: A row of the table ``event``.
EventRow = tuple[int, int, int, str, str, str, bytes]
Change = Callable[[sqlite3.Connection, random.Random, Sequence[EventRow]], str]


def make_ledger(path: Path, events: int = EVENTS) -> None:
    """A ledger of two boots, with sessions, notes and commands of all kinds of texts."""
    clock = FakeClock()
    rng = random.Random(11)  # noqa: S311 - no secret
    for part in range(2):
        with closing(Store.open(path, clock)) as store:
            for number in range(events // 2):
                clock.advance(rng.choice((0, 0.25, 60)))
                data = {"number": number, "text": rng.choice(("", "ü€😀", "a,b", '"', "\n", "1:2,")), "x": rng.random()}
                subject = rng.choice(("cp1", "cp2", "", "a b"))
                store.record(Event(rng.choice(("audit", "command.result")), clock.now_us() + part, subject, data))
            store.record(Event("last", clock.now_us())).result(WAIT_S)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ledger") / "enlace.db"
    make_ledger(path)
    with closing(sqlite3.connect(path)) as connection:
        return connection.serialize()


@pytest.fixture
def path(tmp_path: Path, original: bytes) -> Path:
    path = tmp_path / "enlace.db"
    path.write_bytes(original)
    return path


def changed(path: Path, *statements: str, seq: int = 0) -> Report:
    """Do it, with the number in place of ``{m}``; what verification finds then."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement.replace("{m}", str(seq)))
        connection.commit()
    return verify(path)


def seqs(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM event ORDER BY seq")]


# -- in order


def test_a_ledger_as_it_was_written_is_in_order(path: Path) -> None:
    report = verify(path)
    assert (report.ok, report.rows, report.uncovered, report.faults) == (True, EVENTS + 2, 0, [])
    assert (report.first_seq, report.last_seq) == (seqs(path)[0], seqs(path)[-1])


def test_how_far_it_is_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "TELL_EVERY", 2)
    told: list[tuple[int, int]] = []
    report = verify(path, lambda done, of: told.append((done, of)))
    assert told == [(done, report.rows) for done in (*range(2, report.rows + 1, 2), report.rows)]


def test_a_new_ledger_is_in_order(tmp_path: Path) -> None:
    Store.open(tmp_path / "enlace.db", FakeClock()).close()
    report = verify(tmp_path / "enlace.db")
    assert (report.ok, report.rows, report.last_seq) == (True, 0, None)


def test_it_is_verified_while_the_gateway_writes(tmp_path: Path) -> None:
    clock = FakeClock()
    with closing(Store.open(tmp_path / "enlace.db", clock)) as store:
        for number in range(1, 4):
            store.record(Event("audit", clock.now_us())).result(WAIT_S)
            assert (verify(tmp_path / "enlace.db").ok, verify(tmp_path / "enlace.db").rows) == (True, number)


def test_each_event_carries_its_hash_out_of_the_house(path: Path) -> None:
    with closing(Store.open(path, FakeClock())) as store:
        stored = store.events(0, 1000)
    assert len({one.hash for one in stored}) == len(stored)
    assert stored[-1].hash == verify(path).last_hash.hex()


def test_a_database_of_somebody_else_is_called_that(tmp_path: Path) -> None:
    """It was called one of an older Enlace, with the advice to start the gateway on it."""
    path = tmp_path / "contacts.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE person(name)")
        connection.commit()
    with pytest.raises(StoreError, match="none of Enlace"):
        verify(path)


def test_what_was_there_before_the_chain_is_counted_and_not_covered(tmp_path: Path) -> None:
    path, clock = tmp_path / "enlace.db", FakeClock()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        schema.migrate(connection, schema.STEPS[:2])
        connection.execute("INSERT INTO event VALUES(7, 1, 5, 'old.event', '', '{}')")
        connection.execute("INSERT INTO event VALUES(8, 1, 5, 'old.event', '', '{}')")
    with pytest.raises(StoreError, match="has no chain"):
        verify(path)
    with closing(Store.open(path, clock)) as store:
        store.record(Event("new", clock.now_us())).result(WAIT_S)
        assert [one.hash != "" for one in store.events(0, 9)] == [False, False, True]
    report = verify(path)
    assert (report.ok, report.uncovered, report.rows) == (True, 2, 1)
    report = changed(path, "DELETE FROM event WHERE seq = 7")
    assert [(fault.seq, fault.what) for fault in report.faults] == [(8, "removed")]
    report = changed(path, "UPDATE chain_start SET rows = 1")
    assert not report.ok


# -- what was done


def middle(path: Path) -> int:
    numbers = seqs(path)
    return numbers[len(numbers) // 2]


@pytest.mark.parametrize(
    ("statements", "what", "shift"),
    [
        (["UPDATE event SET data = '{}' WHERE seq = {m}"], "edited", 0),
        (["UPDATE event SET data = CAST(data AS BLOB) WHERE seq = {m}"], "edited", 0),
        (["UPDATE event SET t_us = t_us + 1 WHERE seq = {m}"], "edited", 0),
        (["UPDATE event SET boot = 3 - boot WHERE seq = {m}"], "edited", 0),
        (["UPDATE event SET hash = zeroblob(32) WHERE seq = {m}"], "edited", 0),
        (["DELETE FROM event WHERE seq = {m}"], "removed", 0),
        (
            [
                "DELETE FROM event WHERE seq = {m}",
                "UPDATE event SET seq = -seq + 1 WHERE seq > {m}",
                "UPDATE event SET seq = -seq WHERE seq < 0",
            ],
            "removed",
            0,
        ),
        (
            [
                "UPDATE event SET seq = -seq - 1 WHERE seq >= {m}",
                "UPDATE event SET seq = -seq WHERE seq < 0",
                "INSERT INTO event SELECT {m}, boot, t_us, kind, subject, data, hash FROM event WHERE seq = {m} + 9",
            ],
            "inserted",
            0,
        ),
        (["INSERT INTO event SELECT max(seq) + 1, 1, 5, 'x', '', '{}', zeroblob(32) FROM event"], "inserted", None),
        (["INSERT INTO event SELECT min(seq) - 1, 1, 5, 'x', '', '{}', NULL FROM event"], "inserted", None),
        (
            [
                "UPDATE event SET seq = -1 WHERE seq = {m}",
                "UPDATE event SET seq = {m} WHERE seq = {m} + 1",
                "UPDATE event SET seq = {m} + 1 WHERE seq = -1",
            ],
            "reordered",
            0,
        ),
        (
            [
                "UPDATE event SET seq = -1 WHERE seq = {m}",
                "UPDATE event SET seq = {m} WHERE seq = {m} + 40",
                "UPDATE event SET seq = {m} + 40 WHERE seq = -1",
            ],
            "reordered",
            0,
        ),
        (["DELETE FROM event WHERE seq >= {m}"], "cut off", 0),
        (["DELETE FROM event WHERE seq < {m}"], "removed", None),
        (["DELETE FROM event"], "cut off", None),
        (["DELETE FROM chain_head"], "chain", None),
        (["DELETE FROM chain_start"], "chain", None),
        (["UPDATE chain_start SET salt = zeroblob(32)"], "edited", None),
        (["UPDATE chain_head SET hash = zeroblob(32)"], "edited", None),
        (["UPDATE chain_head SET seq = seq - 1"], "inserted", None),
        (["UPDATE boot SET boot = 'x' WHERE id = 2"], "edited", None),
    ],
)
def test_the_first_broken_event_is_named_and_what_is_wrong(
    path: Path, statements: list[str], what: str, shift: int | None
) -> None:
    seq = middle(path)
    report = changed(path, *statements, seq=seq)
    assert not report.ok
    assert report.faults[0].what == what
    if shift is not None:
        assert report.faults[0].seq == seq + shift


@pytest.mark.parametrize("change", ["data = '{}'", "hash = zeroblob(32)", "subject = 'x'"])
def test_one_edited_event_is_one_fault(path: Path, change: str) -> None:
    report = changed(path, "UPDATE event SET {c} WHERE seq = {m}".replace("{c}", change), seq=middle(path))
    assert [(fault.seq, fault.what) for fault in report.faults] == [(middle(path), "edited")]


def test_what_was_cut_off_stays_missing_when_the_gateway_goes_on(path: Path) -> None:
    numbers = seqs(path)
    assert not changed(path, "DELETE FROM event WHERE seq > {m}", seq=numbers[-5]).ok
    clock = FakeClock()
    with closing(Store.open(path, clock)) as store:
        new = store.record(Event("later", clock.now_us())).result(WAIT_S)
    assert new == numbers[-1] + 1  # a number that had left the house is not given again
    report = verify(path)
    assert [(fault.seq, fault.what) for fault in report.faults] == [(numbers[-5] + 1, "removed")]


def test_a_damaged_event_that_is_set_aside_is_told_and_those_behind_it_are_verified(path: Path) -> None:
    seq = middle(path)
    changed(path, "UPDATE event SET data = '{\"numb' WHERE seq IN ({m}, {m} + 1)", seq=seq)
    with closing(Store.open(path, FakeClock())) as store:
        assert seq not in [stored.seq for stored in store.events(0, 1000)]
        store.flush().result(WAIT_S)
    report = verify(path)
    assert [(fault.seq, fault.what) for fault in report.faults] == [(seq, "set aside"), (seq + 1, "set aside")]
    edited = changed(path, "UPDATE event SET subject = 'x' WHERE seq = {m}", seq=seq + 2)
    assert [(fault.seq, fault.what) for fault in edited.faults[2:]] == [(seq + 2, "edited")]


def test_a_new_file_says_where_the_ledger_of_the_one_moved_aside_ended(path: Path) -> None:
    newest = verify(path)
    changed(path, "PRAGMA user_version = 99")
    with closing(Store.open(path, FakeClock())) as store:
        assert store.opened.moved_to is not None
        store.record(Event("later", 1)).result(WAIT_S)
        (told,) = store.events(0, 9, "store.moved_aside")
    assert (told.event.kind, told.event.data["ledger_seq"]) == ("store.moved_aside", newest.last_seq)
    assert told.event.data["ledger_hash"] == newest.last_hash.hex()
    assert verify(path).ok
    assert verify(path).first_seq == newest.first_seq  # the old ledger was taken over, with its own chain


# -- 1,000 mutations


def _edit(connection: sqlite3.Connection, rng: random.Random, found: Sequence[EventRow]) -> str:
    row = rng.choice(found)
    names = ("boot", "t_us", "kind", "subject", "data", "hash")
    index = rng.randrange(len(names))
    name, value = names[index], row[index + 1]
    new: object
    if isinstance(value, bytes):
        place = rng.randrange(len(value))
        new = value[:place] + bytes([value[place] ^ (1 << rng.randrange(8))]) + value[place + 1 :]
        new = rng.choice((new, new, None, b"", rng.randbytes(32)))
    elif isinstance(value, int):
        new = value + rng.choice((-1, 1, 10**6)) if name == "t_us" else rng.choice((3 - value, 0, 99))
    else:
        place = rng.randrange(len(value) + 1)
        new = value[:place] + rng.choice("x ,1") + value[place:]
        new = rng.choice((new, new, f"{value} ", value.encode(), "" if value else "-"))
    connection.execute(f"UPDATE event SET {name} = ? WHERE seq = ?", (new, row[0]))  # noqa: S608 - one of our columns
    return f"{name} of {row[0]}: {value!r} -> {new!r}"


def _remove(connection: sqlite3.Connection, rng: random.Random, found: Sequence[EventRow]) -> str:
    first = rng.randrange(len(found))
    count = rng.choice((1, 1, 2, 50))
    connection.executemany("DELETE FROM event WHERE seq = ?", [row[:1] for row in found[first : first + count]])
    return f"removed {count} from {found[first][0]}"


def _swap(connection: sqlite3.Connection, rng: random.Random, found: Sequence[EventRow]) -> str:
    one, other = rng.sample(range(len(found)), 2)
    whole = rng.random() < 0.5  # else the hashes stay where they are
    connection.executemany("DELETE FROM event WHERE seq = ?", [found[one][:1], found[other][:1]])
    for source, place in ((one, other), (other, one)):
        digest = found[source if whole else place][6]
        values = (found[place][0], *found[source][1:6], digest)
        connection.execute("INSERT INTO event VALUES(?, ?, ?, ?, ?, ?, ?)", values)
    return f"swapped {found[one][0]} and {found[other][0]}, whole: {whole}"


def _insert(connection: sqlite3.Connection, rng: random.Random, found: Sequence[EventRow]) -> str:
    place, source = rng.randrange(len(found) + 1), rng.choice(found)
    seq = found[place][0] if place < len(found) else found[-1][0] + 1
    connection.execute("UPDATE event SET seq = -seq - 1 WHERE seq >= ?", (seq,))
    connection.execute("UPDATE event SET seq = -seq WHERE seq < 0")
    digest = rng.choice((source[6], None, rng.randbytes(32)))
    connection.execute("INSERT INTO event VALUES(?, ?, ?, ?, ?, ?, ?)", (seq, *source[1:6], digest))
    return f"inserted before {seq}"


def _cut(connection: sqlite3.Connection, rng: random.Random, found: Sequence[EventRow]) -> str:
    count = rng.choice((1, 2, rng.randrange(1, len(found)), len(found)))
    connection.executemany("DELETE FROM event WHERE seq = ?", [row[:1] for row in found[-count:]])
    return f"cut off {count}"


CHANGES: tuple[Change, ...] = (_edit, _edit, _remove, _swap, _insert, _cut)


def test_each_of_1000_mutations_is_found(path: Path) -> None:
    rng = random.Random(2026)  # noqa: S311 - no secret
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        found = connection.execute("SELECT seq, boot, t_us, kind, subject, data, hash FROM event ORDER BY seq")
        before = found.fetchall()
        missed = []
        for _ in range(MUTATIONS):
            connection.execute("BEGIN")
            done = rng.choice(CHANGES)(connection, rng, before)
            connection.execute("COMMIT")
            now = connection.execute("SELECT * FROM event ORDER BY seq").fetchall()
            if now != before and verify(path).ok:
                missed.append(done)
            connection.execute("BEGIN")
            connection.execute("DELETE FROM event")
            connection.executemany("INSERT INTO event VALUES(?, ?, ?, ?, ?, ?, ?)", before)
            connection.execute("COMMIT")
        assert missed == []
    assert verify(path).ok


# -- the command


def enlace(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and error of the command, in this process: starting one takes a second."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["audit", *arguments])
    return code, out.getvalue(), err.getvalue()


def export(path: Path, *arguments: str) -> list[bytes]:
    code, out, err = enlace("export", "--data-dir", str(path.parent), *arguments)
    assert (code, err.startswith("events: ")) == (0, True), err
    return out.encode().splitlines(keepends=True)


def test_the_command_is_there(path: Path) -> None:
    command = [sys.executable, "-m", "agent", "audit", "--data-dir", str(path.parent)]
    done = subprocess.run([*command, "verify"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("in order; ")
    changed(path, "DELETE FROM event WHERE seq = 5")
    assert subprocess.run([*command, "verify"], capture_output=True, check=False, timeout=60).returncode == 1


def test_the_command_says_that_all_is_in_order(path: Path) -> None:
    code, out, err = enlace("verify", "--data-dir", str(path.parent))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"the ledger: {EVENTS + 2} events checked, numbers 1 to {EVENTS + 2}",
        f"in order; the newest event's hash is {verify(path).last_hash.hex()}",
    ]


def test_the_command_names_what_is_broken(path: Path) -> None:
    changed(path, "DELETE FROM event WHERE seq = 5", "UPDATE event SET subject = 'x' WHERE seq = 9")
    code, out, _ = enlace("verify", "--data-dir", str(path.parent))
    assert code == 1
    lines = out.splitlines()
    assert lines[1] == "5: removed: 1 event is missing before this number: 6"
    assert lines[2].startswith("9: edited: ")
    assert lines[3:] == ["NOT in order"]


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_what_is_no_store_is_said_in_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "enlace.db").write_text("no database, whatever its name says" * 100)
    code, out, err = enlace("verify", "--data-dir", str(tmp_path / folder))
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_an_export_is_verified_on_its_own(path: Path, tmp_path: Path) -> None:
    lines = export(path)
    assert len(lines) == EVENTS + 3
    assert json.loads(lines[0])["kind"] in {"audit", "command.result"}
    file = tmp_path / "export.jsonl"
    file.write_bytes(b"".join(lines))
    code, out, err = enlace("verify", "--file", str(file))
    assert (code, err) == (0, "")
    assert verify(path).last_hash.hex() in out
    file.write_bytes(b"".join(lines).replace(b'"subject":"cp1"', b'"subject":"cp2"', 1))
    assert enlace("verify", "--file", str(file))[0] == 1


def test_each_change_of_an_export_is_found(path: Path) -> None:
    lines = export(path)
    assert verify_lines(lines).ok
    rng = random.Random(5)  # noqa: S311 - no secret
    for _ in range(200):
        now = [*lines]
        place = rng.randrange(len(now))
        how = rng.choice(("edit", "remove", "swap", "repeat", "cut"))
        if how == "edit":
            letter = rng.randrange(len(now[place]))
            now[place] = now[place][:letter] + bytes([now[place][letter] ^ 1]) + now[place][letter + 1 :]
        elif how == "remove":
            del now[place]
        elif how == "swap":
            now[place - 1], now[place] = now[place], now[place - 1]
        elif how == "repeat":
            now.insert(place, now[place])
        else:
            del now[place:]
        assert not verify_lines(b"".join(now).splitlines(keepends=True)).ok, (how, place)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: [lines[0].replace(b'"boot":"', b'"boot":"0', 1), *lines[1:]], "edited"),
        (lambda lines: [*lines[:7], *lines[8:]], "removed"),
        (lambda lines: [*lines[:7], lines[8], lines[7], *lines[9:]], "reordered"),
    ],
)
def test_a_change_is_found_also_when_the_last_line_was_made_anew(
    path: Path, change: Callable[[list[bytes]], list[bytes]], what: str
) -> None:
    *events, _ = export(path)
    forged = change(events)
    digest = hashlib.sha256(b"".join(forged)).hexdigest()
    end = json.dumps({"events": len(forged), "whole": True, "sha256": digest}).encode()
    assert what in [fault.what for fault in verify_lines([*forged, end]).faults]


def test_an_export_of_some_is_verified_as_far_as_it_goes(path: Path) -> None:
    everything = [json.loads(line) for line in export(path)[:-1]]
    lines = export(path, "--kind", "command")
    some = [json.loads(line) for line in lines[:-1]]
    assert some == [one for one in everything if one["kind"].startswith("command")]
    assert 0 < len(some) < len(everything)
    assert verify_lines(lines).ok
    from_, to = everything[40]["time"], everything[200]["time"]
    lines = export(path, "--from", from_, "--to", to)
    assert [json.loads(line) for line in lines[:-1]] == [one for one in everything if from_ <= one["time"] < to]
    assert verify_lines(lines).ok
    assert not verify_lines(lines[:50]).ok


def test_an_export_of_damaged_events_goes_on_and_is_not_in_order(path: Path) -> None:
    changed(path, "UPDATE event SET data = x'80ff' WHERE seq = 3", "UPDATE event SET hash = NULL WHERE seq = 5")
    lines = export(path)
    assert len(lines) == EVENTS + 3
    assert {fault.seq for fault in verify_lines(lines).faults} >= {3, 5}


def test_a_csv_export_holds_no_formulas(path: Path) -> None:
    with closing(Store.open(path, FakeClock())) as store:
        store.record(Event("audit", 1_700_000_000_000_000, "=1+1", {"a": 1})).result(WAIT_S)
    found = list(csv.DictReader(io.StringIO(b"".join(export(path, "--format", "csv")).decode(), newline="")))
    assert len(found) == EVENTS + 3
    assert found[-1]["subject"] == "'=1+1"
    assert json.loads(found[-1]["data"]) == {"a": 1}
    assert found[-1]["time"] == "2023-11-14T22:13:20.000000Z"
    assert found[-1]["hash"] == verify(path).last_hash.hex()
