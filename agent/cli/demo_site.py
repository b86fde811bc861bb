"""The processes of the demo: its gateway and all counterparts, started side by side, ended in order.

Rules of this file:

1. Nobody waits for anybody: each counterpart may be there later than the gateway, which takes longest and begins first.
   Only the chargers on OCPP begin when the page is there: a fifth of all work is theirs, and nobody sees them sooner.
2. What a process prints is passed on, but its reports, which are the director's, and the gateway's set-up code and
   addresses, which are told again where they are seen.
3. One that ends by itself ends the demo, which names it. All end with their stdin, so also when the demo is killed.
4. What registers stood at is kept beside the database for the next demo on the same data: meters never go back.
"""

import asyncio
import contextlib
import json
import math
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from agent.cli.demo_director import Director
from agent.cli.demo_door import door
from agent.cli.demo_places import MULTICAST, Claims, find_bus, free_port
from agent.cli.demo_script import MORNING_H, STEPS
from agent.core.clock import Clock
from agent.core.errors import Unavailable
from agent.share import share_path

#: A patience, no measure: a loaded machine takes its time.
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 8.0
_SETTLE_S = 8.0
_KEEP_S = 10.0
_API_PORT, _OCPP_PORT = 8080, 9000
_PASSWORD_BYTES = 16
_MAX_LINE = 1 << 20
_CODE = re.compile(r"set it up with the code (\S+)")
_API = re.compile(r"agent\.api\.server: api: (http\S+)$")
#: The meters of config/demo.yaml, and what they speak.
METERS = {"grid": "dsmr", "sub1": "sml"}
#: Its chargers on OCPP: identity, version, outlets, and whose vehicles come.
CHARGERS = {"cp1": ("CP-0001", "1.6", "1", "VAN-3"), "cp3": ("CP-0003", "2.0.1", "2", "VAN-7")}
#: The model's profile, as a site may have one of its own: what it can measure is known, nothing has to be tried first.
_PROFILE = """\
name: enlace_demo
maker: Enlace
model: simulated charger of the demo
source: drivers/sim/charger_ocpp.py
match: {vendor: Enlace, model: Demo}
probe: false
"""
#: What goes on where it was, of a counterpart's report.
_KEPT = {"battery1": ("soc_pct", "charged_wh", "discharged_wh"), "grid": ("beside_wh",), "pv1": ("made_wh",)}
#: The sun goes through a day in a round of the scenario.
_DAY_S = sum(step.lasts_s for step in STEPS)
#: How those are called that are no devices of the site, or more than their id says.
_SPOKEN = {
    "central": "central server's stand-in",
    "battery1": "battery",
    "cp1": "charger cp1",
    "cp2": "charger cp2",
    "cp3": "charger cp3",
    "pv1": "inverter pv1",
    "grid": "meter grid",
    "sub1": "meter sub1",
}


class Site:
    """The simulated site. ``folder`` is thrown away afterwards, ``data_dir`` may stay."""

    def __init__(self, folder: Path, data_dir: Path, clock: Clock) -> None:
        self._folder = folder
        self._data_dir = data_dir
        self._clock = clock
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._claims = Claims()
        self._bus = find_bus(self._claims)
        self._broker_port, self._central_port, self._can_port, self._modbus_port = (free_port() for _ in range(4))
        self._inverter_port = free_port()
        self._api_port = self._claims.port(_API_PORT)
        self._ocpp_port = self._claims.port(_OCPP_PORT) or free_port()  # the wire is called by it
        self._code = ""  #: for set-up; empty: it was done before
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._director = Director(clock, self._tell, lambda text: print(f"demo: {text}", flush=True))
        self._kept = data_dir / "demo-registers.json"

    async def run(self, stop: asyncio.Event, seconds: float | None) -> None:
        """Start all, play until ``stop`` or so many seconds, end all. Raises ``Unavailable`` when one of them ended."""
        control = self._folder / "control"
        try:
            async with door(self._director, control):
                await self._start(control)
                ending: set[asyncio.Future[Any]] = {
                    asyncio.create_task(stop.wait(), name="stop"),
                    asyncio.create_task(self._live(seconds), name="site"),
                }
                done, _ = await asyncio.wait(ending | {self._lost}, return_when=asyncio.FIRST_COMPLETED)
                for task in ending:
                    task.cancel()
                await asyncio.gather(*ending, return_exceptions=True)
                await self._director.play(running=False)
                if not stop.is_set():
                    for one in done:
                        one.result()
        finally:
            await self._end()

    # Starting

    async def _start(self, control: Path) -> None:
        await self._launch_gateway(control)
        ports = ["--port", str(self._broker_port), "--inner-port", str(self._central_port)]
        await self._directed("broker", "drivers.sim.broker", *ports)
        await self._directed("cp2", "drivers.sim.charger_modbus", "--port", str(self._modbus_port), "--speed", "0")
        inverter = ["--port", str(self._inverter_port), "--day-s", str(_DAY_S), "--hour", str(MORNING_H)]
        await self._directed("pv1", "drivers.sim.inverter_sunspec", *inverter)
        for meter, protocol in METERS.items():
            await self._directed(meter, f"drivers.sim.meter_{protocol}", "--port-link", str(self._tty(meter)))
        await self._directed("battery1", "drivers.sim.bms", *self._bus_arguments())
        inside = f"mqtt://127.0.0.1:{self._central_port}"
        await self._launch("central", "cloud_sync.watch", "--broker", inside, "--root", "enlace", "--site", "demo")

    async def _launch_gateway(self, control: Path) -> None:
        environ = {
            "ENLACE_DATA_DIR": str(self._data_dir),
            "ENLACE_API_LISTEN": f"127.0.0.1:{self._api_port}",
            "ENLACE_OCPP_LISTEN": f"127.0.0.1:{self._ocpp_port}",
            "ENLACE_UPLINK_BROKER": f"mqtt://127.0.0.1:{self._broker_port}",
            "ENLACE_DEMO_CONTROL": str(control),
        }
        await self._launch("gateway", "agent", "run", "--config", str(self._write_config()), environ=environ)

    async def _live(self, seconds: float | None) -> None:
        """The rest of the start; then registers are kept, again and again, for so many seconds."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                url = await self._url
        except TimeoutError as error:
            reason = f"the gateway was not ready in {_START_TIMEOUT_S:.0f} s"
            raise Unavailable("demo", reason, "see its lines above") from error
        self._welcome(url)
        for device in CHARGERS:
            await self._directed(device, "drivers.sim.charger_ocpp", *self._charger_arguments(device))
        end_s = math.inf if seconds is None else self._clock.monotonic_s() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while not all(self._director.reports.get(device, {}).get("online") for device in CHARGERS):
                    await self._clock.sleep_s(0.1)
        await self._director.play(running=True)
        while (left_s := end_s - self._clock.monotonic_s()) > 0:
            await self._clock.sleep_s(min(_KEEP_S, left_s))
            self._keep()

    def _welcome(self, url: str) -> None:
        chargers = "  ".join(identity for identity, *_ in CHARGERS.values())
        print(
            f"\n  Live values   {url}/\n"
            + (f"  Set-up code   {self._code}  (once, for the first user)\n" if self._code else "")
            + f"  OCPP          ws://127.0.0.1:{self._ocpp_port}/ocpp/  {chargers}\n"
            f"  API           {url}/docs  {url}/api/devices/battery1/latest\n"
            f"  CAN           {self._bus.interface} {self._bus.channel}\n"
            f"  Modbus        tcp://127.0.0.1:{self._modbus_port}  tcp://127.0.0.1:{self._inverter_port}\n"
            f"  Serial        {'  '.join(str(self._tty(meter)) for meter in METERS)}\n"
            f"  MQTT          mqtt://127.0.0.1:{self._broker_port}  enlace/demo/#\n"
            f"  Database      {self._data_dir}\n"
            "  Ctrl-C ends the site.\n",
            flush=True,
        )

    def _bus_arguments(self) -> list[str]:
        arguments = ["--interface", self._bus.interface, "--channel", self._bus.channel]
        return [*arguments, "--port", str(self._can_port)] if self._bus.interface == MULTICAST else arguments

    def _charger_arguments(self, device: str) -> list[str]:
        identity, version, outlets, tag = CHARGERS[device]
        arguments = ["--url", f"ws://127.0.0.1:{self._ocpp_port}/ocpp/{identity}"]
        arguments += ["--version", version, "--outlets", outlets]
        arguments += ["--id-tag", tag, "--password-file", str(self._password(device)), "--speed", "0"]
        arguments += ["--vendor", "Enlace", "--model", "Demo"]
        return [*arguments, "--state", str(self._data_dir / f"demo-{device}.json")]

    def _password(self, device: str) -> Path:
        """The file with a charger's password, made at the first call: beside the database that may know it."""
        path = self._data_dir / f"demo-{device}.password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(_PASSWORD_BYTES))
        return path

    def _tty(self, meter: str) -> Path:
        return self._folder / f"tty-{meter}"

    def _write_config(self) -> Path:
        """The demo's configuration with the bus, ports and lines that there are; its comments are kept."""
        yaml = YAML()
        data = yaml.load((share_path("config") / "demo.yaml").read_text())
        devices = {device["id"]: device for device in data["devices"]}
        battery = devices["battery1"]
        battery["interface"], battery["channel"] = self._bus.interface, self._bus.channel
        if self._bus.interface == MULTICAST:
            battery["options"]["port"] = self._can_port
        else:
            del battery["options"]
        devices["cp2"]["url"] = f"tcp://127.0.0.1:{self._modbus_port}"
        devices["pv1"]["url"] = f"tcp://127.0.0.1:{self._inverter_port}"
        for meter in METERS:
            devices[meter]["port"] = str(self._tty(meter))
        for device in CHARGERS:
            devices[device]["password_file"] = str(self._password(device))
        profiles = self._folder / "profiles" / "ocpp"
        profiles.mkdir(parents=True)
        (profiles / "enlace_demo.yaml").write_text(_PROFILE)
        path = self._folder / "site.yaml"
        with path.open("w") as file:
            yaml.dump(data, file)
        return path

    # Processes

    async def _directed(self, name: str, module: str, *arguments: str) -> None:
        resume = self._resumed().get(name)
        more = ["--control"] + ([] if resume is None else ["--resume", json.dumps(resume)])
        await self._launch(name, module, *arguments, *more)

    async def _launch(self, name: str, module: str, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        # What takes no orders by itself is put on a leash: it ends with its stdin, too.
        program = [module] if "--control" in arguments else ["agent.cli.demo_leash", module]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ENLACE_")}
        # A session of its own: Ctrl-C reaches this process only, which then ends the others in order.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *program,
            *arguments,
            env=inherited | dict(environ or {}),
            start_new_session=True,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if name == "gateway" else None,
            limit=_MAX_LINE,
        )
        self._processes[name] = process
        self._tasks.add(asyncio.create_task(self._mind(name, process), name=f"mind {name}"))
        for lines, hear in ((process.stdout, self._heard), (process.stderr, self._heard_of_gateway)):
            if lines is not None:
                self._tasks.add(asyncio.create_task(self._read(name, lines, hear), name=f"read {name}"))

    async def _read(self, name: str, lines: asyncio.StreamReader, hear: Callable[[str, str], None]) -> None:
        while line := await lines.readline():
            hear(name, line.decode(errors="replace"))

    def _heard(self, name: str, line: str) -> None:
        if line.startswith('{"report"'):
            self._director.heard(name, json.loads(line)["report"])
        else:
            print(line, end="", flush=True)

    def _heard_of_gateway(self, _: str, line: str) -> None:
        print(line, end="", file=sys.stderr, flush=True)
        if (found := _CODE.search(line)) is not None:
            self._code = found[1]
        if (found := _API.search(line.rstrip())) is not None and not self._url.done():
            self._url.set_result(found[1])

    def _tell(self, counterpart: str, order: Mapping[str, Any]) -> None:
        process = self._processes.get(counterpart)
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _mind(self, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if not self._ending and not self._lost.done():
            reason = f"the {_SPOKEN.get(name, name)} ended with code {code}"
            self._lost.set_exception(Unavailable("demo", reason, "see its lines above"))

    async def _end(self) -> None:
        """The gateway first: it misses nobody, and what it still has leaves the house."""
        self._ending = True
        if self._lost.done():
            self._lost.exception()  # it was told, or Ctrl-C came at the same moment
        self._keep()
        await self._terminate(["gateway"])
        await self._terminate(self._processes)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._claims.close()

    async def _terminate(self, names: Iterable[str]) -> None:
        running = {name: self._processes[name] for name in names if name in self._processes}
        for process in running.values():
            if process.returncode is None:
                process.terminate()
        for name, process in running.items():
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                print(f"demo: the {name} did not end in {_STOP_TIMEOUT_S:.0f} s: killed", file=sys.stderr)
                process.kill()
                await process.wait()

    # Registers

    def _resumed(self) -> Mapping[str, Any]:
        try:
            kept: Mapping[str, Any] = json.loads(self._kept.read_text())
        except (OSError, ValueError):
            return {}
        return kept

    def _keep(self) -> None:
        reports = self._director.reports
        kept = {
            name: {key: reports[name][key] for key in keys}
            for name, keys in _KEPT.items()
            if all(key in reports.get(name, {}) for key in keys)
        }
        if kept:
            beside = self._kept.with_suffix(".new")
            beside.write_text(json.dumps(kept))
            beside.replace(self._kept)
