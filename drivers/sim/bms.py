"""A simulated BMS that speaks real CAN frames: ``python -m drivers.sim.bms --interface udp_multicast ...``.

Everything that python-can's interface wants goes through: ``--port 43113`` becomes its option ``port``. On
``udp_multicast`` the hop limit is 0, so that no frame leaves this machine, unless ``--hop-limit`` says otherwise.
Faults come and go by themselves: ``--fault overtemperature@60+120`` begins after 60 s and lasts for 120 s.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from agent.core.clock import Clock, SystemClock
from drivers.lean import without_asammdf
from drivers.sim.battery import Battery, Fault
from drivers.sim.demo_pack import demo_pack
from drivers.sim.directed import Orders, Report, add_control, begin
from drivers.sim.faults import FaultPlan, parse_fault
from drivers.sim.packing import Frame, Layout
from drivers.sim.pylontech_lv import pylontech_lv

with without_asammdf():
    import can

TICK_MS = 100
#: A process that was stopped for longer than this goes on from now, without sending what it missed.
MAX_CATCH_UP_S = 60.0
_COUNTER_SPAN = 256

#: Whose frames can be sent: the names are those of ``config/profiles``.
PROFILES: Mapping[str, Callable[[], tuple[Layout, ...]]] = MappingProxyType(
    {"demo_pack": demo_pack, "pylontech_lv": pylontech_lv}
)

#: What python-can's interfaces raise when they can't be opened as asked.
REFUSALS = (can.CanError, NotImplementedError, OSError, ValueError, TypeError)

log = logging.getLogger(__name__)


class SimulatedBms:
    """The BMS as a function of time: ``frames(t_s)`` gives what is due. Deterministic by ``seed``."""

    def __init__(self, profile: str = "demo_pack", seed: int = 1, plan: Sequence[FaultPlan[Fault]] = ()) -> None:
        self._seed = seed
        self.battery = Battery(seed)
        self._layouts = PROFILES[profile]()
        self._plan = tuple(plan)
        self._forced: frozenset[Fault] = frozenset()
        self._frozen: dict[int, list[Frame]] = {}
        self._tick = -1
        self._counter = 0

    def switch(self, fault: Fault, *, on: bool) -> None:
        """Switch a fault by hand, on top of the plan."""
        self._forced = self._forced | {fault} if on else self._forced - {fault}

    def ask(self, current_a: float | None) -> None:
        """Tell the inverter what to charge, negative = discharge, in A; None: the battery's own cycle."""
        self.battery.asked_a = current_a

    def resume(self, soc_pct: float, charged_wh: float, discharged_wh: float) -> None:
        """Go on where an earlier run of the same battery ended."""
        self.battery = Battery(self._seed, soc_pct / 100)
        self.battery.charged_wh, self.battery.discharged_wh = charged_wh, discharged_wh

    def report(self) -> Report:
        """How it is, for who directs it. ``power_w`` by phase of the grid, positive = drawn."""
        battery = self.battery
        return {
            "power_w": [battery.voltage_v * battery.current_a / 3] * 3,
            "soc_pct": battery.soc_pct,
            "temperature_max_degc": max(battery.temperatures_degc),
            "charged_wh": battery.charged_wh,
            "discharged_wh": battery.discharged_wh,
        }

    def frames(self, t_s: float) -> list[Frame]:
        """All frames that were due since the last call, in order. ``t_s`` is seconds since the start."""
        last = int(t_s * 1000 / TICK_MS + 1e-9)
        if (last - self._tick) * TICK_MS > MAX_CATCH_UP_S * 1000:
            self._tick = last - 1
        sent: list[Frame] = []
        while self._tick < last:
            self._tick += 1
            sent += self._due()
        return sent

    def _due(self) -> list[Frame]:
        """One tick: the battery moves, and the messages whose time it is are made."""
        t_ms = self._tick * TICK_MS
        faults = self._forced | {one.fault for one in self._plan if one.active(t_ms / 1000)}
        self.battery.faults = faults
        self.battery.step(TICK_MS / 1000)
        sent: list[Frame] = []
        for layout in self._layouts:
            if t_ms % layout.cycle_ms == 0:
                frozen = self._frozen.get(layout.can_id) if Fault.FROZEN in faults else None
                made = frozen or list(layout.frames(self.battery, self._counter))
                self._frozen[layout.can_id] = made
                sent += made
        self._counter = (self._counter + 1) % _COUNTER_SPAN
        return [] if Fault.SILENT in faults else sent


async def send_all(bms: SimulatedBms, bus: can.BusABC, clock: Clock, name: str) -> None:
    """Send what is due until cancelled. A bus that refuses frames is tried again with each tick, and said once."""
    start_s = clock.monotonic_s()
    broken = False
    while True:
        try:
            for frame in bms.frames(clock.monotonic_s() - start_s):
                bus.send(
                    can.Message(arbitration_id=frame.can_id, is_extended_id=frame.extended, data=frame.data), timeout=0
                )
        except (can.CanError, OSError) as error:
            if not broken:
                log.warning("can't send on %s: %s", name, error)
            broken = True
        else:
            if broken:
                log.info("sending on %s again", name)
            broken = False
        passed_s = clock.monotonic_s() - start_s
        await clock.sleep_s(TICK_MS / 1000 - passed_s % (TICK_MS / 1000))


async def run(bms: SimulatedBms, options: Mapping[str, object], clock: Clock, *, control: bool = False) -> None:
    """Open the bus and send until SIGTERM or SIGINT; ``control``: and take orders.

    Raises one of ``REFUSALS`` when it can't be opened.
    """
    name = f"{options['interface']} {options.get('channel', '')}".strip()
    make: Callable[..., can.BusABC] = can.Bus
    with make(ignore_config=True, **options) as bus:
        sending = asyncio.ensure_future(send_all(bms, bus, clock, name))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, sending.cancel)
        log.info("sending on %s", name)
        if control:
            orders: Orders = {"fault": lambda name, on: bms.switch(Fault(name), on=on), "ask": bms.ask}
            directed = begin(orders, bms.report, clock, sending.cancel)
            sending.add_done_callback(lambda _: directed.cancel())
        await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()


def bus_options(interface: str, channel: str | None, extra: Sequence[str]) -> dict[str, object]:
    """The options of ``can.Bus`` from the command line's. Raises ``ValueError`` for what is no ``--name value``."""
    options: dict[str, object] = {"interface": interface}
    if channel is not None:
        options["channel"] = channel
    if interface == "udp_multicast":
        options["hop_limit"] = 0
    words = list(extra)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or (not equals and not words):
            raise ValueError(f"{word}: write options of the interface as --name value")
        options[name.removeprefix("--").replace("-", "_")] = _typed(value if equals else words.pop(0))
    return options


def _typed(text: str) -> int | float | bool | str:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 0 ended on request, 1 the bus can't be opened, 2 wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m drivers.sim.bms",
        description="A simulated battery on a CAN bus. Further --name value options go to python-can's interface.",
        allow_abbrev=False,
    )
    parser.add_argument("--interface", default="udp_multicast", help="any interface of python-can (%(default)s)")
    parser.add_argument("--channel", help="the interface's channel: vcan0, or a multicast address")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="demo_pack", help="whose frames (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another number is another battery (%(default)s)")
    parser.add_argument(
        "--fault",
        type=partial(parse_fault, Fault),
        action="append",
        default=[],
        metavar="NAME[@START[+SECONDS]]",
        help=f"one of {', '.join(Fault)}",
    )
    parser.add_argument("--resume", type=json.loads, metavar="JSON", help="soc_pct, charged_wh and discharged_wh")
    add_control(parser)
    known, extra = parser.parse_known_args(arguments)
    logging.basicConfig(level=logging.INFO, format="bms: %(message)s")
    try:
        options = bus_options(known.interface, known.channel, extra)
    except ValueError as error:
        parser.error(str(error))
    bms = SimulatedBms(known.profile, known.seed, known.fault)
    if known.resume:
        bms.resume(**known.resume)
    try:
        asyncio.run(run(bms, options, SystemClock(), control=known.control))
    except REFUSALS as error:
        print(f"can't open {known.interface} {known.channel or ''}: {_cause(error)}", file=sys.stderr)  # noqa: T201 - a program's last word
        return 1
    return 0


def _cause(error: BaseException) -> str:
    """An error and the one behind it: python-can says what it tried, the system why it failed."""
    return f"{error} ({error.__cause__})" if error.__cause__ else str(error)


if __name__ == "__main__":
    sys.exit(main())
