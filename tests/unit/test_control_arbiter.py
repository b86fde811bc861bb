"""Wishes -> verdict, its sentence, holds, and what is written for it."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.arbiter import NOBODY, decide, explain
from agent.control.model import Origin, Wish
from agent.control.outputs import by_point, outputs, pauses
from agent.control.plan import make_plan
from agent.control.switching import DEFAULT_LIMITS, Switched, hold
from agent.core.errors import CommandRejected, Refusal
from agent.core.ports import Setting
from tests.control_fakes import ENABLED, LIMIT, NOON_US, FakeDevice

MINUTE_US = 60_000_000


def wish(key: str, origin: Origin, *, on: bool | None = None, limit_a: float | None = None, **more: object) -> Wish:
    fields: dict[str, object] = {"since_us": NOON_US, **more}
    return Wish("cp1", key, origin, on, limit_a, **fields)  # type: ignore[arg-type]


WISHES = st.lists(
    st.builds(
        wish,
        st.sampled_from("abcdef"),
        st.sampled_from(Origin),
        on=st.sampled_from([None, True, False]),
        limit_a=st.sampled_from([None, 0, 6, 10, 16, 32]),
    ),
    max_size=8,
)


def reference(wishes: list[Wish]) -> tuple[bool | None, float | None]:
    """The same, said otherwise: tier by tier from the weakest, each overwrites what stands below it."""
    on: bool | None = None
    chosen: float | None = None
    caps: list[float] = []
    for origin in sorted(Origin, reverse=True):
        tier = [one for one in wishes if one.origin == origin]
        opinions = [one.on for one in tier if one.on is not None]
        limits = [one.limit_a for one in tier if one.limit_a is not None]
        protects = origin.name in {"INTERLOCK", "SAFETY", "GRID"}
        if opinions:
            on = all(opinions) if protects else opinions[-1]
        if limits and protects:
            caps += limits
        elif limits:
            chosen = limits[-1]
    return on, min([*caps, *([] if chosen is None else [chosen])], default=None)


@given(WISHES)
def test_the_verdict_is_that_of_the_reference(wishes: list[Wish]) -> None:
    verdict = decide(wishes)
    assert (verdict.on, verdict.limit_a) == reference(wishes)
    if verdict.switcher is not None:
        assert verdict.switcher in wishes
        assert verdict.switcher.on == verdict.on
    assert verdict.limiter is None or verdict.limiter.limit_a == verdict.limit_a


@given(WISHES)
def test_the_sentence_names_who_wins(wishes: list[Wish]) -> None:
    verdict = decide(wishes)
    text = explain(verdict, wishes, NOON_US)
    for winner in (verdict.switcher, verdict.limiter):
        assert winner is None or f"by {winner.key} since 12:00" in text
    assert "\n" not in text


def test_the_sentence_for_people() -> None:
    zone = ZoneInfo("Europe/Berlin")
    wishes = [
        wish("user:ana", Origin.MANUAL, on=True, until_us=NOON_US + 60 * MINUTE_US),
        wish("lpc", Origin.GRID, limit_a=6, since_us=NOON_US - 24 * 60 * MINUTE_US, reason="the grid operator asks"),
        wish("alarm:battery_hot", Origin.SAFETY, on=False, reason="battery1.temperature_max_degc is 52"),
    ]
    assert explain(decide(wishes), wishes, NOON_US, zone) == (
        "off by alarm battery_hot since 13:00 (battery1.temperature_max_degc is 52), "
        "at most 6 A by lpc since 2026-03-27 13:00 (the grid operator asks); user ana wanted on until 14:00"
    )
    many = [wish(f"user:{name}", Origin.REMOTE, on=True) for name in "abcdef"]
    assert explain(decide([*many, wishes[2]]), [*many, wishes[2]], NOON_US).endswith("; and 3 more")
    assert explain(NOBODY, [], NOON_US) == "nobody wants anything of it"


def test_an_alarm_that_has_gone_does_not_switch_on_what_another_switched_off() -> None:
    off, on = wish("a", Origin.SAFETY, on=False), wish("b", Origin.SAFETY, on=True)
    assert decide([off, on]).on is False
    assert decide([on, off]).on is False


def test_a_person_raises_what_a_schedule_lowered_and_not_what_the_grid_lowered() -> None:
    schedule, person = wish("s", Origin.SCHEDULE, limit_a=6), wish("p", Origin.MANUAL, limit_a=16)
    assert decide([person, schedule]).limit_a == 16
    assert decide([person, schedule, wish("g", Origin.GRID, limit_a=10)]).limit_a == 10


@pytest.mark.parametrize(
    ("on", "at_s", "now_s", "until_s"),
    [
        (True, (100.0,), 159.9, 160.0),
        (True, (100.0,), 160.0, None),
        (False, (100.0,), 130.0, 160.0),
        (None, (), 0.0, None),
        (True, (0.0, 100.0, 200.0, 300.0, 400.0, 500.0), 600.0, 3600.0),
        (True, (0.0, 100.0, 200.0, 300.0, 400.0, 500.0), 3600.0, None),
        (True, tuple(float(1000 * n) for n in range(60)), 60_000.0, 86_400.0),
    ],
)
def test_holds(*, on: bool | None, at_s: tuple[float, ...], now_s: float, until_s: float | None) -> None:
    found = hold(Switched(on, at_s), DEFAULT_LIMITS, now_s)
    assert (None if found is None else found.until_s) == until_s
    assert until_s is None or (found is not None and found.why.startswith("it "))


def test_switches_are_counted_and_forgotten_after_a_day() -> None:
    switched = Switched().to(on=True, now_s=0)
    assert switched.at_s == (), "telling on to one that was never told anything switches nothing"
    switched = switched.to(on=False, now_s=10).to(on=False, now_s=20)
    assert switched == Switched(on=False, at_s=(10,))
    assert switched.to(on=True, now_s=10 + 86400).at_s == (10 + 86400,)


def settings(*points: str, zero: bool = True) -> dict[str, Setting]:
    return dict(FakeDevice(*points, zero=zero).settings)


@pytest.mark.parametrize(
    ("points", "off", "on", "limit_a", "standing", "expected"),
    [
        ((LIMIT, ENABLED), True, False, None, (), {ENABLED: 0}),
        ((LIMIT,), True, False, None, (), {LIMIT: 0}),
        ((LIMIT, ENABLED), False, True, 10, (), {LIMIT: 10, ENABLED: 1}),
        ((LIMIT, ENABLED), False, True, None, (), {ENABLED: 1}),
        ((LIMIT,), False, True, None, (), {LIMIT: 32}),
        ((LIMIT, ENABLED), False, None, 40, (), {LIMIT: 32}),
        ((LIMIT, ENABLED), False, None, None, (), {}),
        ((LIMIT, ENABLED), False, None, None, (LIMIT, ENABLED), {LIMIT: 32, ENABLED: 1}),
        ((LIMIT, ENABLED), False, None, None, (ENABLED,), {ENABLED: 1}),
        ((ENABLED,), False, True, None, (), {ENABLED: 1}),
    ],
)
def test_outputs(
    *,
    points: tuple[str, ...],
    off: bool,
    on: bool | None,
    limit_a: float | None,
    standing: tuple[str, ...],
    expected: dict[str, float],
) -> None:
    found = outputs(off=off, on=on, limit_a=limit_a, settings=settings(*points), standing=standing)
    assert list(found.items()) == list(expected.items()), "in this order"


def test_what_a_device_lacks_is_refused() -> None:
    with pytest.raises(CommandRejected) as caught:
        outputs(off=True, on=False, limit_a=None, settings=settings(LIMIT, zero=False), standing=())
    assert caught.value.refusal is Refusal.NOT_CAPABLE
    with pytest.raises(CommandRejected):
        outputs(off=False, on=None, limit_a=10, settings=settings(ENABLED), standing=())


def test_a_limit_below_the_least_is_off() -> None:
    assert [pauses(value, settings(LIMIT)) for value in (None, 0, 5.9, 6, 32)] == [False, True, True, False, False]


def test_settings_of_outlets() -> None:
    device = settings(LIMIT, f"{LIMIT}.2", ENABLED)
    assert {base: name for base, (name, _) in by_point(device, 2, whole=False).items()} == {LIMIT: f"{LIMIT}.2"}
    assert {base: name for base, (name, _) in by_point(device, 0, whole=True).items()} == {
        LIMIT: LIMIT,
        ENABLED: ENABLED,
    }
    one = settings(LIMIT, f"{LIMIT}.1", f"{LIMIT}.2")
    assert by_point(one, 1, whole=True)[LIMIT][0] == f"{LIMIT}.1"


def test_what_is_held_on_gets_its_least_where_a_limit_wanted_it_off() -> None:
    low = wish("s", Origin.SCHEDULE, limit_a=3)
    switched = Switched(on=True, at_s=(100.0,))
    plan = make_plan((low,), settings(), (), switched, DEFAULT_LIMITS, 110.0)
    assert plan.held is not None
    assert (plan.off, plan.wanted) == (False, {LIMIT: 6})
    grid = make_plan((wish("g", Origin.GRID, limit_a=3),), settings(), (), switched, DEFAULT_LIMITS, 110.0)
    assert (grid.held, grid.off, grid.wanted) == (None, True, {ENABLED: 0})
