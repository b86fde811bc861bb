"""The work of a scan, of the command and of the API: which hosts and ports are looked at, and how many at once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent import scan_targets as targets
from agent.core.clock import Clock
from agent.core.errors import AgentError, BadData, ConfigError
from agent.modbus_loader import load_modbus_profile
from agent.profiles import profile_folders
from agent.scan_proposal import Found, Product, summary_of
from agent.yamlfile import parse, read_text
from drivers.line import open_line
from drivers.modbus.scan import ALL_UNITS, Search, Watcher
from drivers.modbus.scan_ask import Patience
from drivers.modbus.scan_host import TCP_UNITS, scan_host
from drivers.modbus.scan_line import BAUDS, PARITIES, RTU_UNITS, RtuPlan, scan_line, speeds
from drivers.modbus.scan_match import Model, default_units
from drivers.modbus.settings import TCP_PORT
from drivers.serial_meter.scan import LISTEN_S, PortSearch, ask_d0, listen
from drivers.serial_meter.scan_mbus import ask_mbus

T = TypeVar("T")

_POINT_TO_POINT = 31  #: RFC 3021

TCP_TIMEOUT_S, RTU_TIMEOUT_S = 1.0, 0.25
#: How long a connection may take: of an address that was named, and of one of many.
CONNECT_S, SWEEP_S = 3.0, 0.5
HOSTS_AT_ONCE, PORTS_AT_ONCE = 64, 8
#: How often it is looked at whether what is searched was configured meanwhile.
LOOK_S = 1.0
#: More devices than this are no site.
MAX_RESULTS = 500


def load_models(base: Path, watch: Watcher) -> tuple[list[Model], dict[str, Product]]:
    """The device models that travel with the program, and those beside the configuration, which come first."""
    watch.step("reading the device models", "", 0)
    models: dict[str, Model] = {}
    products: dict[str, Product] = {}
    for folder in dict.fromkeys(profile_folders(base, base / "profiles")):
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            try:
                document, _ = parse(read_text(path), str(path))
                if document is None or not isinstance(document.data, dict) or document.data.get("driver") != "modbus":
                    continue
                loaded = load_modbus_profile(document, path)
            except ConfigError as error:
                watch.say(f"{error}\nthis profile is left out")
                continue
            if loaded.name not in models:
                models[loaded.name] = Model(loaded.profile, loaded.file.maker)
                products[loaded.name] = Product(loaded.file.maker, loaded.file.model)
    return list(models.values()), products


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where to look. Of hosts and networks, None of either is named: this machine's own networks."""

    tcp: bool = True  #: Modbus TCP
    serial: bool = True  #: serial ports
    meters: bool = True  #: on serial ports, listen for meters before units on Modbus are asked
    hosts: Sequence[tuple[str, int]] = ()
    networks: Sequence[targets.Network] = ()
    ports: Sequence[str] | None = None  #: None: all of this machine
    units: Sequence[int] | None = None  #: None: those that profiles name, and the usual ones
    bauds: Sequence[int] = BAUDS
    parities: Sequence[str] = PARITIES
    timeout_s: float | None = None  #: how long an answer may take
    listen_s: float = LISTEN_S


@dataclass
class Job:
    """One search. ``results`` is what was found so far."""

    wanted: Wanted
    configured: Callable[[], targets.Configured]  #: as it is now: what becomes configured meanwhile is let go
    models: Sequence[Model]
    products: Mapping[str, Product]
    watch: Watcher
    clock: Clock
    results: list[Found] = field(default_factory=list)
    tell: Callable[[Found], None] = lambda found: None  # noqa: ARG005 - nobody wants to know
    done: int = 0  #: of ``total`` hosts and ports
    total: int = 0

    async def run(self) -> None:
        """Look everywhere."""
        named = self.wanted.ports
        ports: list[targets.SerialPort] = []
        if self.wanted.serial:
            known = targets.serial_ports() if named is None else [targets.named_port(port) for port in named]
            ports = list(self._free(known))
        networks = self._networks() if self.wanted.tcp else []
        hosts = list(dict.fromkeys(self.wanted.hosts)) if self.wanted.tcp else []
        self.total = len(ports) + len(hosts) + sum(_hosts_of(network) for network in networks)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pool(PORTS_AT_ONCE, ports, self._port))
            group.create_task(self._hosts(hosts, networks))

    # --- TCP ---

    def _networks(self) -> list[targets.Network]:
        if self.wanted.networks or self.wanted.hosts:
            return list(self.wanted.networks)
        if not targets.ROUTES.is_file():
            self.watch.say("this machine's networks are not known: name them with --network")
            return []
        networks, skipped = targets.own_networks(targets.ROUTES.read_text())
        for line in skipped:
            self.watch.say(line)
        return networks

    async def _hosts(self, named: Sequence[tuple[str, int]], networks: Sequence[targets.Network]) -> None:
        await _pool(HOSTS_AT_ONCE, named, lambda one: self._host(*one, connect_s=self._timeout_s(CONNECT_S)))
        if not networks:
            return
        seen = {host for host, port in named if port == TCP_PORT}
        connect_s = self._timeout_s(SWEEP_S)
        stage = f"{', '.join(map(str, networks))}: looking for port {TCP_PORT}"

        async def look(host: str) -> None:
            self.watch.step(stage, host, (self.total - self.done) / HOSTS_AT_ONCE * connect_s)
            await self._host(host, TCP_PORT, connect_s=connect_s, quiet=True)

        await _pool(HOSTS_AT_ONCE, (host for host in targets.hosts_in(networks) if host not in seen), look)

    async def _host(self, host: str, port: int, *, connect_s: float, quiet: bool = False) -> None:
        """Look behind one address. ``quiet``: it is one of many, that nobody is there is no news."""
        addresses = [host] if quiet else await asyncio.to_thread(targets.addresses_of, host)
        name = f"{host}:{port}"
        looking = self._units_of(host, port, connect_s, quiet=quiet)
        await self._unless_configured(name, lambda: self.configured().has_address(host, port, addresses), looking)
        self.done += 1

    async def _units_of(self, host: str, port: int, connect_s: float, *, quiet: bool) -> None:
        units = self.wanted.units or default_units(self.models, TCP_UNITS)
        search = self._search(self._timeout_s(TCP_TIMEOUT_S))
        try:
            if not await scan_host(search, host, port, units, connect_s):
                self.watch.say(f"{host}:{port} takes connections, but no unit id that was tried answers: try --units")
        except AgentError as error:
            if not quiet or isinstance(error, BadData):
                self.watch.say(f"{host}:{port}: {error.reason}" + (f" ({error.hint})" if error.hint else ""))

    # --- serial ports ---

    def _free(self, ports: Iterable[targets.SerialPort]) -> Iterator[targets.SerialPort]:
        """The ports that nobody uses."""
        known: set[str] = set()
        for port in ports:
            if port.node in known:
                continue
            known.add(port.node)
            if self._has(port):
                self.watch.say(f"{port.told} is configured: left alone")
            else:
                self.watch.say(f"serial port {port.told}")
                yield port
        if not known:
            self.watch.say("this machine has no serial port")

    def _has(self, port: targets.SerialPort) -> bool:
        configured = self.configured()
        return configured.has_port(port.path) or configured.has_port(port.node)

    async def _port(self, port: targets.SerialPort) -> None:
        await self._unless_configured(port.told, lambda: self._has(port), self._devices_on(port))
        self.done += 1

    async def _devices_on(self, port: targets.SerialPort) -> None:
        try:
            if not (self.wanted.meters and await self._meter(port.path)):
                await self._rtu(port.path)
        except AgentError as error:
            self.watch.say(f"{error}")

    async def _meter(self, port: str) -> bool:
        """Whether a meter was found that is no Modbus unit."""
        search = PortSearch(port, self.clock, self.watch, self._found, open_line)
        meter = await listen(search, self.wanted.listen_s) or await ask_d0(search)
        if meter is not None:
            self._found(meter)
            return True
        return await ask_mbus(search)

    async def _rtu(self, port: str) -> bool:
        asked = self.wanted
        # Unit 0 is the broadcast, which nobody answers; above 247 are ids of TCP (Modbus over Serial Line V1.02, 2.2).
        usual = (unit for unit in default_units(self.models, RTU_UNITS) if unit in ALL_UNITS)
        units = [unit for unit in asked.units or usual if unit]
        plan = RtuPlan(speeds(asked.bauds, asked.parities), units, widen=asked.units is None)
        baud, parity = plan.speeds[0]
        line = await open_line(port, baud, f"8{parity}1")
        try:
            return await scan_line(self._search(self._timeout_s(RTU_TIMEOUT_S)), line, plan)
        finally:
            line.close()

    # --- both ---

    async def _unless_configured(
        self, name: str, configured: Callable[[], bool], looking: Coroutine[None, None, None]
    ) -> None:
        """Look, until it is done or somebody has put what is looked at into the configuration: it is let go then."""
        if configured():
            looking.close()
            self.watch.say(f"{name} is configured: left alone")
            return
        work = asyncio.ensure_future(looking)
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=LOOK_S)
                if not work.done() and configured():
                    self.watch.say(f"{name} is configured now: left alone")
                    return
            work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _search(self, timeout_s: float) -> Search:
        return Search(self.models, Patience(timeout_s), self.clock, self.watch, self._found)

    def _timeout_s(self, default_s: float) -> float:
        return self.wanted.timeout_s or default_s

    def _found(self, found: Found) -> None:
        if len(self.results) >= MAX_RESULTS:
            return
        self.results.append(found)
        self.tell(found)
        self.watch.say(f"found {summary_of(found, self.products)}")


async def _pool(size: int, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Work on all items, so many at once."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(worker())


def _hosts_of(network: targets.Network) -> int:
    """How many addresses ``hosts()`` gives: not the network's own and its broadcast, where it has these."""
    return network.num_addresses - 2 if network.prefixlen < _POINT_TO_POINT else network.num_addresses
