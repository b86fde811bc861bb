"""What was noted by a clock that was not set, read by one that is, and the other way round."""

import asyncio

import pytest

from agent.control.model import Origin, Wish
from agent.control.notes import WISH, Standing, read_standing, standing_data
from agent.core.clock import FakeClock, HeldClock
from tests.control_fakes import NOON_US, FakeNotebook

UNSET_US = 60_000_000


@pytest.mark.parametrize(
    ("until_us", "now_us", "rest_s"),
    [
        (NOON_US + 600_000_000, NOON_US, 600),
        (NOON_US + 90_000_000_000, NOON_US, 900),  # never more than it was given
        (NOON_US - 1, NOON_US, None),
        (UNSET_US + 600_000_000, NOON_US, 900),  # nobody knows when that was
        (NOON_US + 600_000_000, UNSET_US, 900),
        (UNSET_US + 600_000_000, UNSET_US, 900),
    ],
)
def test_a_wish_of_an_unknown_end_lasts_as_long_as_it_was_given(
    until_us: int, now_us: int, rest_s: float | None
) -> None:
    wish = Wish("cp1", "user:ana", Origin.MANUAL, True, None, "why", until_us - 900_000_000, until_us)
    notebook = FakeNotebook()
    asyncio.run(notebook.write(WISH, "cp1", standing_data([Standing(wish, 0.0, 900.0)])))
    clock = FakeClock(now_us)
    found = [one.until_s for one in read_standing(notebook, "cp1", clock)]
    assert found == ([] if rest_s is None else [clock.monotonic_s() + rest_s])


def test_a_clock_that_is_held_is_not_gone_by() -> None:
    wish = Wish("cp1", "user:ana", Origin.MANUAL, True, None, "why", NOON_US, NOON_US + 1)
    notebook = FakeNotebook()
    asyncio.run(notebook.write(WISH, "cp1", standing_data([Standing(wish, 0.0, 900.0)])))
    held = HeldClock(FakeClock(NOON_US + 10_000_000))
    assert [one.until_s for one in read_standing(notebook, "cp1", held)] == [held.monotonic_s() + 900]
    held.let_go()
    assert read_standing(notebook, "cp1", held) == []
