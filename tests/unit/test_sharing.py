"""Sharing a limit: what must hold for any site, whoever stands there."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.control.pacing import HOLD_S, RISE_PER_S, ROUND_S, Pacer, Round
from agent.control.sharing import TRIFLE_A, Need, Seat, allocate, totals
from agent.control.turns import Turns

PHASES = 3
ALL = (0, 1, 2)
AMPS = st.floats(-40, 400, allow_nan=False).map(lambda value: round(value, 2))


@st.composite
def seats(draw: st.DrawFn, needs: tuple[Need, ...] = tuple(Need), *, deaf: bool = True) -> list[Seat]:
    found = []
    step_a = draw(st.sampled_from([0.1, 0.5, 1.0]))
    for index in range(draw(st.integers(1, 12))):
        least_a = draw(st.sampled_from([6.0, 6.0, 6.0, 8.0, 10.0]))
        reserved = st.none() | st.floats(0, 40).map(lambda value: round(value, 1)) if deaf else st.none()
        found.append(
            Seat(
                f"cp{index:02}",
                draw(st.sampled_from([ALL, ALL, (0,), (1,), (2,), (0, 1)])),
                least_a,
                draw(st.sampled_from([least_a, 16.0, 20.0, 32.0])),
                step_a,
                draw(st.sampled_from(needs)),
                draw(st.integers(0, 2)),
                draw(st.sampled_from([1.0, 1.0, 0.5, 2.0])),
                (float(index),),
                draw(st.sampled_from([None, None, least_a + 2])),
                draw(reserved),
            )
        )
    return found


def given_all(left: list[float], table: list[Seat]) -> tuple[dict[str, float], list[float]]:
    """The limits, and what they leave on each phase."""
    limits = allocate(left, table)
    used = totals(limits, table, PHASES)
    return limits, [a - b for a, b in zip(left, used, strict=True)]


@settings(max_examples=150, deadline=None)
@given(st.lists(AMPS, min_size=3, max_size=3), seats())
def test_no_phase_is_given_more_than_is_left_and_each_gets_nothing_or_its_minimum(
    left: list[float], table: list[Seat]
) -> None:
    limits, over = given_all(left, table)
    reserved = totals({}, [seat for seat in table if seat.reserved_a is not None], PHASES)
    for phase in ALL:
        if any(phase in seat.phases and limits[seat.id] and seat.reserved_a is None for seat in table):
            assert over[phase] >= -1e-4, "those that follow stay within what those that do not have left"
        assert over[phase] >= min(0.0, left[phase] - reserved[phase]) - 1e-4
    for seat in table:
        assert limits[seat.id] == 0 or seat.min_a - TRIFLE_A <= limits[seat.id] <= seat.max_a + TRIFLE_A
    assert set(limits) == {seat.id for seat in table}


@settings(max_examples=150, deadline=None)
@given(st.lists(AMPS, min_size=3, max_size=3), seats((Need.WANTS,), deaf=False))
def test_nothing_is_left_over_that_somebody_could_take(left: list[float], table: list[Seat]) -> None:
    limits, over = given_all(left, table)
    for seat in table:
        room_a = min(over[phase] for phase in seat.phases)
        if limits[seat.id]:
            fits = limits[seat.id] + seat.step_a <= seat.max_a
            assert not fits or room_a < seat.step_a + 1e-4
        else:
            begin_a = seat.min_a if seat.begin_a is None else seat.begin_a
            taken = max((limits[one.id] for one in table if set(one.phases) & set(seat.phases)), default=0.0)
            assert room_a < begin_a or taken, "only those before it may have taken its place"


@settings(max_examples=150, deadline=None)
@given(st.lists(AMPS, min_size=3, max_size=3), seats((Need.WANTS,), deaf=False))
def test_nobody_has_more_while_one_beside_it_has_less_and_could_take_more(left: list[float], table: list[Seat]) -> None:
    limits, over = given_all(left, table)
    for poor in table:
        step_a = poor.step_a
        if not limits[poor.id] or limits[poor.id] + step_a > poor.max_a + TRIFLE_A:
            continue
        tight = [phase for phase in poor.phases if over[phase] < step_a + 1e-4]
        assert tight, "it could take more, so a phase of it is full"
        # On one of its full phases nobody stands higher, by weight, than his own minimum or two steps above it.
        assert any(
            all(
                rich.phases.count(phase) == 0
                or limits[rich.id] <= rich.min_a + TRIFLE_A
                or limits[rich.id] / rich.weight
                <= limits[poor.id] / poor.weight + 2 * step_a * (1 / poor.weight + 1 / rich.weight)
                for rich in table
            )
            for phase in tight
        )


@settings(max_examples=100, deadline=None)
@given(AMPS, AMPS, st.integers(1, 12), st.sampled_from([0.1, 0.5, 1.0]))
def test_more_left_takes_nothing_from_anybody_who_is_alike(one: float, other: float, count: int, step_a: float) -> None:
    table = [Seat(f"cp{index:02}", ALL, 6, 32, step_a, place=(float(index),)) for index in range(count)]
    less, more = (allocate([left] * PHASES, table) for left in sorted((one, other)))
    assert sum(less.values()) <= sum(more.values()) + 1e-4
    assert {name for name, limit_a in less.items() if limit_a} <= {name for name, limit_a in more.items() if limit_a}
    if [bool(limit_a) for limit_a in less.values()] == [bool(limit_a) for limit_a in more.values()]:
        assert all(less[name] <= more[name] + 1e-4 for name in less)


@given(st.lists(AMPS, min_size=3, max_size=3), seats(), st.randoms(use_true_random=False))
def test_the_order_in_which_stations_are_named_changes_nothing(
    left: list[float], table: list[Seat], rng: object
) -> None:
    shuffled = list(table)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    again = allocate(left, shuffled)
    first = allocate(left, table)
    assert {name: round(value, 6) for name, value in first.items()} == {
        name: round(value, 6) for name, value in again.items()
    }


def test_minimums_go_by_priority_and_what_is_left_by_weight() -> None:
    table = [
        Seat("late", ALL, 6, 32, 0.5, place=(1.0,)),
        Seat("first", ALL, 6, 32, 0.5, place=(0.0,), weight=2),
        Seat("boss", ALL, 6, 32, 0.5, priority=5, place=(9.0,)),
    ]
    assert allocate([7, 7, 7], table) == {"boss": 7, "first": 0, "late": 0}
    assert allocate([12, 12, 12], table) == {"boss": 6, "first": 6, "late": 0}
    assert allocate([40, 40, 40], table) == {"boss": 10, "first": 20, "late": 10}
    assert allocate([500, 500, 500], table) == {"boss": 32, "first": 32, "late": 32}


def test_who_rests_keeps_a_minimum_and_who_has_no_vehicle_gets_one_of_what_nobody_needs() -> None:
    table = [
        Seat("wants", ALL, 6, 32, 0.5),
        Seat("rests", ALL, 6, 32, 0.5, Need.RESTS),
        Seat("idle1", ALL, 6, 32, 0.5, Need.IDLE),
        Seat("idle2", ALL, 6, 32, 0.5, Need.IDLE),
    ]
    assert allocate([11, 11, 11], table) == {"wants": 11, "rests": 0, "idle1": 0, "idle2": 0}
    assert allocate([30, 30, 30], table) == {"wants": 24, "rests": 6, "idle1": 0, "idle2": 0}
    assert allocate([45, 45, 45], table) == {"wants": 32, "rests": 6, "idle1": 6, "idle2": 0}


def test_one_that_does_not_follow_is_kept_its_draw_and_told_its_minimum() -> None:
    table = [Seat("deaf", ALL, 6, 32, 0.5, reserved_a=20), Seat("good", ALL, 6, 32, 0.5)]
    assert allocate([30, 30, 30], table) == {"deaf": 6, "good": 10}
    assert allocate([10, 10, 10], table) == {"deaf": 0, "good": 0}


def test_phases_fill_one_by_one() -> None:
    table = [Seat("l1", (0,), 6, 32, 0.5), Seat("l2", (1,), 6, 32, 0.5), Seat("all", ALL, 6, 32, 0.5)]
    assert allocate([20, 40, 40], table) == {"l1": 10, "l2": 30, "all": 10}


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 12), st.integers(1, 4), st.data())
def test_nobody_waits_longer_than_half_an_hour(count: int, fit: int, data: st.DataObject) -> None:
    arrivals = {f"cp{index}": data.draw(st.integers(0, 3000)) for index in range(count)}
    turns, waits, longest_s, switches = Turns(), dict.fromkeys(arrivals, 0.0), 0.0, dict.fromkeys(arrivals, 0)
    before: dict[str, float] = {}
    for now_s in range(0, 9_000, 10):
        wanting = {name: 0 for name, since_s in arrivals.items() if since_s <= now_s}
        places = turns.places(wanting, now_s)
        table = [
            Seat(name, ALL, 6, 6, 0.5, place=places[name], begin_a=None if before.get(name) or turns.over else 8.0)
            for name in wanting
        ]
        limits = allocate([6.0 * fit + 1.9 + (now_s % 20) / 10] * PHASES, table)
        turns.granted({name for name, limit_a in limits.items() if limit_a}, now_s)
        for name, limit_a in limits.items():
            waits[name] = 0.0 if limit_a else waits[name] + 10
            switches[name] += bool(limit_a) != bool(before.get(name))
            longest_s = max(longest_s, waits[name])
        before = limits
    assert longest_s <= 1800
    assert max(switches.values()) <= 2 + 2 * 9_000 / 150 / 2, "a turn is not cut short"


def a_round(now_s: float, left_a: float, table: list[Seat], drawn: dict[str, float]) -> Round:
    limits = allocate([left_a] * PHASES, table)
    left = [left_a] * PHASES
    return Round(now_s, table, [100.0] * PHASES, limits, limits, left, left, 1.5, drawn)


def test_down_at_once_and_up_in_steps_after_a_hold() -> None:
    pacer, table = Pacer(), [Seat("a", ALL, 6, 32, 0.5), Seat("b", ALL, 6, 32, 0.5)]
    drawn = {"a": 30.0, "b": 30.0}
    pacer.step(a_round(0, 70, table, drawn))
    assert pacer.limits == {"a": 31, "b": 31}, "what they draw, and a little more"
    pacer.step(a_round(1, 30, table, drawn))
    assert pacer.limits == {"a": 15, "b": 15}
    seen = []
    for now_s in range(2, 60):
        before = sum(pacer.limits.values())
        pacer.step(a_round(now_s, 70, table, dict(pacer.limits)))
        if sum(pacer.limits.values()) != before:
            seen.append((now_s, sum(pacer.limits.values()) - before))
    assert seen[0][0] >= 1 + HOLD_S
    assert all(later[0] - sooner[0] >= ROUND_S for sooner, later in pairwise(seen))
    assert all(more_a <= RISE_PER_S * ROUND_S * 100 + TRIFLE_A for _, more_a in seen)
    assert pacer.limits == {"a": 32, "b": 32}


def test_nobody_is_given_what_another_one_still_draws() -> None:
    pacer = Pacer()
    slow, other = Seat("slow", ALL, 6, 32, 0.5), Seat("new", ALL, 6, 32, 0.5, Need.IDLE)
    pacer.step(a_round(0, 40, [slow, other], {"slow": 31.0}))
    assert pacer.limits == {"slow": 32, "new": 6}
    table = [slow, replace(other, need=Need.WANTS)]
    for now_s in range(1, 40):
        pacer.step(a_round(now_s, 40, table, {"slow": 31.0}))
    assert pacer.limits == {"slow": 20, "new": 9}, "31 of 40 A are in use: 9 are free"
    for now_s in range(40, 80):
        pacer.step(a_round(now_s, 40, table, dict(pacer.limits)))
    assert pacer.limits == {"slow": 20, "new": 20}


def test_a_flicker_of_the_load_writes_nothing() -> None:
    pacer, table = Pacer(), [Seat(f"cp{index}", ALL, 6, 32, 0.5) for index in range(4)]
    for now_s in range(300):
        pacer.step(a_round(now_s, 60, table, dict(pacer.limits)))
    before = dict(pacer.limits)
    for now_s in range(300, 600):
        pacer.step(a_round(now_s, 60 - (now_s % 3) * 0.5, table, dict(pacer.limits)))
        assert pacer.limits == before
