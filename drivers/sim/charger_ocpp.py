"""A simulated charger on OCPP: ``python -m drivers.sim.charger_ocpp --url ws://127.0.0.1:9000/ocpp/CP-0001``.

It speaks 1.6J or 2.0.1 through the ``ocpp`` package and shares nothing with the gateway's own OCPP code. It prints a
line of JSON for each session that has ended: identity, outlet, registers at its start and end, id tag, reason.

Signals: SIGTERM and SIGINT end it; SIGUSR1 plugs a vehicle into outlet 1 or takes it away; SIGUSR2 drops the
connection.
"""

import argparse
import asyncio
import base64
import json
import logging
import signal
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ocpp.exceptions import OCPPError  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from agent.core.clock import Clock, SystemClock
from drivers.sim.charger_ocpp16 import Dialect16, Link16
from drivers.sim.charger_ocpp201 import Link201
from drivers.sim.charger_ocpp201_says import Dialect201
from drivers.sim.charger_ocpp_core import Charger
from drivers.sim.charger_ocpp_dialect import Dialect
from drivers.sim.charger_ocpp_model import Quirk, SimSettings, parse_quirk
from drivers.sim.charger_ocpp_wire import Wire
from drivers.sim.directed import Orders, Report, add_control, begin

VERSIONS: dict[str, tuple[Callable[[Charger], Dialect], Callable[[Wire, Charger], Link16 | Link201]]] = {
    "1.6": (Dialect16, Link16),
    "2.0.1": (Dialect201, Link201),
}
#: Faults beside the bad manners: its network is gone; its first outlet has a fault.
OFFLINE, BROKEN = "offline", "broken"
CLOSE_S = 2.0
OPEN_S = 10.0

log = logging.getLogger(__name__)


class SimulatedCharger(Charger):
    """A charger with its connection: ``async with SimulatedCharger(settings, clock)``, or ``await run()``.

    ``connections`` counts those that were opened, ``last_error`` says why the last try failed.
    """

    def __init__(self, settings: SimSettings, clock: Clock) -> None:
        dialect, self._link = VERSIONS[settings.version]
        super().__init__(settings, clock, dialect)
        self.connections = 0
        self.last_error = ""
        self._left: list[ClientConnection] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        self._task = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, as a power cut would: the transactions stay in the state file."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def run(self) -> None:
        """Live until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick())
                tasks.create_task(self._dial())
        finally:
            for socket in self._left:
                socket.transport.abort()
            self.save()

    async def _tick(self) -> None:
        while True:
            self.step()
            await self.clock.sleep_s(self.settings.tick_s)

    async def _dial(self) -> None:
        failed = 0
        while True:
            try:
                socket = await self._connect()
            except (OSError, InvalidHandshake, EOFError, TimeoutError) as error:
                failed += 1
                self.last_error = str(error)
            else:
                failed = 0
                self.connections += 1
                try:
                    await self._converse(socket)
                finally:
                    await self._close(socket)
            first_s, longest_s = self.settings.backoff_s
            pause_s = min(longest_s, first_s * 2 ** min(failed, 10))
            await self.clock.sleep_s(pause_s * (0.5 + self.random.random() / 2))
            while not self.powered or self.cut_off:
                await self.clock.sleep_s(self.settings.tick_s)

    async def _connect(self) -> ClientConnection:
        settings = self.settings
        headers = {}
        if self.password is not None:
            pair = base64.b64encode(settings.identity.encode() + b":" + self.password).decode()
            headers["Authorization"] = f"Basic {pair}"
        return await connect(
            self.url,
            subprotocols=[Subprotocol(self.dialect.subprotocol)],
            additional_headers=headers,
            ssl=self._tls() if self.url.startswith("wss") else None,
            ping_interval=self.number("WebSocketPingInterval") or None,
            open_timeout=OPEN_S,
            close_timeout=CLOSE_S,
            proxy=None,
        )

    def _tls(self) -> ssl.SSLContext:
        settings = self.settings
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        return context

    async def _converse(self, socket: ClientConnection) -> None:
        link = self._link(Wire(socket, self), self)
        self.attached()
        parts = [link.start(), self._speak(link), self.hang_up.wait()]
        for quirk, leave in ((Quirk.TWO_SOCKETS, self._leave_open), (Quirk.HALF_OPEN, self._fall_silent)):
            if quirk in self.quirks and self.connections == 1:
                parts.append(leave(socket, float(self.quirks[quirk] or 5)))
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None and not isinstance(error, ConnectionClosed):
                    raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.detached()

    async def _speak(self, link: Link16 | Link201) -> None:
        """One question at a time (OCPP-J 1.6, 4.1.1)."""
        me = asyncio.current_task()
        # Python 3.11: where an answer and the cancellation come together, the package's wait_for keeps the answer.
        while me is not None and not me.cancelling():
            message = self.next_message()
            if message is None:
                self.wake.clear()
                await self.wake.wait()
                continue
            try:
                answer = await link.ask(message)
            except (OCPPError, TimeoutError):
                self.refused(message)
            else:
                self.answered(message, answer)

    async def _leave_open(self, socket: ClientConnection, after_s: float) -> None:
        await self.clock.sleep_s(after_s)
        self._left.append(socket)

    async def _fall_silent(self, socket: ClientConnection, after_s: float) -> None:
        await self.clock.sleep_s(after_s)
        self._left.append(socket)
        socket.transport.pause_reading()
        await asyncio.Event().wait()

    async def _close(self, socket: ClientConnection) -> None:
        if socket not in self._left:
            await socket.close()


class _Orders:
    """What a director may do with a charger."""

    def __init__(self, charger: SimulatedCharger) -> None:
        self._charger = charger

    @property
    def orders(self) -> Orders:
        """By name."""
        return {"plug": self._plug, "unplug": self._charger.unplug, "fault": self._switch}

    def report(self) -> Report:
        """How it is. ``power_w`` by phase, of all outlets together."""
        charger = self._charger
        evses = [outlet.evse for outlet in charger.outlets]
        by_phase = [
            [current * voltage for current, voltage in zip(evse.currents_a, evse.voltages_v, strict=True)]
            for evse in evses
        ]
        return {
            "power_w": [sum(phase) for phase in zip(*by_phase, strict=True)],
            "plugged": [evse.plugged for evse in evses],
            "session_wh": [evse.session_wh for evse in evses],
            "online": charger.online,
        }

    def _plug(self, outlet: int, wants_a: float) -> None:
        self._charger.plug_in(outlet, wants_a)

    def _switch(self, name: str, on: bool) -> None:  # noqa: FBT001 - as the order says it
        charger = self._charger
        if name == OFFLINE:
            charger.cut(off=on)
        elif name == BROKEN:
            charger.break_down(1, "GroundFailure" if on else "")
        elif on:
            charger.quirks[Quirk(name)] = ""
        else:
            charger.quirks.pop(Quirk(name), None)


async def serve(chargers: Sequence[SimulatedCharger], *, control: bool = False) -> None:
    """Run them until SIGTERM or SIGINT, printing the sessions as they end; ``control``: the first takes orders."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _toggle, chargers[0])
    loop.add_signal_handler(signal.SIGUSR2, chargers[0].hang_up.set)
    tasks = [asyncio.create_task(charger.run()) for charger in chargers]
    printer = asyncio.create_task(_print_sessions(chargers))
    ended = asyncio.create_task(stop.wait())
    others: list[asyncio.Task[Any]] = [printer, ended]
    if control:
        first = _Orders(chargers[0])
        others.append(begin(first.orders, first.report, chargers[0].clock, stop.set))
    try:
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, *others):
            task.cancel()
        await asyncio.gather(*tasks, *others, return_exceptions=True)


def _toggle(charger: SimulatedCharger) -> None:
    if charger.outlets[0].evse.plugged:
        charger.unplug()
    else:
        charger.plug_in()


async def _print_sessions(chargers: Sequence[SimulatedCharger]) -> None:
    told = [len(charger.sessions) for charger in chargers]
    connected = [0] * len(chargers)
    while True:
        for number, charger in enumerate(chargers):
            for session in charger.sessions[told[number] :]:
                line = {"identity": charger.settings.identity, **asdict(session)}
                print(json.dumps(line), flush=True)  # noqa: T201 - what the program is asked for
            told[number] = len(charger.sessions)
            if charger.connections != connected[number]:
                connected[number] = charger.connections
                log.info("%s: connected to %s", charger.settings.identity, charger.url)
        await chargers[0].clock.sleep_s(1.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m drivers.sim.charger_ocpp", description="A simulated charger on OCPP."
    )
    parser.add_argument("--url", required=True, help="of the central system, with the charger's identity at its end")
    parser.add_argument("--version", choices=sorted(VERSIONS), default="1.6", help="of OCPP (%(default)s)")
    parser.add_argument("--outlets", type=int, default=1, help="connectors or EVSEs (%(default)s)")
    parser.add_argument("--phases", type=int, choices=(1, 3), default=3, help="that it is connected to (%(default)s)")
    parser.add_argument("--max-current", type=float, default=32.0, help="A per phase of an outlet (%(default)s)")
    parser.add_argument("--password-file", type=Path, help="file with the password of Basic authentication")
    parser.add_argument("--ca-file", type=Path, help="PEM: who signed the central system's certificate")
    parser.add_argument("--cert-file", type=Path, help="PEM: the charger's own certificate")
    parser.add_argument("--key-file", type=Path, help="PEM: its key")
    parser.add_argument(
        "--id-tag", help="presented whenever a vehicle comes; absent: only remote start begins a session"
    )
    parser.add_argument("--seed", type=int, default=1, help="another number is another day (%(default)s)")
    parser.add_argument("--speed", type=float, default=1.0, help="vehicles come and go so many times as fast; 0: none")
    parser.add_argument("--vendor", default="Enlace", help="in BootNotification (%(default)s)")
    parser.add_argument("--model", default="Sim", help="in BootNotification (%(default)s)")
    parser.add_argument("--firmware", default="1.0", help="in BootNotification (%(default)s)")
    parser.add_argument("--state", type=Path, help="file that keeps its transactions and settings over a restart")
    parser.add_argument(
        "--quirk",
        type=parse_quirk,
        action="append",
        default=[],
        help=f"bad manners, NAME or NAME=VALUE: {', '.join(Quirk)}",
    )
    add_control(parser)
    parser.add_argument("--fleet", type=int, help="so many chargers, with -0001 and so on behind the identity")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns the exit code: 0 ended on request, 1 a file can't be read."""
    known = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="charger: %(message)s")
    logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        settings = SimSettings(
            url=known.url,
            version=known.version,
            outlets=known.outlets,
            phases=known.phases,
            max_a=known.max_current,
            tag=known.id_tag,
            password=None if known.password_file is None else known.password_file.read_bytes().rstrip(b"\r\n"),
            ca_file=known.ca_file,
            cert_file=known.cert_file,
            key_file=known.key_file,
            state_file=known.state,
            seed=known.seed,
            pace=known.speed,
            vendor=known.vendor,
            model=known.model,
            firmware=known.firmware,
            quirks=dict(known.quirk),
        )
        clock = SystemClock()
        chargers = [SimulatedCharger(one, clock) for one in _fleet(settings, known.fleet)]
        asyncio.run(serve(chargers, control=known.control))
    except (OSError, ValueError) as error:
        print(f"can't simulate {known.url}: {error}", file=sys.stderr)  # noqa: T201 - a program's last word
        return 1
    return 0


def _fleet(settings: SimSettings, count: int | None) -> list[SimSettings]:
    if count is None:
        return [settings]
    state = settings.state_file
    return [
        replace(
            settings,
            url=f"{settings.url}-{number:04d}",
            seed=settings.seed + number,
            state_file=None if state is None else state.with_name(f"{state.name}-{number:04d}"),
        )
        for number in range(1, count + 1)
    ]


if __name__ == "__main__":
    sys.exit(main())
