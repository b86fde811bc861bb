"""The uplink against every fault on the way to the broker: trials D8 to D12, D17 and D18, each in short and in full.

The full ones are marked long. Figures are printed (``pytest -rP``), not asserted: they are the machine's.
"""

import asyncio
import gc
import logging
import os
import statistics
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.app import Gateway
from agent.config import load_config
from agent.core.clock import SystemClock
from agent.core.model import Event
from agent.overview import Overview
from cloud_sync.link import TAKEN_OVER_BACKOFF_S, MqttLink
from cloud_sync.mqtt import LEAVE_BEHIND_S, MAX_IN_FLIGHT, Session
from cloud_sync.mqtt_wire import LOOP_S, paho_keepalive_s
from cloud_sync.settings import LinkSettings, UplinkSettings
from cloud_sync.uplink import Uplink
from drivers.sim.broker import broker
from tests.e2e.brokers import broker_process, needs
from tests.e2e.central_stub import SITE, Central
from tests.e2e.proxy import proxy_to
from tests.e2e.scripted_broker import Script, scripted_broker
from tests.e2e.subscriber import QuickClock, running, until
from tests.unit.uplink_fakes import BOOT, MemoryOutbox, block, event

FULL = pytest.mark.long


class HurriedClock(SystemClock):
    """The real clock, but a back-off is noted and not waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep_s(self, seconds: float) -> None:
        if seconds != LEAVE_BEHIND_S:
            self.waits.append(seconds)
            seconds = 0
        await asyncio.sleep(seconds)


class FastClock(SystemClock):
    """Time runs ``TIMES`` as fast."""

    TIMES = 40

    def monotonic_s(self) -> float:
        return super().monotonic_s() * self.TIMES

    async def sleep_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.TIMES)


def uplink(
    url: str, outbox: MemoryOutbox, reports: list[Event] | None = None, *, clock: SystemClock | None = None, **more: int
) -> Uplink:
    settings = UplinkSettings(url, site=SITE, **more)  # type: ignore[arg-type]
    told = [] if reports is None else reports
    return Uplink(settings, outbox, clock or QuickClock(), told.append, boot=BOOT, version="1.0")


def tell(figure: str) -> None:
    print(figure)  # noqa: T201 - the figure of the trial


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# D8: the broker is away.


@pytest.mark.announced_warnings
@needs("mosquitto")
@pytest.mark.parametrize("hours", [24, pytest.param(72, marks=FULL)])
def test_d8_after_an_outage_the_backlog_drains_beside_live_data(hours: int, tmp_path: Path) -> None:
    """A block a minute piled up; when the broker is back, live blocks come five a second and none waits for it."""

    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as process:
            outbox, backlog = MemoryOutbox(), hours * 60
            outbox.add(*[block(seq) for seq in range(1, backlog + 1)], event(1))
            central, sender = Central(process.url), uplink(process.url, outbox)
            late: list[float] = []
            async with running(central):
                await central.ready.wait()
                began_s = time.perf_counter()
                async with running(sender):
                    await until(lambda: bool(central.rows))
                    while len(late) < 5 or len(central.rows) < backlog:
                        outbox.add(block(outbox.newest("telemetry") + 1))
                        newest, at_s = outbox.newest("telemetry"), time.perf_counter()
                        await until(lambda newest=newest: newest in central.rows)  # type: ignore[misc]
                        late.append(time.perf_counter() - at_s)
                        if not late[1:]:
                            assert len(central.rows) < backlog, "the live one waited for the backlog"
                        await asyncio.sleep(0.2)
                    took_s = time.perf_counter() - began_s
                    await until(lambda: outbox.cursors["telemetry"] == outbox.newest("telemetry"))
                    await until(lambda: outbox.cursors["event"] == 1)
            assert sorted(central.rows) == list(range(1, outbox.newest("telemetry") + 1))
            worst = statistics.quantiles(late, n=20)[-1]
            tell(f"D8: {hours} h of blocks drained in {took_s:.1f} s; live latency p95 {worst * 1000:.0f} ms")

    asyncio.run(scenario())


# D9: a half-open connection.


def test_d9_a_dead_link_is_found_within_one_and_a_half_keep_alives_whatever_its_length() -> None:
    for keepalive_s in range(5, 3601):
        assert 2 * paho_keepalive_s(keepalive_s) + 2 * LOOP_S <= 1.5 * keepalive_s


@pytest.mark.announced_warnings
@pytest.mark.parametrize("keepalive_s", [5, pytest.param(30, marks=FULL)])
@pytest.mark.parametrize("busy", [False, True])
def test_d9_half_open(keepalive_s: int, busy: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case
    """Nothing comes back and nobody closes, while nothing is said, or while data goes out."""

    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as process, proxy_to(process.port) as proxy:
            outbox = MemoryOutbox()
            central = Central(process.url, ack=False)
            sender = uplink(f"mqtt://127.0.0.1:{proxy.port}", outbox, keepalive_s=keepalive_s)
            async with running(central):
                await central.ready.wait()
                async with running(sender):
                    outbox.add(block(1))
                    await until(lambda: outbox.cursors["telemetry"] == 1)
                    proxy.frozen, began_s = True, time.perf_counter()
                    feeding = asyncio.ensure_future(_feed(outbox, 2, 30 if busy else 0))
                    await until(lambda: not sender.status().connected, 60 + 4 * keepalive_s)
                    took_s = time.perf_counter() - began_s
                    assert f"no answer to a ping within {keepalive_s} s" in sender.status().last_error
                    proxy.frozen = False
                    await feeding
                    await until(lambda: outbox.cursors["telemetry"] == outbox.newest("telemetry"))
            assert sorted(central.rows) == list(range(1, outbox.newest("telemetry") + 1))
            tell(f"D9: keep-alive {keepalive_s} s, found after {took_s:.1f} s = {took_s / keepalive_s:.2f} of it")

    asyncio.run(scenario())


async def _feed(outbox: MemoryOutbox, first: int, number: int, pause_s: float = 0.1) -> None:
    for seq in range(first, first + number):
        outbox.add(block(seq))
        await asyncio.sleep(pause_s)


# D10: a slow broker.


class Sampler:
    """Stands for all else that runs: gives a block each 20 ms and sees how late it is."""

    def __init__(self, outbox: MemoryOutbox) -> None:
        self.worst_s = 0.0
        self._outbox = outbox

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(0.02)
            self.worst_s = max(self.worst_s, time.perf_counter() - began_s - 0.02)
            self._outbox.add(block(self._outbox.newest("telemetry") + 1))


@pytest.mark.announced_warnings
@pytest.mark.parametrize("seconds", [3, pytest.param(180, marks=FULL)])
def test_d10_a_line_of_1_kb_a_second(seconds: int, tmp_path: Path) -> None:
    """More is read than sent: what waits stays in the outbox, and memory does not grow with it."""

    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as process, proxy_to(process.port) as proxy:
            outbox = MemoryOutbox()
            central, sampler = Central(process.url, ack=False), Sampler(outbox)
            sender = uplink(f"mqtt://127.0.0.1:{proxy.port}", outbox, keepalive_s=5)
            async with running(central):
                await central.ready.wait()
                async with running(sender):
                    await until(lambda: sender.status().connected)
                    outbox.add(*[block(seq) for seq in range(1, 801)])
                    await until(lambda: outbox.cursors["telemetry"] > 0)
                    before = resident_bytes()
                    proxy.bytes_per_s = 1000
                    async with sampler.at_work():
                        await asyncio.sleep(seconds)
                        stats = sender._link.stats
                        assert (
                            stats.published - stats.acknowledged <= MAX_IN_FLIGHT + 4 * stats.failures * MAX_IN_FLIGHT
                        )
                        grown = resident_bytes() - before
                    assert sender.status().streams["telemetry"].backlog > 0
                    proxy.bytes_per_s = 0
                    await until(lambda: outbox.cursors["telemetry"] == outbox.newest("telemetry"), 60)
            assert sorted(central.rows) == list(range(1, outbox.newest("telemetry") + 1))
            assert central.changed == []
            assert grown < 20e6
            tell(
                f"D10: {seconds} s at 1 kB/s: {grown / 1e6:+.1f} MB, sampling {sampler.worst_s * 1000:.0f} ms late,"
                f" {sender.status().failures} connections ended, {central.repeats['telemetry']} records repeated"
            )

    asyncio.run(scenario())


@pytest.mark.parametrize("delay_s", [1, pytest.param(60, marks=FULL)])
def test_d10_pubacks_that_come_late_end_no_connection(delay_s: float) -> None:
    async def scenario() -> None:
        script = Script(puback_delay_s=delay_s)
        async with scripted_broker(script) as port:
            outbox = MemoryOutbox()
            sender, sampler = uplink(f"mqtt://127.0.0.1:{port}", outbox, keepalive_s=5), Sampler(outbox)
            before = resident_bytes()
            async with running(sender), sampler.at_work():
                await until(lambda: outbox.cursors["telemetry"] > 0, 4 * delay_s + 10)
                assert sender.status().failures == 0
                assert script.max_unacked <= MAX_IN_FLIGHT
                grown = resident_bytes() - before
            assert grown < 20e6
            tell(f"D10: PUBACK after {delay_s} s: {grown / 1e6:+.1f} MB, {sampler.worst_s * 1000:.0f} ms late")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(Script(connack=b"\x00\x00\x03\x21\x00\x01", puback_delay_s=0.005), id="receive maximum 1"),
        pytest.param(Script(pubacks=3, unknown_pubacks=True), id="repeated and unknown PUBACKs"),
    ],
)
def test_d10_strange_pubacks_change_nothing(script: Script) -> None:
    async def scenario() -> None:
        async with scripted_broker(script) as port:
            outbox = MemoryOutbox()
            outbox.add(*[block(seq) for seq in range(1, 101)], *[event(seq) for seq in range(1, 101)])
            sender = uplink(f"mqtt://127.0.0.1:{port}", outbox)
            async with running(sender):
                await until(lambda: outbox.cursors == {"telemetry": 100, "event": 100})
                assert sender.status().failures == 0
                sent = [topic.rpartition("/")[2] for topic, _ in script.published]
                assert sent.count("telemetry") == sent.count("event") == 100
                if script.puback_delay_s:
                    assert script.max_unacked == 1

    asyncio.run(scenario())


# D11: two clients of one name.


@pytest.mark.announced_warnings
@needs("mosquitto")
@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("minutes", [4, pytest.param(60, marks=FULL)])
def test_d11_two_gateways_of_one_name_do_not_throw_each_other_out_for_ever(
    version: str, minutes: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each connects once in 30 s at most, after five tries at first: this broker does not tell the cause.

    One of them at least says so: the other's connections last a minute where the first comes back late.
    """

    async def scenario() -> None:
        async with broker_process("mosquitto", tmp_path) as process, proxy_to(process.port) as proxy:
            proxy.no_version5 = version == "3.1.1"
            clock = FastClock()
            twins = [uplink(f"mqtt://127.0.0.1:{proxy.port}", MemoryOutbox(), clock=clock) for _ in range(2)]
            began_s = clock.monotonic_s()
            async with running(*twins):
                await until(lambda: clock.monotonic_s() - began_s > minutes * 60, minutes * 60)
                passed_s = clock.monotonic_s() - began_s
                assert any(twin.status().duplicate for twin in twins)
            for twin in twins:
                status = twin.status()
                assert 2 < status.connections <= passed_s / TAKEN_OVER_BACKOFF_S + 7
            made = [twin.status().connections for twin in twins]
            tell(f"D11: MQTT {version}: {made} connections in {passed_s:.0f} s")

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert "does another client call itself" in caplog.text


# D12: a broker that refuses.


@pytest.mark.announced_warnings
@pytest.mark.parametrize("times", [200, pytest.param(10_000, marks=FULL)])
def test_d12_refused_again_and_again(times: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        script = Script(connack=b"\x00\x05")  # not authorized, to both versions
        async with scripted_broker(script) as port:
            clock = HurriedClock()
            link = MqttLink(LinkSettings(f"mqtt://127.0.0.1:{port}", "test"), clock, jitter=lambda: 0.0)
            served = asyncio.Event()

            async def serve(_session: Session) -> None:
                served.set()

            task = asyncio.ensure_future(link.run(serve))
            await until(lambda: len(script.connects) > 20)
            gc.collect()
            files, threads = open_files(), threading.active_count()
            before, used_s = len(script.connects), time.process_time()
            await until(lambda: len(script.connects) > times, times / 50 + 60)
            each_s = (time.process_time() - used_s) / (len(script.connects) - before)
            gc.collect()
            assert open_files() <= files + 6
            assert threading.active_count() <= threads + 2
            script.connack = b"\x00\x00"
            await asyncio.wait_for(served.wait(), 60)
            await task
            lines = [record.levelno for record in caplog.records if record.name.startswith("cloud_sync")]
            assert lines == [logging.WARNING, logging.INFO]
            least_s = min(clock.waits[8:])
            tell(f"D12: {times} refusals, {each_s * 1000:.1f} ms of CPU each, so {each_s / least_s:.3%} of a core")

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())


# D17: a record that the server never takes.


@pytest.mark.announced_warnings
@pytest.mark.parametrize("version", [4, 5])
def test_d17_a_poisonous_record_is_set_aside_after_five_tries_and_the_queue_goes_on(version: int) -> None:
    """With MQTT 5 the broker refuses it; with 3.1.1 it closes the connection, whatever else is on its way."""

    async def scenario() -> None:
        script = Script(poison=b'"seq":13,', versions=(version,))
        async with scripted_broker(script) as port:
            outbox, reports = MemoryOutbox(), list[Event]()
            outbox.add(*[block(seq) for seq in range(1, 31)])
            sender = uplink(f"mqtt://127.0.0.1:{port}", outbox, reports)
            async with running(sender):
                await until(lambda: outbox.cursors["telemetry"] == 30)
                assert sender.status().streams["telemetry"].set_aside == 1
            tries = [payload for topic, payload in script.published if topic.endswith("telemetry")]
            assert sum(script.poison in payload for payload in tries) == 5
            (report,) = reports
            assert (report.kind, report.subject, report.data["seq"]) == ("uplink.set_aside", "telemetry", 13)

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_d17_a_topic_that_we_may_not_write_to_makes_no_record_a_poisonous_one() -> None:
    """A broker of MQTT 3.1.1 with a narrow access list closes the connection on each of them."""

    async def scenario() -> None:
        script = Script(poison=b'"first_seq":', versions=(4,))
        async with scripted_broker(script) as port:
            outbox, reports = MemoryOutbox(), list[Event]()
            outbox.add(*[block(seq) for seq in range(1, 31)])
            sender = uplink(f"mqtt://127.0.0.1:{port}", outbox, reports, clock=FastClock())
            async with running(sender):
                await until(lambda: sender.status().connections > 10)
                assert sender.status().streams["telemetry"].set_aside == 0
                script.poison = b"nothing any more"
                await until(lambda: outbox.cursors["telemetry"] == 30)
            assert reports == []

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_d17_a_catalogue_that_a_broker_closes_on_holds_no_values_back() -> None:
    """As one of more than a megabyte at NATS."""

    async def scenario() -> None:
        script = Script(poison=b'"signals":', versions=(4,))
        async with scripted_broker(script) as port:
            outbox, reports = MemoryOutbox(), list[Event]()
            outbox.add(*[block(seq) for seq in range(1, 31)])
            sender = uplink(f"mqtt://127.0.0.1:{port}", outbox, reports, clock=FastClock())
            async with running(sender):
                await until(lambda: outbox.cursors["telemetry"] == 30)
            assert {report.kind for report in reports} == {"uplink.catalog_refused"}

    asyncio.run(scenario())


# D18: a hundred configurations.


def _is_another(view: Overview, before: Uplink | None) -> bool:
    return view.uplink is not None and view.uplink is not before and view.uplink.status().connected


@pytest.mark.announced_warnings
@pytest.mark.parametrize("times", [4, pytest.param(100, marks=FULL)])
def test_d18_configurations_and_reconnects_leave_the_store_the_same(times: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker() as port:
            path = tmp_path / "site.yaml"

            def write(number: int) -> None:
                uplink = f'{{broker: "mqtt://127.0.0.1:{port}", keepalive_s: {30 + number % 2}}}'
                path.write_text(
                    f'data_dir: {tmp_path}/data\nsite: {{id: test}}\napi: {{listen: "127.0.0.1:0"}}\nuplink: {uplink}\n'
                )

            write(0)
            gateway = Gateway(load_config(path), QuickClock(), path)
            async with gateway.running():
                view = gateway.overview
                assert view is not None
                await until(partial(_is_another, view, None))
                store, before, files, threads = view._store, view.uplink, 0, 0
                for number in range(1, times + 1):
                    write(number)
                    await until(partial(_is_another, view, before))
                    before = view.uplink
                    assert view._store is store
                    assert gateway.overview is view
                    if number == times // 2:
                        gc.collect()
                        files, threads = open_files(), threading.active_count()
                gc.collect()
                assert open_files() <= files + 8
                assert threading.active_count() <= threads + 4
                assert sum(isinstance(one, Uplink) for one in gc.get_objects()) <= 2
                assert store.stats().error is None
                tell(f"D18: {times} configurations, {files} to {open_files()} files, {threads} threads")

    asyncio.run(scenario())
