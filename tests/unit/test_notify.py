"""Who is told of what, and when: the notifier over a clock that stands, with a server that is a function."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import CommandRejected
from agent.core.model import Event
from cloud_sync.notify.channel import MAX_ADDRESSES
from cloud_sync.notify.news import MAX_AGE_S, MAX_WAITING, News, Waiting, compose, news_of
from cloud_sync.notify.notifier import ChannelSettings, Notifier
from cloud_sync.notify.send import Message, redact, service

P = ParamSpec("P")
T0_US = 1_700_000_000_000_000
ONE = "json://one.example/key1"
TWO = "mailto://ana:secret@two.example"


def raised(alarm: str, severity: str = "warning", **data: object) -> Event:
    return Event("alarm.raised", T0_US, alarm, {"severity": severity, "text": f"{alarm} is bad", **data})


def cleared(alarm: str, severity: str = "warning", **data: object) -> Event:
    return Event("alarm.cleared", T0_US + 60_000_000, alarm, {"severity": severity, **data})


def in_loop(scenario: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    @functools.wraps(scenario)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(scenario(*args, **kwargs))

    return test


class Rig:
    """A notifier whose servers take all but what ``broken`` names, and hang for addresses of ``hanging``."""

    def __init__(self, folder: Path, *channels: ChannelSettings, addresses: str = ONE) -> None:
        self.clock = FakeClock(T0_US)
        self.file = folder / "ops.url"
        self.file.write_text(addresses)
        self.ledger: list[Event] = []
        self.sent: list[tuple[float, str, Message]] = []
        self.tries = 0
        self.broken: dict[str, str] = {}
        self.hanging: dict[str, asyncio.Event] = {}
        self.channels = channels or (ChannelSettings("ops", self.file),)
        self.notifier = Notifier(self.channels, self.clock, self.ledger.append, "Depot 7", send=self.send)
        self.began_s = self.clock.monotonic_s()

    async def send(self, address: str, message: Message) -> str:
        self.tries += 1
        if address in self.hanging:
            await self.hanging[address].wait()
        if address in self.broken:
            return self.broken[address]
        self.sent.append((self.clock.monotonic_s() - self.began_s, address, message))
        return ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.notifier.run())
        await self.rest()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def rest(self) -> None:
        """Until the notifier sleeps again, with nothing left to do."""
        async with asyncio.timeout(60):
            still = 0
            while still < 5:
                await asyncio.sleep(0)
                asleep = any(not future.done() for _, _, future in self.clock._sleepers)
                still = still + 1 if asleep and not self.notifier._wake.is_set() else 0

    async def hear(self, *events: Event) -> None:
        for event in events:
            self.notifier.hear(event)
        await self.rest()

    async def go(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.clock.advance(1)
            await self.rest()

    def titles(self, address: str = ONE) -> list[str]:
        return [message.title for _, one, message in self.sent if one == address]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.ledger]


@in_loop
async def test_an_alarm_is_told_once_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.notifier.apply(rig.channels, "Depot 7", "Europe/Berlin")
    event = raised("hot", "critical", device="battery1", why="battery1.temperature_max_degc 61 > 60", done=["cp1 off"])
    async with rig.running():
        await rig.hear(event)
        await rig.go(300)
    ((at_s, _, message),) = rig.sent
    assert at_s == 2
    assert message == Message(
        "Depot 7: CRITICAL hot",
        "hot is bad\nBecause battery1.temperature_max_degc 61 > 60\nDevice: battery1\nDone: cp1 off\n"
        "Since 2023-11-14 23:13:20 CET",
        "critical",
    )


@in_loop
async def test_what_comes_within_the_limit_goes_into_the_next_message(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(10)
        await rig.hear(raised("b"), raised("c"), cleared("a"))
        await rig.go(120)
    assert [at_s for at_s, _, _ in rig.sent] == [2, 62]
    assert rig.titles() == ["Depot 7: WARNING a", "Depot 7: 3 alarms: WARNING b, WARNING c, over: a"]


@in_loop
async def test_a_critical_alarm_waits_for_the_limit_of_milder_ones_5_s_at_most(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        await rig.hear(raised("mild"))
        await rig.go(2)
        await rig.hear(raised("milder"), raised("hot", "critical"))
        await rig.go(60)
    assert [at_s for at_s, _, _ in rig.sent] == [2, 7]
    assert rig.titles()[1] == "Depot 7: 2 alarms: CRITICAL hot, WARNING milder"


@in_loop
async def test_a_critical_alarm_that_flutters_is_told_at_the_rhythm_of_all(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        for _ in range(12):
            await rig.hear(raised("hot", "critical"))
            await rig.go(5)
            await rig.hear(cleared("hot", "critical"))
            await rig.go(5)
    assert [at_s for at_s, _, _ in rig.sent] == [2, 62]
    assert rig.sent[1][2].body.splitlines()[-2:] == ["Since 2023-11-14 22:13:20 UTC", "Raised 6 times"]


@pytest.mark.parametrize("mark", ["shadow", "silent"])
@in_loop
async def test_what_is_on_trial_shelved_or_suppressed_is_not_told(tmp_path: Path, mark: str) -> None:
    rig, marked = Rig(tmp_path), dict[str, Any]([(mark, True)])
    async with rig.running():
        await rig.hear(raised("a", **marked), cleared("b", **marked), Event("alarm.acknowledged", 0, "c"))
        await rig.go(120)
    assert not rig.sent


@in_loop
async def test_what_is_suppressed_before_anybody_was_told_is_not_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        await rig.hear(raised("quiet"), raised("silent", "critical"))
        await rig.hear(Event("alarm.suppressed", T0_US, "quiet", {"severity": "warning", "silent": True}))
        await rig.go(60)
    assert rig.titles() == ["Depot 7: CRITICAL silent"]


@in_loop
async def test_who_was_told_of_an_alarm_is_told_of_its_end_also_while_it_is_suppressed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ChannelSettings("ops", tmp_path / "ops.url", every_s=0))
    async with rig.running():
        await rig.hear(raised("quiet"))
        await rig.go(5)
        await rig.hear(Event("alarm.suppressed", T0_US, "quiet", {"silent": True}), cleared("quiet", silent=True))
        await rig.go(5)
        await rig.hear(cleared("quiet", silent=True), cleared("other", silent=True))
        await rig.go(5)
    assert rig.titles() == ["Depot 7: WARNING quiet", "Depot 7: over: quiet"]


@pytest.mark.parametrize("kind", ["alarm.unshelved", "alarm.unsuppressed"])
@in_loop
async def test_an_alarm_that_still_goes_on_when_its_silence_ends_is_told(tmp_path: Path, kind: str) -> None:
    rig = Rig(tmp_path)
    async with rig.running():
        for alarm, state in (("on", "unacknowledged"), ("seen", "acknowledged"), ("past", "normal")):
            await rig.hear(Event(kind, T0_US, alarm, {"severity": "warning", "state": state, "silent": False}))
        await rig.go(5)
    assert rig.titles() == ["Depot 7: WARNING on"]


@in_loop
async def test_a_channel_hears_what_is_bad_enough_or_names_it(tmp_path: Path) -> None:
    file = tmp_path / "ops.url"
    loud = tmp_path / "loud.url"
    loud.write_text(TWO)
    rig = Rig(tmp_path, ChannelSettings("ops", file, "warning"), ChannelSettings("loud", loud, "critical"))
    async with rig.running():
        await rig.hear(raised("mild", "info"), raised("mid"), raised("hot", "critical"))
        await rig.hear(raised("named", "info", notify=["loud"]), raised("unnamed", "critical", notify=[]))
        await rig.go(10)
    assert rig.titles() == ["Depot 7: 2 alarms: CRITICAL hot, WARNING mid"]
    assert rig.titles(TWO) == ["Depot 7: 2 alarms: CRITICAL hot, INFO named"]


@in_loop
async def test_a_channel_without_returns_is_not_told_that_an_alarm_is_over(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ChannelSettings("ops", tmp_path / "ops.url", returns=False))
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(5)
        await rig.hear(cleared("a"))
        await rig.go(120)
        await rig.hear(raised("b"), cleared("b"))
        await rig.go(5)
    assert rig.titles() == ["Depot 7: WARNING a", "Depot 7: WARNING b, over again"]


@pytest.mark.announced_warnings
@in_loop
async def test_without_returns_what_ended_while_it_could_not_be_sent_is_told_with_its_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ChannelSettings("ops", tmp_path / "ops.url", returns=False))
    rig.hanging[ONE] = asyncio.Event()
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(3)
        rig.broken[ONE] = "is down"
        await rig.hear(cleared("a"))
        rig.hanging.pop(ONE).set()
        await rig.rest()
        rig.broken.clear()
        await rig.go(20)
    assert rig.titles() == ["Depot 7: WARNING a, over again"]


@pytest.mark.announced_warnings
@in_loop
async def test_a_fault_is_told_at_its_edges_and_the_newest_state_is_sent_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(tmp_path)
    rig.broken[ONE] = "connection refused"
    async with rig.running():
        await rig.hear(raised("a"), raised("b"))
        await rig.go(1000)
        failing = rig.notifier.status()[0]
        await rig.hear(cleared("a"))
        rig.broken.clear()
        await rig.go(300)
    # 5, 10, 20 ... 300 s after each other: 9 tries in 1,000 s.
    assert (failing.failures, failing.waiting, failing.last_error) == (9, 2, "address 1 (json): connection refused")
    assert rig.titles() == ["Depot 7: 2 alarms: WARNING b, WARNING a, over again"]
    assert rig.kinds() == ["notify.failed", "notify.back"]
    assert rig.ledger[0].data == {"address": "address 1 (json)", "reason": "connection refused"}
    assert [record.getMessage() for record in caplog.records if record.name == "cloud_sync.notify.notifier"] == [
        "notify ops: address 1 (json): connection refused",
        "notify ops: address 1 (json) works again",
    ]
    status = rig.notifier.status()[0]
    assert (status.addresses, status.sent, status.waiting, status.last_error) == (1, 1, 0, "")


@pytest.mark.announced_warnings
@in_loop
async def test_a_critical_alarm_is_tried_soon_also_while_the_address_fails(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.broken[ONE] = "is down"
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(700)  # by now it is tried every 300 s
        rig.broken.clear()
        await rig.hear(raised("hot", "critical"))
        await rig.go(6)
    assert rig.titles() == ["Depot 7: 2 alarms: CRITICAL hot, WARNING a"]


@pytest.mark.announced_warnings
@in_loop
async def test_news_of_yesterday_are_given_up_and_counted(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.broken[ONE] = "is down"
    async with rig.running():
        await rig.hear(raised("old"))
        await rig.go(5)
        rig.clock.advance(MAX_AGE_S)
        await rig.rest()
        rig.broken.clear()
        await rig.hear(raised("new"))
        await rig.go(310)
    assert rig.titles() == ["Depot 7: 1 alarm: WARNING new"]
    assert rig.sent[0][2].body.endswith("1 older news could not be kept until they were told.")
    assert rig.notifier.status()[0].dropped == 1


@in_loop
async def test_one_address_that_hangs_does_not_keep_another_from_being_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path, addresses=f"{TWO}\n{ONE}\n")
    rig.hanging[TWO] = asyncio.Event()
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(3)
        assert rig.titles() == ["Depot 7: WARNING a"]
        await rig.hear(raised("hot", "critical"))
        await rig.go(10)
        assert rig.titles()[1:] == ["Depot 7: CRITICAL hot"]
        rig.hanging.pop(TWO).set()
        await rig.go(10)
    assert rig.titles(TWO) == ["Depot 7: WARNING a", "Depot 7: CRITICAL hot"]


@in_loop
async def test_what_was_being_sent_when_the_part_was_stopped_is_sent_when_it_runs_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.hanging[ONE] = asyncio.Event()
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(3)
        assert rig.tries == 1
    rig.hanging.clear()
    async with rig.running():
        await rig.go(60)
    assert rig.titles() == ["Depot 7: WARNING a"]


@pytest.mark.announced_warnings
@in_loop
async def test_alarms_wait_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.file.unlink()
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(60)
        assert rig.notifier.status()[0].last_error == f"{rig.file}: no such file or directory"
        rig.file.write_text(f"# ours\n\n  {ONE}\n{TWO}\n")
        await rig.go(10)
    assert rig.titles() == rig.titles(TWO) == ["Depot 7: WARNING a"]
    assert rig.kinds() == ["notify.failed", "notify.back"]


@pytest.mark.announced_warnings
@in_loop
async def test_an_address_that_is_put_right_gets_what_the_wrong_one_did_not(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.broken[ONE] = "is wrong"
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(100)
        rig.file.write_text(TWO)
        await rig.go(6)
    assert rig.titles(TWO) == ["Depot 7: WARNING a"]
    assert rig.kinds() == ["notify.failed", "notify.back"]


@pytest.mark.announced_warnings
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no address"),
        (b"# json://none\n", "holds no address"),
        (b"json://\xff\xfe", "is no text in UTF-8"),
        (
            b"".join(b"json://h/%d\n" % n for n in range(MAX_ADDRESSES + 1)),
            f"holds more than {MAX_ADDRESSES} addresses",
        ),
    ],
)
@in_loop
async def test_a_file_that_can_not_be_used_is_told_without_what_is_in_it(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    rig = Rig(tmp_path)
    rig.file.write_bytes(content)
    async with rig.running():
        await rig.go(20)
    assert [event.data["reason"] for event in rig.ledger] == [f"{rig.file}: {reason}"]


@pytest.mark.announced_warnings
@in_loop
async def test_a_test_says_which_address_does_not_work_and_one_that_works_again_is_used_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, addresses=f"{ONE}\n{TWO}")
    rig.broken[TWO] = "authentication failed"
    assert await rig.notifier.test("ops") == "address 2 (mailto): authentication failed"
    assert rig.titles() == ["Depot 7: test"]
    async with rig.running():
        await rig.hear(raised("a"))
        await rig.go(700)
        rig.broken.clear()
        assert await rig.notifier.test("ops") == ""
        await rig.go(1)
        assert rig.titles(TWO) == ["Depot 7: test", "Depot 7: WARNING a"]
    assert rig.kinds() == ["notify.failed", "notify.back"]
    rig.file.unlink()
    assert "no such file" in await rig.notifier.test("ops")
    with pytest.raises(CommandRejected, match="its channels are ops"):
        await rig.notifier.test("opps")


@in_loop
async def test_a_changed_configuration_keeps_what_waits_on_a_channel_that_stays(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.notifier.hear(raised("a"))
    rig.notifier.apply([ChannelSettings("new", rig.file), ChannelSettings("ops", rig.file)], "Depot 8")
    async with rig.running():
        await rig.go(5)
    assert rig.titles() == ["Depot 8: WARNING a"]
    rig.notifier.apply([], "Depot 8")
    assert rig.notifier.status() == []


def test_nothing_that_an_event_holds_makes_hearing_fail(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for data in ({}, {"severity": 7, "text": None, "notify": "ops", "done": 3}, {"severity": "worse", "why": ["x"]}):
        rig.notifier.hear(Event("alarm.raised", T0_US, "odd", data))
        rig.notifier.hear(Event("alarm.cleared", T0_US, "odd", data))
    rig.notifier.hear(Event("device.offline", T0_US, "cp1"))
    assert rig.notifier.status()[0].waiting == 1


def test_of_too_many_the_oldest_of_the_mildest_make_room() -> None:
    waiting = Waiting()
    waiting.add(News("hot", "critical", raised_us=1, heard_s=0), returns=True)
    for number in range(MAX_WAITING + 3):
        waiting.add(News(f"a{number}", "warning", raised_us=1, heard_s=number + 1), returns=True)
    kept = [one.alarm for one in waiting.all()]
    assert len(kept) == MAX_WAITING
    assert kept[:2] == ["hot", "a4"]
    assert waiting.dropped == 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["raise", "clear", "send", "fail"])), max_size=40))
def test_whoever_is_told_all_knows_at_the_end_which_alarms_go_on(steps: list[tuple[str, str]]) -> None:
    """Against a list of facts: whatever fails in between, the last that was told of an alarm is how it stands."""
    waiting, now, told, count = Waiting(), 0.0, dict[str, bool](), dict[str, int]()
    standing: dict[str, bool] = {}
    untold: dict[str, int] = {}

    def tell(news: list[News]) -> None:
        for one in news:
            told[one.alarm] = one.cleared_us is None
            count[one.alarm] = one.times
            assert one.times == untold.pop(one.alarm, 0)

    for alarm, step in steps:
        now += 1
        if step == "raise" and not standing.get(alarm):
            standing[alarm] = True
            untold[alarm] = untold.get(alarm, 0) + 1
            waiting.add(News(alarm, "warning", raised_us=int(now), times=1, heard_s=now), returns=True)
        elif step == "clear" and standing.get(alarm):
            standing[alarm] = False
            waiting.add(News(alarm, "warning", cleared_us=int(now), heard_s=now), returns=True)
        elif step == "send":
            tell(waiting.take(now))
        elif step == "fail":
            waiting.give_back(waiting.take(now), now)
    tell(waiting.take(now))
    assert told == standing


def test_a_long_message_names_the_worst_and_counts_the_rest() -> None:
    news = [News(f"a{number}", "warning", raised_us=T0_US, heard_s=number) for number in range(30)]
    news.append(News("hot", "critical", raised_us=T0_US, heard_s=99))
    news.append(News("past", "critical", raised_us=T0_US, cleared_us=T0_US, heard_s=99))
    message = compose(news, "Depot", ZoneInfo("UTC"), lost=2)
    assert message.title == "Depot: 32 alarms: CRITICAL hot, WARNING a0, WARNING a1, …"
    assert message.kind == "critical"
    assert message.body.endswith(
        "And 12 more: see the gateway's page.\n\n2 older news could not be kept until they were told."
    )


def test_of_one_that_is_over_and_latched_it_is_told_that_it_waits() -> None:
    """Stations stay off: "over" alone was misleading."""
    for state, waits in (("latched", True), ("normal", False)):
        news = news_of(cleared("a", state=state), 0)
        assert news is not None
        assert ("Waits for somebody" in compose([news], "depot", ZoneInfo("UTC")).body) is waits
    waiting = Waiting()
    for event in (raised("a"), cleared("a", state="latched")):
        one = news_of(event, 0)
        assert one is not None
        waiting.add(one, returns=True)
    assert waiting.all()[0].latched


def test_news_of_an_alarm_that_is_over_is_good_news() -> None:
    news = news_of(cleared("a", why="x 3 < 4"), 0)
    assert news is not None
    message = compose([news], "Depot\n", ZoneInfo("America/New_York"))
    assert message == Message("Depot: over: a", "Because x 3 < 4\nOver since 2023-11-14 17:14:20 EST", "over")


@pytest.mark.parametrize(
    ("text", "address", "expected"),
    [
        ("no route to two.example:25", "mailto://ana:pw1@two.example", "no route to …:25"),
        ("login ANA/pw1 failed, error=401", "mailto://ana:pw1@two.example", "login …/… failed, error=401"),
        ("bad token xoxb-1/AbC", "slack://xoxb-1/AbC/def", "bad token …/…"),
        ("to c@d.example", "mailto://h/?to=c%40d.example,e@f.example", "to …"),
        ("key a b", "json://h/a%20b", "key …"),
        (
            "refused with url: /a%20token%21here, then /a+token%21here",
            "json://h.example/a token!here",
            "refused with url: /…, then /…",
        ),
        # Apprise shows its own shortened form of an address.
        (
            "Could not load E-Mail URL: mailto://u:m...d@1...1:…?from=a...c&to=d...f",
            "mailto://u:mypassw0rd@127.0.0.1?from=a@b.example&to=d@e.example",
            "Could not load E-Mail URL: …",
        ),
    ],
)
def test_what_is_told_of_a_fault_has_no_part_of_the_address(text: str, address: str, expected: str) -> None:
    assert redact(text, address) == expected


def test_of_an_address_only_the_scheme_is_told() -> None:
    assert [service(one) for one in (ONE, "MAILTO://x", "secret", "sec ret://x", "")] == [
        "json",
        "mailto",
        "?",
        "?",
        "?",
    ]
