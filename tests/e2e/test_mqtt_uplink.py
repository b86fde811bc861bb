"""Outbox to subscriber through real brokers, our own and Mosquitto: equal values, outages, the will."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.core.model import Event, Number
from cloud_sync.mqtt import MAX_IN_FLIGHT
from cloud_sync.settings import UplinkSettings
from cloud_sync.subscriber import Catalog, State
from cloud_sync.uplink import Uplink
from cloud_sync.watch import Bad, Gap, Repeated
from tests.e2e.brokers import MOSQUITTO, ROOT, broker_process
from tests.e2e.proxy import proxy_to
from tests.e2e.subscriber import QuickClock, Subscriber, running, until
from tests.unit.uplink_fakes import BOOT, SIGNALS, MemoryOutbox, block, event

BROKERS = [
    pytest.param("amqtt", id="amqtt-3.1.1"),
    pytest.param(
        "mosquitto", id="mosquitto-5", marks=pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
    ),
]
BY_ID = {signal.id: signal for signal in SIGNALS}


def uplink(url: str, outbox: MemoryOutbox, payload: str = "json", reports: list[Event] | None = None) -> Uplink:
    settings = UplinkSettings(url, site="depot-7", payload=payload)
    report = (reports if reports is not None else []).append
    return Uplink(settings, outbox, QuickClock(), report, boot=BOOT, version="1.0")


def expected_rows(*numbers: int) -> set[tuple[int, int, Number | None]]:
    rows = set()
    for seq in numbers:
        for id_, signal in BY_ID.items():
            for index in range(5):
                word = seq + index
                value: Number | None = seq + index / 7 if id_ == 5 else signal.physical(word)
                t_us = 1_700_000_000_000_000 + seq * 1_000_000 + index * 100_000
                rows.add((id_, t_us, None if id_ == 2 and index == 4 else value))
    return rows


@pytest.mark.parametrize("payload", ["json", "blocks"])
@pytest.mark.parametrize("kind", BROKERS)
def test_values_are_equal_from_end_to_end(kind: str, payload: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process(kind, tmp_path) as broker:
            outbox = MemoryOutbox()
            outbox.add(*[block(seq) for seq in range(1, 51)], *[event(seq) for seq in range(1, 6)])
            subscriber, sender = Subscriber(broker.url), uplink(broker.url, outbox, payload)
            async with running(subscriber):
                await subscriber.ready.wait()
                async with running(sender):
                    await until(lambda: len(subscriber.seqs()) == 50 and len(subscriber.events()) == 5)
                    outbox.add(block(51), event(6))
                    await until(lambda: len(subscriber.seqs()) == 51 and len(subscriber.events()) == 6)
                    assert sender.status().protocol == ("5" if kind == "mosquitto" else "3.1.1")
                await until(lambda: subscriber.states()[-1:] == [False])
            assert sorted(subscriber.seqs()) == list(range(1, 52))
            assert len(subscriber.rows) == 51 * 25
            assert set(subscriber.rows) == expected_rows(*range(1, 52))
            assert subscriber.events() == list(range(1, 7))
            assert not subscriber.of(Gap) + subscriber.of(Repeated) + subscriber.of(Bad)
            assert outbox.cursors == {"telemetry": 51, "event": 6}
            (catalog,) = subscriber.of(Catalog)
            assert isinstance(catalog, Catalog)
            assert catalog.signals == BY_ID

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@pytest.mark.parametrize("kind", BROKERS)
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(kind: str, tmp_path: Path) -> None:
    """The broker keeps nothing on disk, so the uplink is let in only after the central server has subscribed again.

    What it had acknowledged and not yet delivered died with it; everything else must come.
    """

    async def scenario() -> None:
        async with broker_process(kind, tmp_path) as broker, proxy_to(broker.port) as proxy:
            outbox = MemoryOutbox()
            sender, subscriber = uplink(f"mqtt://127.0.0.1:{proxy.port}", outbox), Subscriber(broker.url)
            async with running(subscriber):
                await subscriber.ready.wait()
                async with running(sender):
                    for seq in range(1, 41):
                        outbox.add(block(seq))
                        if seq == 20:
                            await until(lambda: len(subscriber.seqs()) > 5)
                            proxy.refuse = True
                            await broker.kill()
                        await asyncio.sleep(0.005)
                    await until(lambda: not sender.status().connected)
                    acked = sender.status().streams["telemetry"].acked
                    assert 5 < acked <= 20
                    subscriber.ready.clear()
                    await broker.start()
                    await subscriber.ready.wait()
                    proxy.refuse = False
                    await until(lambda: sender.status().streams["telemetry"].acked == 40)
                    await until(lambda: 40 in subscriber.seqs())
            gaps = [gap for gap in subscriber.of(Gap) if isinstance(gap, Gap)]
            lost = {seq for gap in gaps for seq in range(gap.first_seq, gap.seq + 1)}
            assert all(seq <= acked for seq in lost), "lost though the broker had not acknowledged it"
            assert set(subscriber.seqs()) | lost == set(range(1, 41))
            assert {item.seq for item in subscriber.of(Repeated) if isinstance(item, Repeated)} <= set(
                subscriber.seqs()
            )
            assert len(subscriber.rows) == len(set(subscriber.rows)) == 25 * len(subscriber.seqs())

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@pytest.mark.parametrize("payload", ["json", "blocks"])
def test_a_network_that_is_cut_again_and_again_loses_and_repeats_nothing(payload: str, tmp_path: Path) -> None:
    """Here the broker lives, so that every record must come, and a repeat must carry the number that it had."""

    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker, proxy_to(broker.port) as proxy:
            outbox = MemoryOutbox()
            subscriber, sender = Subscriber(broker.url), uplink(f"mqtt://127.0.0.1:{proxy.port}", outbox, payload)
            async with running(subscriber):
                await subscriber.ready.wait()
                async with running(sender):
                    for seq in range(1, 201):
                        outbox.add(block(seq))
                        if seq % 10 == 0:
                            outbox.add(event(seq))
                        if seq % 50 == 10:
                            proxy.mute = True  # PUBACKs are lost from here on
                        if seq % 50 == 20:
                            proxy.cut()
                            proxy.mute = False
                        await asyncio.sleep(0.01)
                    await until(lambda: sender.status().streams["telemetry"].acked == 200)
                    await until(lambda: 200 in subscriber.seqs() and 200 in subscriber.events())
                    assert sender.status().connections >= 2
            assert sorted(subscriber.seqs()) == list(range(1, 201))
            assert set(subscriber.rows) == expected_rows(*range(1, 201))
            assert len(subscriber.rows) == 200 * 25
            assert sorted(subscriber.events()) == list(range(10, 201, 10))
            assert subscriber.of(Repeated), "the PUBACKs were not lost: the test shows nothing"
            assert not [gap for gap in subscriber.of(Gap) if isinstance(gap, Gap) and gap.stream == "telemetry"]

    asyncio.run(scenario())


@pytest.mark.announced_warnings
@pytest.mark.parametrize("kind", BROKERS)
def test_the_will_tells_when_the_site_vanishes(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process(kind, tmp_path) as broker, proxy_to(broker.port) as proxy:
            subscriber, sender = Subscriber(broker.url), uplink(f"mqtt://127.0.0.1:{proxy.port}", MemoryOutbox())
            async with running(subscriber):
                await subscriber.ready.wait()
                async with running(sender):
                    await until(lambda: subscriber.states() == [True])
                    proxy.refuse = True
                    proxy.cut()
                    await until(lambda: subscriber.states() == [True, False])
                    assert [item.since_us for item in subscriber.of(State) if isinstance(item, State)][-1] is None
                    late = Subscriber(broker.url, "depot-7")
                    proxy.refuse = False
                    await until(lambda: subscriber.states() == [True, False, True])
            async with running(late):
                await until(lambda: late.states() == [False])

    asyncio.run(scenario())


@pytest.mark.announced_warnings
def test_a_slow_line_is_only_slow(tmp_path: Path) -> None:
    """Trial D10 in short: the window stays small, and what is queued stays in the outbox."""

    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker, proxy_to(broker.port) as proxy:
            proxy.bytes_per_s = 20_000
            outbox = MemoryOutbox()
            outbox.add(*[block(seq) for seq in range(1, 151)])
            sender = uplink(f"mqtt://127.0.0.1:{proxy.port}", outbox)
            async with running(sender):
                await until(lambda: sender.status().streams["telemetry"].acked > 10)
                assert sender.status().connections == 1
                link = sender._link.stats
                assert link.published - link.acknowledged <= MAX_IN_FLIGHT
                proxy.bytes_per_s = 0
                await until(lambda: sender.status().streams["telemetry"].acked == 150)
                assert sender.status().connections == 1

    asyncio.run(scenario())


def test_the_watch_command_prints_every_value_as_json(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker:
            outbox = MemoryOutbox()
            outbox.add(block(1), block(2), event(1))
            watcher = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cloud_sync.watch", "--broker", broker.url, "--site", "depot-7"),
                *("--format", "jsonl"),
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert watcher.stdout is not None
            try:
                async with running(uplink(broker.url, outbox)):
                    entries: list[dict[str, object]] = []
                    async with asyncio.timeout(60):
                        # Whatever was sent before it had subscribed it can't know: newer blocks come until it has.
                        while not any("value" in entry for entry in entries):
                            outbox.add(block(outbox.newest("telemetry") + 1))
                            try:
                                line = await asyncio.wait_for(watcher.stdout.readline(), 0.3)
                            except TimeoutError:
                                continue
                            entries.append(json.loads(line))
                async with asyncio.timeout(60):
                    while entries[-1].get("online") is not False:
                        entries.append(json.loads(await watcher.stdout.readline()))
                watcher.terminate()
                out, err = await watcher.communicate()
            finally:
                if watcher.returncode is None:
                    watcher.kill()
                    await watcher.wait()
            entries += [json.loads(line) for line in out.splitlines()]
            assert watcher.returncode == 0, err.decode()
            values = [entry for entry in entries if "value" in entry]
            assert len(values) % 25 == 0
            first = values[0]
            assert (first["signal"], first["unit"], first["site"]) == ("battery1.voltage_v", "V", "depot-7")
            assert {entry["online"] for entry in entries if "online" in entry} == {True, False}

    asyncio.run(scenario())


def test_the_watch_command_refuses_a_wrong_address() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cloud_sync.watch", "--broker", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 2
    assert "is no broker's address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.announced_warnings
def test_the_embedded_broker_ends_in_good_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with broker_process("amqtt", tmp_path) as broker:
            subscriber = Subscriber(broker.url)
            task = asyncio.ensure_future(subscriber.run())
            await subscriber.ready.wait()
            assert await broker.terminate() == 0
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
