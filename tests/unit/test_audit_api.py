"""``/api/audit``: the ledger in pages and as CSV."""

import csv
import io
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent.api.users import Role
from agent.core.errors import StoreError
from agent.core.model import Event
from tests.fake_view import START_US
from tests.unit.api_rig import Rig

SECOND_US = 1_000_000
KINDS = ("audit", "command.result", "alarm.raised")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    for number in range(30):
        subject = f"cp{number % 2}"
        rig.ledger.put(Event(KINDS[number % 3], START_US + number * SECOND_US, subject, {"number": number}))
    return rig


def numbers(rig: Rig, query: str = "") -> list[object]:
    answer = rig.call("GET", f"/api/audit{query}", Role.OPERATOR)
    assert answer.status_code == 200, answer.text
    return [item["data"]["number"] for item in answer.json()["items"]]


def test_the_newest_stand_first_in_pages(rig: Rig) -> None:
    assert numbers(rig) == [*reversed(range(30))]
    assert numbers(rig, "?page=2&page_size=12") == [*reversed(range(6, 18))]
    answer = rig.call("GET", "/api/audit?page_size=1", Role.OPERATOR).json()
    assert (answer["total"], answer["page"], answer["page_size"]) == (30, 1, 1)
    (item,) = answer["items"]
    assert item == {
        "seq": 30,
        "time": "2023-11-14T22:13:49.000000Z",
        "kind": "alarm.raised",
        "subject": "cp1",
        "data": {"number": 29},
        "hash": item["hash"],
    }
    assert len(bytes.fromhex(item["hash"])) == 32


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?kind=command", lambda number: number % 3 == 1),
        ("?kind=alarm.raised", lambda number: number % 3 == 2),
        ("?kind=a", lambda number: number % 3 != 1),
        ("?subject=cp1", lambda number: number % 2 == 1),
        ("?subject=cp", lambda number: False),
        ("?from=2023-11-14T22:13:40.000000Z", lambda number: number >= 20),
        ("?to=2023-11-14T22:13:40.000000Z", lambda number: number < 20),
        ("?kind=audit&subject=cp0&from=2023-11-14T22:13:26.000000Z", lambda number: number % 6 == 0 and number >= 6),
        ("?kind=%25", lambda number: False),
    ],
)
def test_filters(rig: Rig, query: str, kept: "object") -> None:
    assert callable(kept)
    assert numbers(rig, query) == [number for number in reversed(range(30)) if kept(number)]


def test_a_csv_export_has_what_was_asked_for_and_is_told_to_the_audit(rig: Rig) -> None:
    answer = rig.call("GET", "/api/audit.csv?kind=command", Role.ADMIN)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    found = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["data"] for row in found] == [f'{{"number":{number}}}' for number in range(30) if number % 3 == 1]
    shown = {item["seq"]: item["hash"] for item in rig.call("GET", "/api/audit", Role.OPERATOR).json()["items"]}
    assert all(shown[int(row["seq"])] == row["hash"] and shown[int(row["seq"]) - 1] == row["prev"] for row in found)
    assert rig.audit()[-1] == ("user:admin", "export ledger", "ledger", "done")


def test_a_long_export_comes_whole(rig: Rig) -> None:
    rig.ledger.put(*(Event("many", START_US, "", {"number": number}) for number in range(2000)))
    rows = rig.call("GET", "/api/audit.csv?kind=many", Role.ADMIN).text.split("\r\n")
    assert len(rows) == 2002  # with the names of the columns, and nothing behind the last end of line
    assert [row.split(",")[0] for row in rows[1:-1]] == [str(number) for number in range(31, 2031)]


def test_a_damaged_event_is_shown_as_what_it_is(rig: Rig) -> None:
    rig.ledger.connection.execute("UPDATE event SET data = x'80', hash = NULL WHERE seq = 30")
    rig.ledger.connection.execute("UPDATE event SET t_us = 'x' WHERE seq = 29")
    items = rig.call("GET", "/api/audit?page_size=2", Role.OPERATOR).json()["items"]
    assert [(item["seq"], item["time"] == "", item["data"], item["hash"] is None) for item in items] == [
        (30, True, None, True),
        (29, True, {"number": 28}, False),
    ]


def test_a_ledger_that_can_not_be_read_is_a_problem_and_no_empty_file(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> "AbstractContextManager[sqlite3.Connection]":
        raise StoreError("read the store", "disk I/O error")

    def lines(*_: object) -> Iterator[str]:
        broken()
        yield ""

    monkeypatch.setattr(rig.ledger, "ledger_csv", lines)
    for _ in range(5):  # each gives its place back
        assert rig.call("GET", "/api/audit.csv", Role.ADMIN).status_code == 503
    monkeypatch.undo()
    assert rig.call("GET", "/api/audit.csv", Role.ADMIN).status_code == 200


@pytest.mark.parametrize("query", ["from=yesterday", "to=2026-11-20", "page=0", "page_size=1001", f"kind={'x' * 201}"])
def test_what_can_not_be_asked_is_said(rig: Rig, query: str) -> None:
    assert rig.call("GET", f"/api/audit?{query}", Role.OPERATOR).status_code == 422
