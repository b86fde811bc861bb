"""Batteries on CAN are recognised by what they send; nothing is sent to them."""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.core.clock import FakeClock
from agent.core.errors import Unavailable
from agent.scan_can import CanJob, CanModel, FoundBus, Heard, fitting, interfaces, load_can_models, proposal_of
from drivers.codec.dbc_model import MessageDef
from drivers.codec.frames import EFF_FLAG, ERR_FLAG, Frames
from tests.polled import pass_s


class Watch:
    def __init__(self) -> None:
        self.said: list[str] = []

    def step(self, stage: str, detail: str, left_s: float) -> None:
        assert left_s > 0, stage + detail

    def say(self, text: str) -> None:
        self.said.append(text)


class Bus:
    """A source that gives these identifiers once, and is silent then."""

    name = "bus"
    queue_frames = 100

    def __init__(self, ids: Sequence[int], fault: Unavailable | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.ids = list(ids)
        self.fault = fault
        self.opened = self.closed = 0

    async def open(self, wake: Callable[[], None]) -> None:
        self.opened += 1
        if self.fault is not None:
            raise self.fault
        wake()

    def arm(self) -> None:
        assert self.opened > self.closed

    def drain(self) -> Frames:
        ids, self.ids = self.ids, []
        raw = np.frombuffer(b"".join(struct.pack("=IB11x", one, 8) for one in ids), np.uint8).reshape(len(ids), 16)
        return Frames(raw, np.zeros(len(ids), np.int64))

    async def close(self) -> None:
        self.closed += 1


def messages(*ids: int, extended: bool = False, j1939: bool = False) -> tuple[MessageDef, ...]:
    return tuple(MessageDef(one, extended, f"m{one}", 8, (), j1939=j1939) for one in ids)


SMALL, LARGE = CanModel("small", messages(0x351, 0x355)), CanModel("large", messages(0x351, 0x355, 0x356, 0x35A))
TRUCK = CanModel("truck", messages(0x18F00425, extended=True, j1939=True))
OTHER = CanModel("other", messages(0x6B0, 0x6B1, 0x6B2))


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        ({0x351, 0x355, 0x356}, ["large", "small"]),
        ({0x351, 0x355}, ["small", "large"]),
        ({0x351}, ["small"]),
        ({0x6B0}, []),
        ({0x6B0, 0x6B1, 0x351 | EFF_FLAG, 0x355 | EFF_FLAG}, ["other"]),
        ({0x0CF004FE | EFF_FLAG}, ["truck"]),
        ({0x18F00525 | EFF_FLAG}, []),
        (set(), []),
    ],
)
def test_what_fits_is_what_explains_most_and_misses_least(seen: set[int], names: list[str]) -> None:
    assert fitting([OTHER, TRUCK, LARGE, SMALL], seen) == names


def search(bus: Bus, *configured: str) -> tuple[list[FoundBus], list[str], CanJob]:
    clock, watch, found = FakeClock(), Watch(), list[FoundBus]()
    job = CanJob([SMALL, LARGE], lambda: configured, watch, clock, found.append, lambda *_: bus, lambda: ["can0"])

    async def main() -> None:
        running = asyncio.ensure_future(job.run())
        await pass_s(clock, 10)
        await running

    asyncio.run(main())
    assert bus.closed == bus.opened - (bus.fault is not None)
    return found, watch.said, job


def test_who_speaks_on_a_bus_is_found() -> None:
    found, said, job = search(Bus([0x351, 0x355, 0x356, 0x351]))
    assert found == [FoundBus("can0", Heard(frozenset({0x351, 0x355, 0x356})), ("large", "small"))]
    assert (said, job.done, job.total) == ([], 1, 1)
    proposal = proposal_of(found[0], {"large"})
    assert proposal.entry == {"id": "large_2", "driver": "can", "channel": "can0", "profile": "large"}
    assert proposal.alternatives == ("small",)
    assert proposal.known == {"identifiers": "0x351, 0x355, 0x356"}


def test_a_stranger_is_told_with_what_it_sends() -> None:
    found, _, _ = search(Bus([0x700, ERR_FLAG]))
    assert found == [FoundBus("can0", Heard(frozenset({0x700}), errors=True), ())]
    proposal = proposal_of(found[0], set())
    assert proposal.entry["profile"] == "choose_a_profile"
    assert len(proposal.notes) == 2


@pytest.mark.parametrize(
    ("bus", "words"),
    [
        (Bus([]), "nobody speaks"),
        (Bus([ERR_FLAG]), "only errors"),
        (Bus([], Unavailable("open can0", "Network is down", "ip link set can0 up")), "Network is down (ip link"),
    ],
)
def test_a_bus_on_which_nothing_is_found_says_why(bus: Bus, words: str) -> None:
    found, said, _ = search(bus)
    assert found == []
    assert words in said[0]


def test_a_bus_of_the_configuration_is_left_alone() -> None:
    bus = Bus([0x351, 0x355])
    found, said, _ = search(bus, "can0")
    assert (found, bus.opened) == ([], 0)
    assert said == ["can0 is configured: left alone"]


def test_interfaces_are_those_of_the_kernel_that_are_can(tmp_path: Path) -> None:
    for name, kind in (("eth0", "1"), ("can1", "280"), ("vcan0", "280")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
    assert interfaces(tmp_path) == ["can1", "vcan0"]
    assert interfaces(tmp_path / "none") == []


def test_the_profiles_that_travel_with_the_program_are_known_by_their_own_messages(tmp_path: Path) -> None:
    watch = Watch()
    models = {one.name: one for one in load_can_models(tmp_path, watch)}
    assert {"pylontech_lv", "demo_pack", "orion_bms"} <= models.keys()
    assert watch.said == []
    for name in ("pylontech_lv", "demo_pack", "orion_bms"):
        own = {one.frame_id | (EFF_FLAG if one.extended else 0) for one in models[name].messages}
        assert fitting(models.values(), own)[0] == name


@pytest.mark.parametrize("line", ["driver: can", "driver:  'can'  # a battery", "'driver' : can"])
def test_a_profile_of_one_s_own_is_known_however_its_driver_is_written(tmp_path: Path, line: str) -> None:
    points = "source: ours\ndbc: [pylontech_lv.dbc]\npoints: {soc_pct: {signal: StateOfCharge.SoC}}\n"
    (tmp_path / "mine.yaml").write_text(f"{line}\nname: mine\n{points}")
    watch = Watch()
    models = {one.name: one for one in load_can_models(tmp_path, watch)}
    assert [message.frame_id for message in models["mine"].messages] == [0x355]
    assert watch.said == []
