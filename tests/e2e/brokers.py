"""Real brokers in processes of their own: ours, and Mosquitto, RabbitMQ and NATS where the machine has them.

Each listens on free ports of loopback, keeps its files in a folder of the test, and is ended with all its children.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
_SBIN = "/usr/local/sbin:/usr/sbin"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path=_SBIN)
NATS = shutil.which("nats-server") or shutil.which("nats-server", path=_SBIN)
#: The script behind Debian's one, which would change to the user of the service.
RABBITMQ = next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))), None)
EPMD = shutil.which("epmd")

START_S = 120


def needs(kind: str) -> pytest.MarkDecorator:
    """Skip, visibly, where the machine does not have the broker."""
    missing = {
        "mosquitto": MOSQUITTO is None,
        "nats": NATS is None,
        "rabbitmq": RABBITMQ is None or EPMD is None,
    }
    name = kind.partition("-")[0]
    return pytest.mark.skipif(missing.get(name, False), reason=f"{name} is not installed: it is not tried")


class BrokerProcess:
    """One broker that can be killed and started again on its port."""

    def __init__(self, command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> None:
        self.port = port
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        await self.launch()
        await self.listens()

    async def launch(self) -> None:
        """Start the process and don't wait for it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=None if self._environment is None else {**os.environ, **self._environment},
            start_new_session=True,
        )

    async def listens(self) -> None:
        """Wait until it takes connections."""
        assert self._process is not None
        async with asyncio.timeout(START_S):
            while True:
                assert self._process.returncode is None, f"{self._command[0]} has ended"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    async def kill(self) -> None:
        """End it and its children as a power cut does."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def terminate(self) -> int:
        """End it in good order and tell its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await self._process.wait()


@asynccontextmanager
async def broker_process(kind: str, folder: Path) -> AsyncIterator[BrokerProcess]:
    """``amqtt`` (ours), ``mosquitto``, ``mosquitto-persistent``, ``rabbitmq`` or ``nats``, on a free port."""
    async with AsyncExitStack() as stack:
        if kind == "amqtt":
            port = free_port()
            broker = BrokerProcess([sys.executable, "-m", "drivers.sim.broker", "--port", str(port)], port)
        elif kind == "nats":
            (broker,) = nats_nodes(folder, 1)
        elif kind == "rabbitmq":
            broker = await stack.enter_async_context(_rabbitmq(folder))
        else:
            broker = mosquitto(folder, persistent=kind == "mosquitto-persistent")
        stack.push_async_callback(broker.kill)
        await broker.start()
        yield broker


def mosquitto(
    folder: Path, settings: str = "allow_anonymous true", *, persistent: bool = False, port: int = 0
) -> BrokerProcess:
    """Mosquitto with lines for its configuration file."""
    assert MOSQUITTO is not None
    port = port or free_port()
    kept = f"persistence true\npersistence_location {folder}/\n" if persistent else "persistence false\n"
    # As root it would become the user mosquitto, who can't read the test's folder.
    user = "user root\n" if os.geteuid() == 0 else ""
    path = folder / f"mosquitto-{port}.conf"
    path.write_text(f"{user}listener {port} 127.0.0.1\n{kept}max_queued_messages 0\n{settings}\n")
    return BrokerProcess([MOSQUITTO, "-c", str(path)], port)


def nats_nodes(folder: Path, number: int) -> list[BrokerProcess]:
    """The nodes of a NATS cluster with JetStream and MQTT: what they keep, each keeps."""
    assert NATS is not None
    routes = [free_port() for _ in range(number)]
    nodes = []
    for index, route in enumerate(routes):
        port, clients = free_port(), free_port()
        path = folder / f"nats-{index}.conf"
        others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
        cluster = f"cluster {{ name: c, host: 127.0.0.1, port: {route}, routes: [{others}] }}" if number > 1 else ""
        path.write_text(
            f"server_name: n{index}\nhost: 127.0.0.1\nport: {clients}\n"
            f'jetstream {{ store_dir: "{folder}/nats-{index}", max_mem: 16MB, max_file: 64MB }}\n'
            f"mqtt {{ host: 127.0.0.1, port: {port} }}\n{cluster}\n"
        )
        nodes.append(BrokerProcess([NATS, "-c", str(path)], port))
    return nodes


@asynccontextmanager
async def _rabbitmq(folder: Path) -> AsyncIterator[BrokerProcess]:
    """One RabbitMQ with its MQTT plugin, and an epmd of its own: neither knows of those of the machine."""
    assert RABBITMQ is not None
    assert EPMD is not None
    port, epmd_port = free_port(), free_port()
    home = folder / "rabbitmq"
    home.mkdir()
    (home / "plugins").write_text("[rabbitmq_mqtt].\n")
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n"
        "disk_free_limit.absolute = 1MB\nlog.file = false\nlog.console = false\n"
    )
    environment = {
        "HOME": str(home),
        "RABBITMQ_NODENAME": "enlace@localhost",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RUNNING_UNDER_SYSTEMD": "1",  # no shell between us and it
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    epmd = BrokerProcess([EPMD, "-port", str(epmd_port), "-address", "127.0.0.1"], epmd_port)
    await epmd.start()
    try:
        yield BrokerProcess([str(RABBITMQ)], port, environment)
    finally:
        await epmd.kill()
