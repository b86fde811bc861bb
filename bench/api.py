"""How fast the API answers while the gateway is at work: a whole ``enlace run`` with a battery's bus at full load.

The clients stand in this process, on the same machine: they take their share of its cores. Latency counts from when a
request was due, not from when it was sent, so that a slow answer is not forgiven those that wait behind it.
"""

import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.api.users import Role, UserBook
from bench.reaction import GROUP, LOAD_FRAMES_S, ROOT, _free_port, _loaded

PATH = "/api/devices/battery1/latest"
#: A full bus of 1 Mbit/s with 8 bytes in each frame.
FULL_FRAMES_S = 9000
CLIENTS = 16
RATE_S = 300
PACED_S, FREE_S = 15.0, 8.0
P95_TARGET_MS, ERRORS_TARGET_PCT, MEMORY_TARGET_MB, FREE_TARGET_S = 20.0, 0.1, 150.0, 1000.0
START_S = 60.0

SITE = """\
data_dir: {folder}/data
site: {{id: bench}}
api: {{listen: "127.0.0.1:0"}}
devices:
  - {{id: battery1, driver: can, interface: udp_multicast, channel: {group}, options: {{hop_limit: 0, port: {bus}}},
     profile: demo_pack}}
"""


@dataclass
class Measured:
    """Seconds from when each request was due to the end of its answer, and how many failed."""

    took_s: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def failed_pct(self) -> float:
        """Of all."""
        return 100 * self.failed / max(1, self.failed + len(self.took_s))


@dataclass(frozen=True)
class Running:
    """A gateway that runs."""

    host: str
    port: int
    pid: int
    token: str

    @property
    def request(self) -> bytes:
        """One request."""
        head = f"GET {PATH} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        return head.encode()

    @property
    def cpu_s(self) -> float:
        """Processor time that it took since its start; proc(5): the 14th and 15th field of stat."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        """What it has resident now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Print latency and errors at the target's rate, the highest rate, and the memory after all that."""
    bus = _free_port()
    with tempfile.TemporaryDirectory(prefix="enlace-bench-") as folder, _gateway(Path(folder), bus) as running:
        for load in (0, LOAD_FRAMES_S, FULL_FRAMES_S):
            with _loaded(bus, load):
                paced = asyncio.run(_paced(running))
                before_s = running.cpu_s
                free = asyncio.run(_free(running))
                cpu_s = running.cpu_s - before_s
            p50, p95 = statistics.median(paced.took_s) * 1000, statistics.quantiles(paced.took_s, n=100)[94] * 1000
            rate = len(free.took_s) / FREE_S
            print(
                f"GET …/latest at {RATE_S} req/s, {load} CAN frames/s: p50 {p50:.1f} ms, p95 {p95:.1f} ms "
                f"({p95 / P95_TARGET_MS:.2f} of the target), errors {paced.failed_pct:.3f} % "
                f"({paced.failed_pct / ERRORS_TARGET_PCT:.2f}); target < {P95_TARGET_MS:g} ms, < {ERRORS_TARGET_PCT} %"
            )
            print(
                f"as fast as {CLIENTS} clients can, {load} CAN frames/s: {rate:.0f} req/s "
                f"({rate / FREE_TARGET_S:.2f} of the target), errors {free.failed_pct:.3f} %, "
                f"{100 * cpu_s / FREE_S:.0f} % of a core, {1000 * cpu_s / len(free.took_s):.2f} ms of it each; "
                f"target > {FREE_TARGET_S:g} req/s",
                flush=True,
            )
        memory_mb = running.memory_mb
        ratio = memory_mb / MEMORY_TARGET_MB
        print(f"memory of the gateway: {memory_mb:.0f} MB ({ratio:.2f} of the target) target < {MEMORY_TARGET_MB:g} MB")


async def _paced(running: Running) -> Measured:
    """So many a second, spread over the clients."""
    measured = Measured()
    began_s = time.monotonic()
    total = round(RATE_S * PACED_S)

    async def client(number: int) -> None:
        async with _connected(running) as (reader, writer):
            for turn in range(number, total, CLIENTS):
                due_s = began_s + turn / RATE_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                await _ask(running, reader, writer, measured, due_s)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return measured


async def _free(running: Running) -> Measured:
    """One after the other, as fast as they are answered."""
    measured = Measured()
    end_s = time.monotonic() + FREE_S

    async def client() -> None:
        async with _connected(running) as (reader, writer):
            while (now_s := time.monotonic()) < end_s:
                await _ask(running, reader, writer, measured, now_s)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return measured


@contextlib.asynccontextmanager
async def _connected(running: Running):  # type: ignore[no-untyped-def] # noqa: ANN202 - the two ends of a stream
    reader, writer = await asyncio.open_connection(running.host, running.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _ask(
    running: Running, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, measured: Measured, due_s: float
) -> None:
    writer.write(running.request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    if head.startswith(b"HTTP/1.1 200 "):
        measured.took_s.append(time.monotonic() - due_s)
    else:
        measured.failed += 1


@contextlib.contextmanager
def _gateway(folder: Path, bus: int) -> Iterator[Running]:
    (folder / "data").mkdir()
    book = UserBook(folder / "data")
    book.add("bench", Role.ADMIN, "no password is this hash")
    token = book.add_token("bench", "bench", 0)
    config, log = folder / "site.yaml", folder / "run.log"
    config.write_text(SITE.format(folder=folder, group=GROUP, bus=bus))
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)
        try:
            host, port = _address(log)
            yield Running(host, port, process.pid, token)
        finally:
            process.terminate()
            process.wait(30)


def _address(log: Path) -> tuple[str, int]:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        found = re.search(r"api: http://([\d.]+):(\d+)", log.read_text())
        if found:
            return found[1], int(found[2])
        time.sleep(0.1)
    raise RuntimeError("the gateway does not come up: " + log.read_text()[-2000:])


if __name__ == "__main__":
    main()
