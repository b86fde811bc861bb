"""The central side on a real PostgreSQL, without a broker: each record once, gaps, late catalogues and late clocks."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest

from agent.core.errors import ConfigError, Unavailable
from agent.core.model import Signal
from agent.core.ports import StoredBlock
from cloud_sync.central import names, schema
from cloud_sync.central.database import Database
from cloud_sync.central.intake import Intake, Stored
from cloud_sync.central.later import Later
from cloud_sync.central.ledger import KEPT_REFUSALS, Ledger
from cloud_sync.central.names import Names
from cloud_sync.payload import encode_block, encode_catalog, encode_event, encode_json, encode_state
from tests.e2e.brokers import ROOT
from tests.e2e.postgres import NEEDED, Postgres, postgres_server
from tests.unit.uplink_fakes import BOOT, SIGNALS, T0_US, block, event

pytestmark = NEEDED

BY_ID = {signal.id: signal for signal in SIGNALS}
CATALOG = ("enlace/a/catalog", encode_catalog(1, SIGNALS))
CATALOG_B = ("enlace/b/catalog", CATALOG[1])
STATE = encode_state(online=True, since_us=T0_US, version="1", boot=BOOT)
OTHER_BOOT = "f" * 32


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


class Central:
    """One worker's hands on a database."""

    def __init__(self, dsn: str, give_up_s: float = 0) -> None:
        self.dsn = dsn
        known = Names()
        self.database = Database(dsn, known.forget)
        self.intake = Intake(self.database, known)
        self.later = Later(self.database, known)
        self.ledger = Ledger(self.database, give_up_s)

    def store(self, *messages: tuple[str, bytes]) -> Stored:
        return self.intake.store(messages)

    def settle(self, base: int = 0, lowest: int = 1, stream: str = "telemetry") -> int:
        return self.ledger.settle({("a", stream): (base, lowest)})["a", stream]

    def ask(self, query: str) -> list[tuple[object, ...]]:
        return self.database.call(lambda connection: connection.execute(query.encode()).fetchall())

    def one(self, query: str) -> object:
        ((value,),) = self.ask(query)
        return value

    def gaps(self) -> list[tuple[object, ...]]:
        return self.ask("SELECT from_seq, to_seq, state FROM enlace.gaps ORDER BY 1")


@pytest.fixture(scope="module")
def dsn(server: Postgres) -> str:
    return server.new_database()


@pytest.fixture
def central(dsn: str) -> Iterator[Central]:
    """On a database without tables."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS enlace CASCADE")
    central = Central(dsn)
    yield central
    central.database.close()


def told(*seqs: int, base: int = 0, site: str = "a") -> list[tuple[str, bytes]]:
    return [(f"enlace/{site}/telemetry", encode_block(block(seq), 1, base)) for seq in seqs]


def happened(seq: int, kind: str = "device.offline", **data: object) -> tuple[str, bytes]:
    return "enlace/a/event", encode_event(event(seq, kind, **data))


def rows_of(central: Central) -> list[tuple[object, ...]]:
    return central.ask(
        "SELECT point, (extract(epoch FROM t) * 1000000)::bigint, value FROM enlace.samples ORDER BY 2, 1"
    )


def expected(*seqs: int, shift_us: int = 0) -> set[tuple[object, ...]]:
    rows: set[tuple[object, ...]] = set()
    for seq in seqs:
        for id_, signal in BY_ID.items():
            for index in range(5):
                value = seq + index / 7 if id_ == 5 else float(signal.physical(seq + index))
                t_us = T0_US + seq * 1_000_000 + index * 100_000 + shift_us
                rows.add((signal.name, t_us, None if id_ == 2 and index == 4 else value))
    return rows


def test_values_are_equal_and_whatever_comes_again_changes_nothing(central: Central) -> None:
    as_json = ("enlace/a/telemetry", next(encode_json(block(3), 1, BY_ID)))
    stored = central.store(CATALOG, *told(1, 2), as_json, happened(1, reason="gone"))
    assert (stored.records, stored.samples) == (4, 75)
    again = central.store(CATALOG, *told(2, 1, 1), as_json, happened(1, reason="gone"))
    assert (again.records, again.samples, again.repeated) == (0, 0, 4)
    rows = rows_of(central)
    assert (len(rows), set(rows)) == (75, expected(1, 2, 3))
    assert central.ask("SELECT kind, subject, data FROM enlace.events") == [
        ("device.offline", "battery1", {"reason": "gone"})
    ]
    assert (central.settle(), central.settle(stream="event")) == (3, 1)


def test_two_workers_that_get_the_same_at_the_same_time_write_it_once(central: Central) -> None:
    others = [Central(central.dsn) for _ in range(3)]
    central.store(CATALOG)
    batches = [[told(*range(start, start + 10))[place] for place in range(10)] for start in range(1, 101, 10)]

    def work(worker: Central, order: Sequence[int]) -> int:
        return sum(worker.store(*batches[place]).samples for place in order)

    orders = [list(range(10)), list(range(9, -1, -1)), [5, 0, 9, 1, 8, 2, 7, 3, 6, 4], list(range(10))]
    with ThreadPoolExecutor(4) as threads:
        written = list(threads.map(work, [central, *others], orders))
    assert sum(written) == 2500
    rows = rows_of(central)
    assert (len(rows), set(rows)) == (2500, expected(*range(1, 101)))
    assert central.settle() == 100
    for other in others:
        other.database.close()


def test_another_split_of_numbers_that_are_stored_doubles_nothing(central: Central) -> None:
    """A gateway whose payload was configured anew while a block was on its way."""
    big = replace(block(1200, first_seq=1, rows=1200), seq=1200)
    parts = [("enlace/a/telemetry", payload) for payload in encode_json(big, 1, BY_ID)]
    whole = ("enlace/a/telemetry", encode_block(big, 1))
    assert len(parts) > 1
    central.store(CATALOG, parts[0])
    assert central.settle() == 1200 // len(parts)
    central.store(whole)
    assert central.one("SELECT count(*) FROM enlace.samples") == 6000
    assert central.one("SELECT count(*) FROM (SELECT DISTINCT series, t FROM enlace.samples) s") == 6000
    assert central.store(parts[1]).samples == 0
    assert central.store(whole).samples == 0
    assert central.one("SELECT count(*) FROM enlace.samples") == 6000
    assert central.settle() == 1200


def test_raw_words_wait_for_their_catalogue_and_are_acknowledged(central: Central) -> None:
    stored = central.store(*told(1, 2))
    assert (stored.waiting, stored.samples) == (2, 0)
    assert central.settle() == 2
    assert central.store(*told(1)).waiting == 0
    assert central.later.convert(["a"]) == (0, False)
    assert central.store(CATALOG).catalogs == {"a"}
    assert central.later.convert(central.later.sites_waiting()) == (2, False)
    assert set(rows_of(central)) == expected(1, 2)
    assert central.one("SELECT count(*) FROM enlace.pending") == 0
    assert central.ask("SELECT rows FROM enlace.record") == [(25,), (25,)]


def test_of_two_workers_one_converts_what_waited(central: Central) -> None:
    other = Central(central.dsn)
    central.store(*told(*range(1, 41)))
    other.store(CATALOG)
    with ThreadPoolExecutor(2) as threads:
        done = sum(converted for converted, _ in threads.map(lambda one: one.later.convert(["a"]), (central, other)))
    assert done == 40
    assert len(rows_of(central)) == 1000
    other.database.close()


def test_a_store_that_began_anew_gives_its_numbers_another_meaning(central: Central) -> None:
    """Old rows keep theirs, also those that come late; the new boot's rows have the new one."""
    central.store(CATALOG, *told(1, 2))
    renamed = [replace(signal, device="battery9", scale=2) for signal in SIGNALS]
    central.store(("enlace/a/catalog", encode_catalog(1, renamed)))
    newer = [("enlace/a/telemetry", encode_block(replace(block(5000), boot=OTHER_BOOT), 1))]
    central.store(*newer, *told(3))
    found = central.ask("SELECT device, count(*), max(value) FROM enlace.samples WHERE point = 'voltage_v' GROUP BY 1")
    assert sorted(found) == [("battery1", 15, 0.1 * 7), ("battery9", 5, 10008.0)]


def test_names_follow_the_catalogue(central: Central) -> None:
    central.store(CATALOG)
    relabelled = [replace(signal, labels={0: "aus", 1: "lädt"}) if signal.id == 3 else signal for signal in SIGNALS]
    more = Signal("meter", "power_w", "W", id=6)
    central.store(("enlace/a/catalog", encode_catalog(2, [*relabelled, more])), *told(1))
    found = central.ask("SELECT value, label FROM enlace.samples WHERE point = 'bms_state' AND value <= 2 ORDER BY 1")
    assert found == [(1.0, "lädt"), (2.0, None)]
    assert central.one("SELECT count(*) FROM enlace.series") == 6


def test_samples_of_a_clock_that_was_not_set_are_corrected_once(central: Central) -> None:
    shift_us = 86_400_000_000
    unset = [("enlace/a/telemetry", encode_block(replace(block(seq), clock_set=False), 1)) for seq in (1, 2)]
    central.store(CATALOG, unset[0], ("enlace/a/event", encode_event(replace(event(1), clock_set=False))))
    assert set(central.ask("SELECT clock FROM enlace.samples")) == {("unset",)}
    corrected = happened(2, "clock.corrected", boot=BOOT, offset_us=shift_us, from_us=0, to_us=T0_US + 10_000_000)
    assert central.store(corrected).corrected
    assert central.later.correct() == 1
    assert set(rows_of(central)) == expected(1, shift_us=shift_us)
    # What comes later, or again, of the same boot.
    central.store(unset[1], unset[0], corrected, *told(3))
    assert central.later.correct() == 1
    assert central.later.correct() == 0
    rows = rows_of(central)
    assert (len(rows), set(rows)) == (75, expected(1, 2, shift_us=shift_us) | expected(3))
    assert central.ask("SELECT clock, count(*) FROM enlace.events GROUP BY 1 ORDER BY 1") == [
        ("corrected", 1), ("set", 1)
    ]  # fmt: skip
    assert central.one("SELECT samples FROM enlace.correction") == 50


def test_times_by_another_clock_are_not_corrected(central: Central) -> None:
    central.store(CATALOG, ("enlace/a/telemetry", encode_block(replace(block(1), clock_set=False), 1)))
    central.store(happened(1, "clock.corrected", boot=BOOT, offset_us=1000, from_us=0, to_us=T0_US + 1_100_000))
    central.later.correct()
    assert {row for row in rows_of(central) if row[0] == "bms_state"} == {
        ("bms_state", T0_US + 1_000_000 + index * 100_000 + (1000 if index < 2 else 0), float(1 + index))
        for index in range(5)
    }


def test_a_correction_that_makes_no_sense_corrects_nothing(central: Central) -> None:
    central.store(CATALOG, ("enlace/a/telemetry", encode_block(replace(block(1), clock_set=False), 1)))
    for seq, offset in enumerate(("x", None, 1 << 80, -1e300, True), 1):
        central.store(happened(seq, "clock.corrected", boot=BOOT, offset_us=offset))
    assert central.later.correct() == 0
    assert set(rows_of(central)) == expected(1)


@pytest.mark.announced_warnings
def test_a_gap_is_opened_filled_given_up_and_filled_late(central: Central) -> None:
    central.store(CATALOG, *told(1, 2, 5, 9))
    assert central.settle() == 2
    assert central.gaps() == [(3, 4, "open"), (6, 8, "open")]
    central.store(*told(3))
    assert central.settle(lowest=3) == 3
    central.store(*told(4))
    assert central.settle(lowest=4) == 5
    assert central.gaps() == [(3, 4, "filled"), (6, 8, "open")]
    assert central.ledger.unsettled() == []
    assert central.settle(base=8) == 9
    assert central.gaps() == [(3, 4, "filled"), (6, 8, "lost")]
    central.store(*told(7))
    central.settle(base=8, lowest=7)
    assert central.gaps() == [(3, 4, "filled"), (6, 6, "lost"), (8, 8, "lost")]
    central.store(*told(6, 8))
    central.settle(base=8, lowest=6)
    assert central.gaps() == [(3, 4, "filled"), (6, 6, "filled"), (8, 8, "filled")]
    assert set(rows_of(central)) == expected(*range(1, 10))


@pytest.mark.announced_warnings
def test_what_a_gateway_dropped_is_lost_with_its_reason(central: Central) -> None:
    central.store(CATALOG, *told(1, 10), happened(1, "store.dropped", stream="telemetry", from_seq=2, to_seq=9))
    central.settle()
    assert central.settle(base=9) == 10
    assert central.ask("SELECT from_seq, to_seq, state, reason FROM enlace.gaps") == [(2, 9, "lost", "store.dropped")]


def test_a_gap_below_base_waits_for_other_workers_first(central: Central) -> None:
    patient = Central(central.dsn, give_up_s=3600)
    patient.store(CATALOG, *told(1), *told(4, base=3))
    assert (patient.settle(base=3), patient.settle(base=3)) == (1, 1)
    patient.store(*told(2, 3))
    assert patient.settle(base=3) == 4
    assert patient.gaps() == [(2, 3, "filled")]
    patient.database.close()


def test_a_new_database_owes_nothing_below_base(central: Central) -> None:
    central.store(CATALOG, *told(5_000_003, 5_000_001, base=5_000_000))
    assert central.settle(base=5_000_000) == 5_000_001
    assert central.gaps() == [(5_000_002, 5_000_002, "open")]


def test_live_data_that_comes_first_is_not_taken_for_the_first_of_all(central: Central) -> None:
    """A store that began while the clock was not set numbers from 1, and nothing of it is confirmed: no ``base``."""
    central.store(CATALOG, *told(5))
    assert central.settle() == 0, "to confirm 5 would have the gateway forget its backlog"
    assert central.gaps() == [(1, 4, "open")]
    central.store(*told(1, 2, 3, 4))
    assert central.settle(lowest=1) == 5


@pytest.mark.announced_warnings
def test_a_database_that_was_restored_says_what_it_lost(central: Central) -> None:
    central.store(CATALOG, *told(1, 2))
    central.settle()
    central.store(*told(500, base=499))
    central.settle(base=499)
    assert central.ledger.unsettled() == [("a", "telemetry")]
    assert central.settle(base=499) == 500
    assert central.gaps() == [(3, 499, "lost")]


def test_what_a_killed_worker_left_is_settled_by_the_next(central: Central) -> None:
    central.store(CATALOG, *told(1, 2))
    assert central.ledger.left_behind() == [("a", "telemetry")]
    central.settle()
    assert central.ledger.left_behind() == []


def test_bad_messages_are_kept_counted_and_in_nobodys_way(central: Central) -> None:
    wide = encode_event(event(2)).replace(b'"data":{}', b'"data":{"x":1' + b"0" * 140_000 + b"}")
    nul = happened(3, "weird", text="a\0b")
    damaged = ("enlace/a/telemetry", encode_block(block(2), 1)[:-4])
    stored = central.store(
        CATALOG, *told(1), ("enlace/a/event", wide), damaged, ("enlace/a/event", b"{"), nul, *told(3)
    )
    assert (stored.samples, len(stored.refused)) == (50, 3)
    assert set(rows_of(central)) == expected(1, 3)
    assert central.ask("SELECT data FROM enlace.events WHERE seq = 3") == [({"text": "a␀b"},)]
    # Its envelope says which record it was: it need not come again.
    assert central.settle() == 3
    assert central.one("SELECT count(*) FROM enlace.refused") == 3
    assert central.one("SELECT refused FROM enlace.site") == 3
    assert central.store(CATALOG, ("enlace/a/event", wide)).records == 0


def test_a_poisonous_site_name_is_refused(central: Central) -> None:
    stored = central.store((f"enlace/{'x' * 300}/telemetry", encode_block(block(1), 1)), *told(1))
    assert (len(stored.refused), stored.records) == (1, 1)


def test_a_site_that_invents_names_has_so_many_and_the_rest_is_refused_and_counted(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_SERIES", 12)
    first = central.store(CATALOG, *told(1))
    assert (first.refused, central.one("SELECT count(*) FROM enlace.series")) == ([], 5)
    for version in range(2, 12):  # each is another store's: ten new names each time
        invented = [replace(one, name=f"{one.name}{version}") for one in SIGNALS]
        stored = central.store(("enlace/a/catalog", encode_catalog(version, invented)), CATALOG_B)
        assert bool(stored.refused) == (version > 2)
    assert "12 are kept" in stored.refused[0].reason
    assert central.ask(
        "SELECT site.name, count(*) FROM enlace.series JOIN enlace.site ON site.id = site GROUP BY 1"
    ) == [
        ("a", 10),
        ("b", 5),
    ], "each site has a bound of its own"
    assert central.ask("SELECT name, refused, epoch FROM enlace.site ORDER BY 1") == [("a", 9, 2), ("b", 0, 1)]
    # What it has goes on, and so does a label that changes.
    again = central.store(*told(2))
    assert (again.records, again.samples) == (1, 25)


def test_a_name_of_a_megabyte_is_refused(central: Central) -> None:
    loud = replace(SIGNALS[0], labels={1: "x" * names.MAX_TEXT})
    stored = central.store(("enlace/a/catalog", encode_catalog(1, [loud])), CATALOG_B)
    assert [one.topic for one in stored.refused] == ["a/catalog"]
    assert central.one("SELECT count(*) FROM enlace.series") == 5
    # Nor is a small one made so large afterwards.
    central.store(CATALOG)
    stored = central.store(("enlace/a/catalog", encode_catalog(2, [loud, *SIGNALS[1:]])))
    assert [one.topic for one in stored.refused] == ["a/catalog"]
    assert central.one("SELECT max(length(labels::text)) < 1000 FROM enlace.series") is True


def test_sites_beyond_the_bound_have_no_place_and_hold_up_nobody(
    central: Central, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "MAX_SITES", 3)
    central.store(CATALOG, CATALOG_B)
    invented = [message for number in range(20) for message in told(1, site=f"x{number}")]
    stored = central.store(
        *told(1), *invented, *told(1, site="b"), ("enlace/y/state", STATE), ("enlace/y/catalog", CATALOG[1])
    )
    assert central.one("SELECT count(*) FROM enlace.site") == 3
    assert (stored.records, len(stored.refused)) == (3, 21)
    assert set(stored.touched) == {("a", "telemetry"), ("b", "telemetry"), ("x0", "telemetry")}, "no word to the others"
    assert central.store(*told(2), *told(2, site="x7")).records == 1


def test_what_is_refused_is_bounded(central: Central) -> None:
    central.store(*told(1))
    many = f"generate_series(1, {KEPT_REFUSALS + 500})"
    insert = "INSERT INTO enlace.refused(topic, reason, bytes, payload) SELECT 't', 'r', 0, ''"
    central.ask(f"{insert} FROM {many} RETURNING 1")
    central.ledger.prune()
    assert central.one("SELECT count(*) FROM enlace.refused") == KEPT_REFUSALS


def test_old_records_are_forgotten_and_still_not_written_again(central: Central) -> None:
    central.store(CATALOG, *told(1, 2, 3, 5))
    central.settle()
    central.ask("UPDATE enlace.record SET received = received - interval '8 days' WHERE seq <> 2 RETURNING 1")
    central.ledger.prune()
    assert central.ask("SELECT seq FROM enlace.record ORDER BY 1") == [(2,), (5,)]
    assert central.store(*told(1, 2, 3, 5)).samples == 0
    assert len(rows_of(central)) == 100


def test_the_state_of_a_site_is_the_newest(central: Central) -> None:
    online = encode_state(online=True, since_us=T0_US, version="1.2", boot=BOOT)
    central.store(("enlace/a/state", online))
    assert central.ask("SELECT online, software, extract(epoch FROM online_since)::int FROM enlace.sites") == [
        (True, "1.2", T0_US // 1_000_000)
    ]
    central.store(("enlace/a/state", encode_state(online=False, since_us=None, version="1.2", boot=BOOT)))
    assert central.one("SELECT online FROM enlace.sites") is False


def test_times_far_off_stand_beside_until_their_month_comes(central: Central) -> None:
    ahead = 366 * 86_400
    future = encode_block(StoredBlock(1, 1, BOOT, 25, block(1).data), 1)
    central.store(CATALOG)
    now_s = central.one("SELECT extract(epoch FROM now())::bigint")
    assert isinstance(now_s, int)
    shifted = next(encode_json(block(1), 1, BY_ID))
    t0 = T0_US + 1_000_000
    shifted = shifted.replace(f'"t0":{t0}'.encode(), f'"t0":{(now_s + ahead) * 1_000_000}'.encode())
    assert shifted != future
    central.store(("enlace/a/telemetry", shifted))
    assert central.one("SELECT count(*) FROM enlace.sample_other") == 25
    # A year later: the same function, with the clock of that day.
    source = central.one("SELECT pg_get_functiondef('enlace.make_month'::regproc)")
    assert isinstance(source, str)
    later = source.replace("now()::date + 40", "now()::date + 500")
    assert later != source
    central.database.call(lambda connection: connection.execute(later.encode()))
    central.ask(f"SELECT enlace.make_month(to_timestamp({now_s + ahead})::date)")
    assert central.one("SELECT count(*) FROM enlace.sample_other") == 0
    assert len(rows_of(central)) == 25


def test_a_server_that_is_killed_loses_nothing_that_was_said_to_be_stored() -> None:
    with postgres_server() as server:
        central = Central(server.new_database())
        for seq in range(1, 31):
            central.store(CATALOG, *told(seq))
            if seq % 10 == 0:
                server.kill()
                with pytest.raises(Unavailable):
                    central.store(*told(seq, seq + 1))
                server.start()
                central.store(*told(seq))
        assert set(rows_of(central)) == expected(*range(1, 31))
        assert len(rows_of(central)) == 750
        central.database.close()


def test_a_database_of_a_newer_program_is_refused(central: Central) -> None:
    central.store(CATALOG)
    central.ask("INSERT INTO enlace.migration(version) VALUES (99) RETURNING 1")
    other = Central(central.dsn)
    with pytest.raises(ConfigError, match="version 99"):
        other.store(CATALOG)


def test_any_number_of_workers_make_the_tables_together(central: Central) -> None:
    workers = [central, *(Central(central.dsn) for _ in range(5))]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda worker: worker.store(CATALOG, *told(1)), workers))
    assert len(rows_of(workers[0])) == 25
    for worker in workers:
        worker.database.close()


_ROLES = "CREATE ROLE enlace_owner LOGIN; CREATE ROLE enlace_writer LOGIN; CREATE ROLE enlace_reader LOGIN;"
#: What docs/central.md says: the grants, and the queries that people need.
_GRANTS, *_QUERIES = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "central.md").read_text(), re.DOTALL)


def test_a_role_that_may_change_no_table_can_write(central: Central) -> None:
    """The SQL of docs/central.md. New months are made for it."""
    dsn = central.dsn.replace("enlace@", "enlace_writer@")
    with pytest.raises(Unavailable, match="writer"):
        Central(dsn).store(CATALOG)
    central.database.call(schema.migrate)
    central.database.call(lambda connection: connection.execute((_ROLES + _GRANTS).encode()))
    writer = Central(dsn)
    unset = ("enlace/a/telemetry", encode_block(replace(block(2), clock_set=False), 1))
    writer.store(CATALOG, *told(1, 9), unset, happened(1, "clock.corrected", offset_us=1))
    writer.settle()
    writer.later.correct()
    writer.ledger.prune()
    assert len(rows_of(writer)) == 75
    with pytest.raises(Unavailable, match="must be owner"):
        writer.ask("DROP TABLE enlace.sample")
    writer.database.close()
    with psycopg.connect(central.dsn.replace("enlace@", "enlace_reader@"), autocommit=True) as reader:
        assert reader.execute("SELECT count(*) FROM enlace.samples").fetchone() == (75,)
        assert len(_QUERIES) == 3
        for query in _QUERIES:
            reader.execute(query.encode()).fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT * FROM enlace.refused")


def test_with_timescaledb_the_samples_are_a_hypertable() -> None:
    (step,) = schema.steps(timescale=True)
    assert "create_hypertable('enlace.sample', 't'" in step
    assert "PARTITION BY" not in step
    assert "create_hypertable" not in schema.steps(timescale=False)[0]


def test_the_server_is_no_other_ones(server: Postgres) -> None:
    """Its settings are those that keep what is committed."""
    with psycopg.connect(server.dsn("postgres")) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == ("on",)
    assert os.environ.get("PGPORT") != str(server.port)
