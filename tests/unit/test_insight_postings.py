"""Posted consumption counts once, in any order, over crashes, and as energy of the hour that it names."""

import json
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.model import Kind
from agent.insight.periods import HOUR_US, MINUTE_US, bounds
from agent.insight.postings import MAX_LATE, Account, Posted, Verdict, account_of, post, rows_of, spec
from agent.insight.reading import read_energy
from tests.insight_fakes import MONDAY_US, History

NOW_US = MONDAY_US + 40 * 24 * HOUR_US


@dataclass
class Disk:
    """A note and rows, as the store keeps them."""

    note: str = json.dumps(Account().data)
    rows: list[tuple[int, int]] = field(default_factory=list)
    stored_from_us: int = 0

    def rise(self, t_us: int) -> int | None:
        found = [word for known, word in self.rows if known == t_us]
        earlier = [word for known, word in self.rows if known < t_us]
        return found[0] - max(earlier, default=0) if found else None

    def post(self, kwh: float, t_us: int, *, crash: str = "") -> Posted:
        posted = post(account_of(json.loads(self.note)), kwh, t_us, NOW_US, self.rise, self.stored_from_us)
        if crash == "before":
            return posted
        self.note = json.dumps(posted.account.data)
        if crash != "between":
            self.rows += posted.rows
        return posted

    def restart(self) -> None:
        self.rows += rows_of(account_of(json.loads(self.note)))

    def wh(self) -> float:
        words = [word for _, word in sorted(self.rows)]
        return (words[-1] - words[0]) / 1000 if words else 0


def test_postings_become_a_register_whose_hours_are_theirs() -> None:
    disk = Disk()
    for hour, kwh in ((0, 1.25), (1, 0), (2, 0.000001), (5, 3)):
        assert disk.post(kwh, MONDAY_US + hour * HOUR_US).verdict is Verdict.ACCEPTED
    history = History()
    one = spec("ac1")
    history.add(
        "ac1", one.name, [t_us for t_us, _ in disk.rows], [word * 0.001 for _, word in disk.rows],
        unit=one.unit, kind=one.kind, source=one.source, scale=one.scale,
    )  # fmt: skip
    hours = bounds("hour", MONDAY_US, MONDAY_US + 6 * HOUR_US, ZoneInfo("UTC"))
    found = read_energy(history, "ac1", "import", "hour", hours, NOW_US)
    assert [None if hour.wh is None else round(hour.wh, 3) for hour in found.periods] == [
        1250, 0, 0.001, None, None, 3000,
    ]  # fmt: skip
    assert (found.source, spec("ac1").kind) == ("posted", Kind.COUNTER)


def test_a_repeated_posting_changes_nothing_and_another_energy_is_a_conflict() -> None:
    disk = Disk()
    for minute in (1, 2, 3):
        disk.post(minute, MONDAY_US + minute * MINUTE_US)
    before = disk.note, list(disk.rows)
    for minute in (1, 2, 3):
        assert disk.post(minute, MONDAY_US + minute * MINUTE_US).verdict is Verdict.DUPLICATE
        conflict = disk.post(minute + 1, MONDAY_US + minute * MINUTE_US)
        assert conflict.verdict is Verdict.CONFLICT
        assert f"{minute} kWh were posted" in conflict.reason
    assert (disk.note, disk.rows) == before


def test_a_late_posting_counts_once_at_the_time_of_the_newest() -> None:
    disk = Disk()
    disk.post(1, MONDAY_US + HOUR_US)
    late = disk.post(2, MONDAY_US)
    assert (late.verdict, late.at_us) == (Verdict.LATE, MONDAY_US + HOUR_US)
    assert disk.wh() == 3000
    assert disk.post(2, MONDAY_US).verdict is Verdict.DUPLICATE
    assert disk.post(3, MONDAY_US).verdict is Verdict.CONFLICT
    assert disk.post(4, MONDAY_US + 2 * HOUR_US).verdict is Verdict.ACCEPTED
    assert disk.wh() == 7000


@pytest.mark.parametrize(
    ("kwh", "t_us", "says"),
    [
        (-0.1, MONDAY_US, "kwh must be"),
        (float("nan"), MONDAY_US, "kwh must be"),
        (float("inf"), MONDAY_US, "kwh must be"),
        (1e6, MONDAY_US, "kwh must be"),
        (1, NOW_US + HOUR_US, "in the future"),
        (1, -5, "before 1970"),
    ],
)
def test_what_can_not_be_is_refused(kwh: float, t_us: int, says: str) -> None:
    disk = Disk()
    posted = disk.post(kwh, t_us)
    assert posted.verdict is Verdict.REFUSED
    assert says in posted.reason
    assert (disk.rows, json.loads(disk.note)) == ([], Account().data)


def test_late_postings_are_bounded_and_what_nobody_can_judge_is_refused() -> None:
    disk = Disk()
    disk.post(1, MONDAY_US + HOUR_US)
    for n in range(MAX_LATE):
        assert disk.post(1, MONDAY_US + n + 1).verdict is Verdict.LATE
    assert "in the order" in disk.post(1, MONDAY_US + MAX_LATE + 1).reason
    disk.stored_from_us = MONDAY_US + 10
    assert "too old" in disk.post(1, MONDAY_US).reason
    # What is too old now is forgotten, which makes room.
    assert disk.post(1, MONDAY_US + MAX_LATE + 1).verdict is Verdict.LATE
    assert len(account_of(json.loads(disk.note)).late or {}) == MAX_LATE - 9 + 1


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"total": "1", "last_us": None, "last": 0, "late": []},
        {"total": 1, "last_us": "x", "last": 0, "late": []},
        {"total": 1, "last_us": 1, "last": 0, "late": [[1]]},
        {"total": 1, "last_us": 1, "last": 0, "late": [["a", 1]]},
    ],
)
def test_a_damaged_note_is_told(note: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="damaged"):
        account_of(note)


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(0, 5), st.sampled_from(["", "", "before", "between"])),
        max_size=60,
    )
)
def test_each_posting_counts_once_whatever_is_repeated_late_or_cut_by_a_crash(
    steps: list[tuple[int, int, str]],
) -> None:
    """Against a table by time. After a crash the client, who was not answered, posts again."""
    disk, table = Disk(), dict[int, int]()
    for minute, kwh, crash in steps:
        t_us = MONDAY_US + minute * MINUTE_US
        if crash:
            disk.post(kwh, t_us, crash=crash)
            disk.restart()
        verdict = disk.post(kwh, t_us).verdict
        if t_us in table:
            assert verdict is (Verdict.DUPLICATE if table[t_us] == kwh else Verdict.CONFLICT)
        else:
            table[t_us] = kwh
            allowed = {Verdict.DUPLICATE} if crash == "between" else {Verdict.ACCEPTED, Verdict.LATE}
            assert verdict in allowed
    assert disk.wh() == sum(table.values()) * 1000
    words = [word for _, word in sorted(disk.rows)]
    assert words == sorted(words)
