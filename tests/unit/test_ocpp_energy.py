"""The energy of sessions from registers: against a model, with resets, gaps, repeats, wrong order, and kills."""

import asyncio
from dataclasses import dataclass

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.core.model import Session
from drivers.codec.ocpp_model import Version
from drivers.ocpp.energy import Rating, Register, advance, finish
from tests.ocpp_fakes import Killed, Rig, Site

RATING = Rating(22_080)
S = 1_000_000


def session(start_wh: float | None = 1000, start_us: int = 0) -> Session:
    last_us = None if start_wh is None else start_us
    energy = None if start_wh is None else 0
    return Session("cp", 1, "k", start_us, start_wh=start_wh, last_wh=start_wh, last_us=last_us, energy_wh=energy)


def run(start_wh: float | None, *registers: tuple[int, float], stop: tuple[int, float] | None = None) -> Session:
    one = session(start_wh)
    for seconds, wh in registers:
        one = advance(one, Register(wh, seconds * S), RATING)
    return finish(one, None if stop is None else Register(stop[1], stop[0] * S), RATING)


def test_a_lifetime_register_and_one_of_the_session_are_the_same() -> None:
    assert run(5_000_000, (60, 5_000_100), stop=(120, 5_000_250)).energy_wh == 250
    assert run(0, (60, 100), stop=(120, 250)).energy_wh == 250


def test_old_and_repeated_registers_say_nothing() -> None:
    one = run(1000, (60, 1100), (30, 1050), (60, 1100), (90, 1200), (60, 1100))
    assert (one.energy_wh, one.last_wh) == (200, 1200)


def test_a_reset_is_added_up_and_kept() -> None:
    one = run(9000, (60, 9100), (120, 30), (180, 90), stop=(240, 95))
    assert one.energy_wh == 195
    assert one.data["breaks"] == [{"t_us": 120 * S, "from_wh": 9100, "to_wh": 30, "what": "began anew"}]


def test_a_glitch_costs_nothing() -> None:
    one = run(1000, (60, 1100), (70, 99_999_999), (80, 1110), (140, 1200), stop=(150, 1210))
    assert one.energy_wh == 210
    assert one.data["breaks_total"] == 2


def test_a_dip_costs_nothing_and_counts_nothing_twice() -> None:
    zero_once = run(0, (600, 3000), (610, 0), (620, 0), (630, 3060), stop=(640, 3120))
    assert (zero_once.energy_wh, zero_once.data["breaks_total"]) == (3120, 2)
    assert run(0, (600, 3000), (610, 0), stop=(620, 3060)).energy_wh == 3060
    assert run(900_000, (60, 900_100), (70, 0), (80, 900_120), stop=(90, 900_130)).energy_wh == 130
    assert run(900_000, (60, 900_300), (70, 900_200), (80, 900_360), stop=(90, 900_400)).energy_wh == 400
    assert run(0, (60, 300), (70, 0), (370, 1500), stop=(380, 1550)).energy_wh == 1850, "as much as can be charged"


def test_rounding_is_no_reset() -> None:
    one = advance(session(), Register(12_350, 3600 * S, 10), RATING)
    assert finish(one, Register(12_346, 3610 * S, 1), RATING).energy_wh == 11_346
    exact = finish(advance(session(), Register(1100.4, 60 * S), RATING), Register(1100, 70 * S), RATING)
    assert (exact.energy_wh, exact.data) == (100, {})


def test_a_coarse_register_that_begins_anew_is_no_rounding() -> None:
    one = session(0)
    for seconds, wh in ((60, 100), (120, 0), (180, 100), (240, 0), (300, 200)):
        one = advance(one, Register(wh, seconds * S, 100), RATING)
    assert finish(one, Register(200, 310 * S), RATING).energy_wh == 400


def test_registers_of_changing_digits_count_once() -> None:
    one = session(12_346)
    for seconds, wh, step_wh in (
        (10, 12_340, 10),
        (20, 12_340, 10),
        (900, 17_340, 10),
        (910, 17_338, 1),
        (920, 17_300, 100),
    ):
        one = advance(one, Register(wh, seconds * S, step_wh), RATING)
    assert (one.energy_wh, "breaks" in one.data) == (4_994, False)
    assert finish(one, Register(17_300, 930 * S, 100), RATING).energy_wh == 4_994
    assert finish(one, Register(17_339, 930 * S), RATING).energy_wh == 4_993


def test_a_start_that_was_never_read_is_taken_from_the_first_sample() -> None:
    one = run(0, (60, 900_000), stop=(120, 900_300))
    assert (one.energy_wh, one.start_wh, one.data["start"]) == (300, 900_000, "sample")
    assert run(0, stop=(120, 900_300)).energy_wh is None
    assert run(None, (60, 900_000), stop=(120, 900_100)).energy_wh == 100
    assert run(None, stop=(120, 900_100)).energy_wh is None


def test_samples_of_another_register_than_the_transactions() -> None:
    one = run(100_000, (60, 10), (120, 350), stop=(130, 100_380))
    assert (one.energy_wh, one.data["samples"]) == (380, "of another register")


def test_a_missing_or_zero_stop_register_is_the_last_sample() -> None:
    assert run(1000, (60, 1100)).energy_wh == 100
    assert run(1000, (60, 1100), stop=(70, 0)).energy_wh == 100


@dataclass(frozen=True)
class Step:
    """Some seconds, what was charged in them, and how the sample at their end fares."""

    seconds: int
    share: float  #: of the highest power
    reset: bool
    sent: bool
    twice: bool
    late: bool  #: it comes after the one behind it


STEPS = st.lists(
    st.builds(
        Step,
        st.integers(5, 900),
        st.floats(0, 1),
        st.sampled_from([False] * 5 + [True]),
        st.sampled_from([True, True, True, False]),
        st.booleans(),
        st.sampled_from([False, False, False, True]),
    ),
    max_size=12,
)


@dataclass
class Message:
    """A register as it arrives."""

    at_s: int
    wh: int
    text: str
    unit: str

    def step_wh(self, version: Version) -> int:
        """What its last digit is worth, as far as that can be seen: numbers of 2.0.1's JSON lose zeros at their end."""
        text = self.text if version is Version.V16 else str(float(self.text))
        return 1 if self.unit == "Wh" else 10 ** (3 - len(text.partition(".")[2]))


@dataclass(frozen=True)
class Digits:
    """How a charger writes registers: kWh with so many decimals, or (None) Wh."""

    decimals: int | None

    def message(self, at_s: int, wh: int) -> Message:
        if self.decimals is None:
            return Message(at_s, wh, str(wh), "Wh")
        text = f"{wh / 1000:.{self.decimals}f}"
        return Message(at_s, round(float(text) * 1000), text, "kWh")


def story(start_wh: int, steps: list[Step], digits: Digits) -> tuple[list[Message], int, int]:
    """The samples in the order in which they arrive, the time and the register of the end."""
    now_s, register = 0, start_wh
    sent: list[Message] = []
    held: Message | None = None
    for step in steps:
        now_s += step.seconds
        register = 0 if step.reset else register
        register += int(step.share * 22_000 * step.seconds / 3600)
        if not step.sent:
            continue
        message = digits.message(now_s, register)
        if step.late and held is None:
            held = message
            continue
        sent += [message] * (2 if step.twice else 1)
        if held is not None:
            sent.append(held)
            held = None
    return sent, now_s + 5, register


def model(start_wh: int, sent: list[Message], stop_wh: int, version: Version) -> int:
    """The energy that can be known from what arrived. A step back is a reset, where it can't be rounding.

    Begin and end are whole Wh; what comes between may have fewer digits.
    """
    last_s, last, last_step, energy = 0, start_wh, 1, 0
    for at_s, wh, step in [*((one.at_s, one.wh, one.step_wh(version)) for one in sent), (10**9, stop_wh, 1)]:
        if at_s <= last_s:
            continue
        last_s = at_s
        back = 1 if step == last_step else max(step, last_step)
        if last - back <= wh <= last:
            if at_s == 10**9 and step < last_step:
                energy += wh - last
            continue
        energy += wh - last if wh >= last else wh
        last, last_step = wh, step
    return max(energy, 0)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    start_wh=st.sampled_from([0, 1, 700, 123_456, 98_765_432]),
    steps=STEPS,
    version=st.sampled_from([Version.V16, Version.V201]),
    kill=st.integers(-1, 14),
    stored=st.booleans(),
    digits=st.sampled_from([Digits(None), Digits(1), Digits(2), Digits(3)]),
)
@example(  # killed right after the end was stored, while a register still waits to be
    start_wh=0,
    steps=[Step(5, 0.0, reset=False, sent=True, twice=twice, late=False) for twice in (False, False, True)],
    version=Version.V16,
    kill=4,
    stored=True,
    digits=Digits(None),
)
@example(  # 0.2 kWh is sent for 0.20: that the register began anew at 0.11 can't be told from rounding
    start_wh=0,
    steps=[
        Step(292, 0.109375, reset=False, sent=True, twice=False, late=False),
        Step(35, 0.5, reset=True, sent=True, twice=False, late=False),
    ],
    version=Version.V201,
    kill=-1,
    stored=False,
    digits=Digits(2),
)
def test_energy_is_right_whatever_happens(
    start_wh: int,
    steps: list[Step],
    version: Version,
    kill: int,
    stored: bool,  # noqa: FBT001 - of Hypothesis
    digits: Digits,
) -> None:
    sent, end_s, stop_wh = story(start_wh, steps, digits)
    site = Site()
    if stored:
        site.sessions.kill_after = kill
    else:
        site.sessions.kill_before = kill
    asyncio.run(_play(site, version, start_wh, sent, (end_s, stop_wh)))
    (row,) = site.sessions.rows.values()
    assert row.energy_wh is not None
    assert abs(row.energy_wh - model(start_wh, sent, stop_wh, version)) <= 1
    if not any(step.reset for step in steps):
        assert abs(row.energy_wh - (stop_wh - start_wh)) <= 1
    assert not row.running
    kinds = site.sessions.kinds()
    assert (kinds.count("session.started"), kinds.count("session.ended")) == (1, 1)


async def _play(site: Site, version: Version, start_wh: int, sent: list[Message], end: tuple[int, int]) -> None:
    rig = Rig(site, version)
    await rig.__aenter__()
    zero = rig.at()
    number = 0
    begun_us = site.clock.now_us()
    for message in [None, *sent, end]:
        for _ in range(3):  # what was not answered comes again
            try:
                if message is None:
                    number = await _start(rig, start_wh, zero)
                elif isinstance(message, Message):
                    _pass(site, begun_us, message.at_s)
                    await _sample(rig, number, message, begun_us)
                else:
                    _pass(site, begun_us, message[0])
                    await _stop(rig, number, message, begun_us)
            except Killed:
                await rig.__aexit__()
                site.restart()
                rig = Rig(site, version)
                await rig.__aenter__()
            else:
                break
    await rig.__aexit__()


def _pass(site: Site, begun_us: int, until_s: float) -> None:
    passed_s = (site.clock.now_us() - begun_us) / 1e6
    if until_s > passed_s:
        site.clock.advance(until_s - passed_s)


def _at(rig: Rig, seconds: int, begun_us: int) -> str:
    return rig.at((begun_us - rig.clock.now_us()) / 1e6 + seconds)


async def _start(rig: Rig, wh: int, at: str) -> int:
    if rig.version is Version.V16:
        return await rig.start16(meter=wh, at=at)
    await rig.event201("Started", 0, wh, at=at, idToken={"idToken": "AABB", "type": "Local"})
    return 0


async def _sample(rig: Rig, number: int, message: Message, begun_us: int) -> None:
    value, unit, at = message.text, message.unit, _at(rig, message.at_s, begun_us)
    if rig.version is Version.V16:
        entry = {"timestamp": at, "sampledValue": [{"value": value, "unit": unit}]}
        await rig.ask("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [entry]})
        return
    sampled = {"value": float(value), "unitOfMeasure": {"unit": unit}}
    entry = {"timestamp": at, "sampledValue": [sampled]}
    await rig.event201("Updated", message.at_s, at=at, meterValue=[entry])


async def _stop(rig: Rig, number: int, end: tuple[int, int], begun_us: int) -> None:
    at = _at(rig, end[0], begun_us)
    if rig.version is Version.V16:
        await rig.stop16(number, end[1], at=at)
    else:
        await rig.event201("Ended", 10**6, end[1], at=at)
