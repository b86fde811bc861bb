"""``enlace demo``: a simulated site with the real drivers, each counterpart a process of its own."""

import argparse
import contextlib
import importlib.util
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent.core.clock import SystemClock
from agent.core.errors import Unavailable

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 8.0
_API_PORT = 8080
_MULTICAST_GROUP = "239.74.163.2"
#: The meters of config/demo.yaml, and what they speak.
_METERS = {"grid": "dsmr", "sub1": "sml"}
#: Its chargers on OCPP: identity, version, outlets, and whose vehicles come.
_CHARGERS = {"cp1": ("CP-0001", "1.6", "1", "VAN-3"), "cp3": ("CP-0003", "2.0.1", "2", "VAN-7")}
_OCPP_PORT = 9000
_PASSWORD_BYTES = 16
_CODE = re.compile(rb"set it up with the code (\S+)")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("demo", help="a simulated site with the real drivers: no hardware, no root")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="keep the database there (default: thrown away)")
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself after that long")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the simulated site until Ctrl-C or SIGTERM."""
    for package, what in (("amqtt", "the MQTT broker"), ("msgpack", "the CAN bus between processes")):
        if importlib.util.find_spec(package) is None:
            raise Unavailable("demo", f"{what} needs the package {package}", "pip install 'enlace[demo]'")
    with tempfile.TemporaryDirectory(prefix="enlace-demo-") as folder, _stop_signals() as stop:
        data_dir = (arguments.data_dir or Path(folder)).resolve()
        data_dir.mkdir(parents=True, exist_ok=True)
        return _Demo(Path(folder), data_dir, stop).run(arguments.seconds)


@dataclass(frozen=True, slots=True)
class _Bus:
    interface: str
    channel: str


def find_bus(interfaces: Sequence[str] | None = None) -> _Bus:
    """``vcan0`` where the kernel has it and it is up, otherwise multicast between processes.

    Raises ``Unavailable`` on a machine that has neither.
    """
    names = [name for _, name in socket.if_nameindex()] if interfaces is None else interfaces
    if "vcan0" in names and hasattr(socket, "AF_CAN"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as bus:
            bus.bind(("vcan0",))
            return _Bus("socketcan", "vcan0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            group = socket.inet_aton(_MULTICAST_GROUP) + socket.inet_aton("0.0.0.0")  # noqa: S104 - whatever interface
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        except OSError as error:
            hint = "as root: ip route add 224.0.0.0/4 dev lo, or: ip link add vcan0 type vcan; ip link set vcan0 up"
            raise Unavailable("demo", f"there is no way for CAN between processes ({error.strerror})", hint) from error
    return _Bus("udp_multicast", _MULTICAST_GROUP)


class _Demo:
    """The processes of the simulated site, in the order in which they need each other."""

    def __init__(self, folder: Path, data_dir: Path, stop: threading.Event) -> None:
        self._folder = folder
        self._data_dir = data_dir
        self._stop = stop
        self._clock = SystemClock()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._bus = find_bus()
        self._broker_port = _free_port()
        self._can_port = _free_port()
        self._charger_port = _free_port()
        self._api_port = _API_PORT if _is_free(_API_PORT) else _free_port()
        self._ocpp_port = _OCPP_PORT if _is_free(_OCPP_PORT) else _free_port()
        self._code = ""  #: for set-up; empty: it was done before

    def run(self, seconds: float | None) -> int:
        """Start all, wait, stop all in the opposite order; 1 when one of them ended by itself."""
        url = f"http://127.0.0.1:{self._api_port}"
        broker = f"mqtt://127.0.0.1:{self._broker_port}"
        try:
            self._start("broker", "drivers.sim.broker", "--port", str(self._broker_port))
            self._wait("broker", lambda: not _is_free(self._broker_port))
            self._start("central", "cloud_sync.watch", "--broker", broker, "--root", "enlace", "--site", "demo")
            self._start("battery", "drivers.sim.bms", *self._bus_arguments())
            self._start("charger", "drivers.sim.charger_modbus", "--port", str(self._charger_port))
            for meter, protocol in _METERS.items():
                self._start(meter, f"drivers.sim.meter_{protocol}", "--port-link", str(self._tty(meter)))
            self._wait("charger", lambda: not _is_free(self._charger_port))
            config = self._write_config()
            self._start("gateway", "agent", "run", "--config", str(config), environ=self._environ(url, broker))
            for device in _CHARGERS:
                self._start(device, "drivers.sim.charger_ocpp", *self._charger_arguments(device))
            self._wait("gateway", lambda: _answers(f"{url}/api/system/health"))
            print(
                f"\n  Live values   {url}/\n"
                + (f"  Set-up code   {self._code}  (once, for the first user)\n" if self._code else "")
                + f"  OCPP          {self._ocpp_url('')}  {'  '.join(one[0] for one in _CHARGERS.values())}\n"
                f"  API           {url}/docs  {url}/api/devices/battery1/latest\n"
                f"  CAN           {self._bus.interface} {self._bus.channel}\n"
                f"  Modbus        tcp://127.0.0.1:{self._charger_port}\n"
                f"  Serial        {'  '.join(str(self._tty(meter)) for meter in _METERS)}\n"
                f"  MQTT          {broker}  enlace/demo/#\n"
                f"  Database      {self._data_dir}\n"
                "  Ctrl-C ends the site.\n",
                flush=True,
            )
            return self._watch(seconds)
        finally:
            self._end()

    def _bus_arguments(self) -> list[str]:
        arguments = ["--interface", self._bus.interface, "--channel", self._bus.channel]
        return [*arguments, "--port", str(self._can_port)] if self._bus.interface == "udp_multicast" else arguments

    def _ocpp_url(self, identity: str) -> str:
        return f"ws://127.0.0.1:{self._ocpp_port}/ocpp/{identity}"

    def _charger_arguments(self, device: str) -> list[str]:
        identity, version, outlets, tag = _CHARGERS[device]
        arguments = ["--url", self._ocpp_url(identity), "--version", version, "--outlets", outlets, "--id-tag", tag]
        return [*arguments, "--password-file", str(self._password(device)), "--seed", device.removeprefix("cp")]

    def _password(self, device: str) -> Path:
        """The file with a charger's password, made at the first call."""
        path = self._folder / f"{device}.password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(_PASSWORD_BYTES))
        return path

    def _tty(self, meter: str) -> Path:
        return self._folder / f"tty-{meter}"

    def _write_config(self) -> Path:
        """The demo's configuration with the bus, ports and lines that there are; its comments are kept."""
        from ruamel.yaml import YAML  # noqa: PLC0415 - see the package's docstring

        from agent.share import share_path  # noqa: PLC0415

        yaml = YAML()
        data = yaml.load((share_path("config") / "demo.yaml").read_text())
        devices = {device["id"]: device for device in data["devices"]}
        battery = devices["battery1"]
        battery["interface"], battery["channel"] = self._bus.interface, self._bus.channel
        if self._bus.interface == "udp_multicast":
            battery["options"]["port"] = self._can_port
        else:
            del battery["options"]
        devices["cp2"]["url"] = f"tcp://127.0.0.1:{self._charger_port}"
        for meter in _METERS:
            devices[meter]["port"] = str(self._tty(meter))
        for device in _CHARGERS:
            devices[device]["password_file"] = str(self._password(device))
        path = self._folder / "site.yaml"
        with path.open("w") as file:
            yaml.dump(data, file)
        return path

    def _environ(self, url: str, broker: str) -> dict[str, str]:
        return {
            "ENLACE_DATA_DIR": str(self._data_dir),
            "ENLACE_API_LISTEN": url.removeprefix("http://"),
            "ENLACE_OCPP_LISTEN": f"127.0.0.1:{self._ocpp_port}",
            "ENLACE_UPLINK_BROKER": broker,
        }

    def _start(self, name: str, module: str, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ENLACE_")}
        # A session of its own: Ctrl-C reaches this process only, which then ends the others in order.
        process = subprocess.Popen(  # noqa: S603 - our own modules, with arguments made here
            [sys.executable, "-m", module, *arguments],
            env=inherited | dict(environ or {}),
            start_new_session=True,
            stderr=subprocess.PIPE if name == "gateway" else None,
        )
        self._processes.append((name, process))
        if process.stderr is not None:
            threading.Thread(target=self._repeat, args=(process.stderr,), daemon=True).start()

    def _repeat(self, lines: IO[bytes]) -> None:
        """What the gateway says, and its set-up code, to be told again where it is seen."""
        for line in lines:
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
            if (found := _CODE.search(line)) is not None:
                self._code = found[1].decode()

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        deadline_s = self._clock.monotonic_s() + _START_TIMEOUT_S
        while not ready() and not self._stop.wait(0.05):
            self._check()
            if self._clock.monotonic_s() > deadline_s:
                reason = f"the {name} was not ready in {_START_TIMEOUT_S:.0f} s"
                raise Unavailable("demo", reason, "see its lines above")

    def _check(self) -> None:
        for name, process in self._processes:
            if process.poll() is not None:
                raise Unavailable("demo", f"the {name} ended with code {process.returncode}", "see its lines above")

    def _watch(self, seconds: float | None) -> int:
        deadline_s = None if seconds is None else self._clock.monotonic_s() + seconds
        while not self._stop.wait(0.5):
            self._check()
            if deadline_s is not None and self._clock.monotonic_s() > deadline_s:
                break
        return 0

    def _end(self) -> None:
        """The gateway first: it misses nobody, and what it still has leaves the house."""
        order = ("gateway", "battery", "charger", *_CHARGERS, *_METERS, "central", "broker")
        for name, process in sorted(self._processes, key=lambda item: order.index(item[0])):
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                print(f"demo: the {name} did not end in {_STOP_TIMEOUT_S:.0f} s: killed", file=sys.stderr)
                process.kill()
                process.wait()


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - a loopback URL made above
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP OK
    except OSError:
        return False
