"""Commands: at most once, in time, one outcome each; also when the gateway is killed at any step."""

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control import records
from agent.control.execution import Answer
from agent.control.model import MAX_TTL_S, Command, Origin, Outcome
from agent.control.redact import HIDDEN, redacted
from agent.core.errors import CommandRejected, NoAnswer, Refusal
from tests.control_fakes import ENABLED, LIMIT, NOON_US, Killer, Rig, run, settle


def test_an_action_of_the_device_is_done_once_and_told() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            command = rig.command("start", outlet=1, id_tag="04AB12")
            result = await rig.service.execute(command)
            assert (result.outcome, result.data) == (Outcome.DONE, {"status": "Accepted"})
            assert await rig.service.execute(command) == result
            assert rig.charger.acted == [("start", {"outlet": 1, "id_tag": "04AB12"})]
            (event,) = rig.told("command.result")
            assert event.subject == "cp1"
            assert event.data == {
                "id": command.id,
                "target": "cp1",
                "action": "start",
                "args": {"outlet": 1, "id_tag": HIDDEN},
                "origin": "MANUAL",
                "issuer": "user:ana",
                "outcome": "done",
                "reason": "",
                "refusal": None,
                "old": {"on": None, "limit_a": None},
                "new": {"on": None, "limit_a": None},
            }
            assert "04AB12" not in str(rig.notebook.notes("command"))

    run(check)


def test_the_audit_says_what_was_and_what_is() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("limit", limit_a=10)
            await rig.do("off")
            first, second = (event.data for event in rig.told("command.result"))
            assert (first["old"], first["new"]) == ({"on": None, "limit_a": None}, {"on": None, "limit_a": 10})
            assert (second["old"], second["new"]) == ({"on": None, "limit_a": 10}, {"on": False, "limit_a": 10})

    run(check)


@pytest.mark.parametrize(
    ("action", "args", "refusal"),
    [
        ("limit", {"limit_a": 33}, Refusal.OUT_OF_RANGE),
        ("limit", {"limit_a": 5}, Refusal.OUT_OF_RANGE),
        ("limit", {"limit_a": -1}, Refusal.OUT_OF_RANGE),
        ("limit", {"limit_a": True}, Refusal.OUT_OF_RANGE),
        ("limit", {"limit_a": 10**400}, Refusal.OUT_OF_RANGE),
        ("limit", {"limit_a": "10"}, Refusal.OUT_OF_RANGE),
        ("limit", {"limit_a": float("nan")}, Refusal.OUT_OF_RANGE),
        ("limit", {}, Refusal.OUT_OF_RANGE),
        ("off", {"for_s": 0}, Refusal.OUT_OF_RANGE),
        ("off", {"for_s": 10**400}, Refusal.OUT_OF_RANGE),
        ("off", {"for_s": float("inf")}, Refusal.OUT_OF_RANGE),
        ("off", {"for_s": "1"}, Refusal.OUT_OF_RANGE),
        ("off", {"until": 1}, Refusal.OUT_OF_RANGE),
        ("off", {"reason": "x" * 201}, Refusal.OUT_OF_RANGE),
        ("fly", {}, Refusal.NOT_CAPABLE),
    ],
)
def test_what_is_out_of_range_is_refused(action: str, args: dict[str, object], refusal: Refusal) -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            result = await rig.service.execute(Command("c1", "cp1", action, args, issuer="user:ana"))
            assert (result.outcome, result.refusal) == (Outcome.REJECTED, refusal)
            assert result.reason
            assert rig.charger.log == []
            assert len(rig.told("command.result")) == 1

    run(check)


def test_who_is_not_there_or_lives_too_long() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            nobody = await rig.service.execute(Command("a", "cp9", "off"))
            assert (nobody.refusal, nobody.reason) == (Refusal.NOT_CAPABLE, "there is no station or device cp9")
            for number, ttl_s in enumerate((0, -1, MAX_TTL_S + 1, float("nan"))):
                result = await rig.service.execute(Command(f"b{number}", "cp1", "off", ttl_s=ttl_s))
                assert result.refusal is Refusal.OUT_OF_RANGE
            assert (await rig.service.execute(Command("", "cp1", "off"))).refusal is Refusal.OUT_OF_RANGE
            assert rig.charger.log == []

    run(check)


def test_the_grid_may_ask_for_what_a_person_may_not() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            assert (await rig.do("limit", "lpc", Origin.GRID, limit_a=63)).outcome is Outcome.DONE
            assert rig.charger.log == [(LIMIT, 32)]
            assert (await rig.do("limit", "lpc", Origin.GRID, limit_a=4)).outcome is Outcome.DONE
            assert rig.charger.now[ENABLED] == 0

    run(check)


def test_what_is_old_on_arrival_is_expired_but_not_by_a_clock_that_was_never_set() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            old = replace(rig.command("reset"), issued_us=NOON_US - 61_000_000)
            result = await rig.service.execute(old)
            assert (result.outcome, result.refusal) == (Outcome.EXPIRED, Refusal.EXPIRED)
            assert (await rig.service.execute(old)) == result
            rig.clock.jump_wall(-86400 * 365)
            assert (await rig.service.execute(replace(old, id="2"))).outcome is Outcome.DONE
            assert len(rig.charger.acted) == 1

    run(check)


def test_an_action_that_does_not_end_in_time_has_failed() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            acting = asyncio.ensure_future(rig.do("reset"))
            wishing = asyncio.ensure_future(rig.do("off"))
            await settle()
            rig.clock.advance(60)
            for result in (await acting, await wishing):
                assert result.outcome is Outcome.FAILED
            assert rig.charger.acted == []
            rig.charger.gate.set()
            await settle()
            assert rig.charger.now == {ENABLED: 0}, "a wish stands"

    run(check)


def test_the_same_id_with_another_meaning_is_a_duplicate() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            command = rig.command("reset")
            first, again = (asyncio.ensure_future(rig.service.execute(command)) for _ in range(2))
            await settle()
            other = await rig.service.execute(replace(command, action="start"))
            assert (other.outcome, other.refusal) == (Outcome.REJECTED, Refusal.DUPLICATE)
            rig.charger.gate.set()
            assert await first == await again
            assert (await rig.service.execute(replace(command, action="start"))).refusal is Refusal.DUPLICATE
            assert len(rig.charger.acted) == len(rig.told("command.result")) == 1

    run(check)


def test_a_caller_that_goes_away_does_not_end_the_command() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            command = rig.command("reset")
            caller = asyncio.ensure_future(rig.service.execute(command))
            await settle()
            caller.cancel()
            await asyncio.gather(caller, return_exceptions=True)
            rig.charger.gate.set()
            await settle()
            assert (await rig.service.execute(command)).outcome is Outcome.DONE
            assert len(rig.charger.acted) == 1

    run(check)


def test_a_person_is_refused_what_an_alarm_forbids_and_a_schedule_waits_for_its_end() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("off", "alarm:hot", Origin.SAFETY, reason="51 degrees")
            for action in ("on", "toggle"):
                result = await rig.do(action)
                assert (result.outcome, result.refusal) == (Outcome.REJECTED, Refusal.INTERLOCKED)
                assert result.reason == "it is kept off by alarm hot (51 degrees)"
            stands = await rig.do("on", "rule:day", Origin.RULE)
            assert (stands.outcome, stands.data["in_force"]) == (Outcome.DONE, False)
            await rig.wait(61)
            await rig.do("release", "alarm:hot", Origin.SAFETY)
            assert rig.charger.now == {ENABLED: 1}

    run(check)


def test_release_takes_back_ones_own_or_what_all_of_the_origin_wish() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            await rig.do("limit", "user:ana", limit_a=10)
            await rig.do("limit", "user:bob", limit_a=20)
            await rig.do("limit", "user:ana", Origin.REMOTE, limit_a=8)
            assert (await rig.do("release", "user:bob")).data["limit_a"] == 10
            await rig.do("limit", "user:bob", limit_a=20)
            assert (await rig.do("release", "user:eve", all=True)).data["limit_a"] == 8

    run(check)


@pytest.mark.announced_warnings
def test_a_bug_of_a_driver_is_a_failed_command_with_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.fails = ZeroDivisionError("oh")
            for action in ("reset", "off"):
                result = await rig.do(action)
                assert result.outcome is Outcome.FAILED
                assert "ZeroDivisionError: oh (this is a bug of Enlace" in result.reason
            rig.charger.fails = None
            await rig.wait(5)
            assert rig.charger.now == {ENABLED: 0}

    run(check)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


@pytest.mark.parametrize(
    ("error", "outcome", "refusal"),
    [
        (CommandRejected("reset", Refusal.DEVICE_REFUSED, "no"), Outcome.REJECTED, Refusal.DEVICE_REFUSED),
        (NoAnswer("reset", "silence"), Outcome.FAILED, None),
    ],
)
def test_what_the_device_says(error: Exception, outcome: Outcome, refusal: Refusal | None) -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.fails = error
            result = await rig.do("reset")
            assert (result.outcome, result.refusal) == (outcome, refusal)

    run(check)


def test_killed_at_any_step_nothing_is_done_twice_and_each_has_one_outcome() -> None:
    """Before and after each write to disk and each call of the device."""

    async def check() -> None:
        kills = 0
        while not await killed_at(kills):
            kills += 1
        assert kills > 30

    run(check)


async def killed_at(at: int) -> bool:
    """One life that ends at that step, and the next one; whether the first one had come to its end before."""
    rig = await Rig(killer=Killer(at)).start()
    task = asyncio.ensure_future(all_of_them(rig))
    while not (task.done() or rig.killer.dead):  # noqa: ASYNC110 - a test may wait so
        await asyncio.sleep(0)
    finished = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await rig.service.close()
    told = {event.data["id"]: event.data["outcome"] for event in rig.told("command.result")}
    later = await rig.restarted().start()
    await later.wait(1)
    station = later.service.station("cp1")
    assert station is not None
    if "4" in told:
        assert (station.on, station.limit_a) == (True, 10), "what was acknowledged is not lost"
    await all_of_them(later)
    for command in COMMANDS:
        if command.id in told:
            assert (await later.service.execute(command)).outcome == told[command.id], "what was told stays"
    outcomes = Counter(str(event.data["id"]) for one in (rig, later) for event in one.told("command.result"))
    assert outcomes == Counter(command.id for command in COMMANDS), f"exactly one each (killed at {at})"
    assert len(later.charger.acted) <= 1
    await later.wait(130, 10)
    station = later.service.station("cp1")
    assert station is not None
    if station.on is not None:
        assert later.charger.now[ENABLED] == station.on, f"what is decided stands (killed at {at})"
    await later.service.close()
    return finished


async def all_of_them(rig: Rig) -> None:
    for command in COMMANDS:
        await rig.service.execute(command)


COMMANDS = [
    Command("1", "cp1", "off", issuer="user:ana"),
    Command("2", "cp1", "reset", issuer="user:ana"),
    Command("3", "cp1", "limit", {"limit_a": 10}, issuer="user:bob"),
    Command("4", "cp1", "on", issuer="user:bob"),
]


def test_thousands_of_delayed_repeated_and_shuffled_commands() -> None:
    async def check() -> None:
        rig = await Rig().start()
        random = Random(5)  # noqa: S311 - a test's
        sent: list[Command] = []
        async with rig.service:
            for number in range(2500):
                age_s = random.choice((0, 10, 59, 61, 3600))
                command = Command(
                    f"c{number}", "cp1", "reset", {}, Origin.REMOTE, "hub", rig.clock.now_us() - age_s * 1_000_000
                )
                sent += [command] * random.choice((1, 1, 2, 4))
            random.shuffle(sent)
            for command in sent:
                rig.clock.advance(0.05)
                await rig.service.execute(command)
            told = rig.told("command.result")
            assert Counter(event.data["id"] for event in told) == Counter({f"c{number}" for number in range(2500)})
            done = [event for event in told if event.data["outcome"] == "done"]
            assert len(rig.charger.acted) == len(done) > 300

    run(check)


def test_records_are_bounded_but_none_is_dropped_that_could_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT", 10)

    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            for _ in range(20):
                await rig.do("reset")
            assert len(rig.notebook.notes("command")) == 20
            rig.clock.advance(records.YOUNG_S + 1)
            for _ in range(10):
                await rig.do("reset")
            assert len(rig.notebook.notes("command")) == 10
            rig.clock.advance(8 * 86400)
            for _ in range(5):
                await rig.do("reset")
            assert len(rig.notebook.notes("command")) == 5

    run(check)


def test_those_that_end_together_drop_each_old_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT", 10)

    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            for _ in range(20):
                await rig.do("reset")
            rig.clock.advance(records.YOUNG_S + 1)
            results = await asyncio.gather(*(rig.do("reset") for _ in range(8)))
            assert {one.outcome for one in results} == {Outcome.DONE}
            assert len(rig.notebook.notes("command")) == 10

    run(check)


def test_nor_is_one_dropped_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "KEPT", 10)

    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            first = rig.command("reset")
            result = await rig.service.execute(first)
            for _ in range(19):
                await rig.do("reset")
        again = await rig.restarted().start()
        async with again.service:
            for _ in range(5):
                await again.service.execute(replace(again.command("reset"), id=f"new-{again._count}"))
            done = len(rig.charger.acted)
            assert await again.service.execute(first) == result
            assert len(rig.charger.acted) == done
            assert len(again.notebook.notes("command")) == 25

    run(check)


def test_one_with_an_objection_is_not_done_but_has_its_one_outcome() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            done, refused = rig.command("reset"), rig.command("reset")
            assert not rig.service.remembers(refused.id)
            objection = Answer(Outcome.REJECTED, "it is retained", Refusal.OUT_OF_RANGE)
            result = await rig.service.execute(refused, objection)
            assert (result.outcome, result.reason) == (Outcome.REJECTED, "it is retained")
            assert rig.service.remembers(refused.id)
            assert await rig.service.execute(refused) == result
            assert not rig.charger.acted
            first = await rig.service.execute(done)
            assert await rig.service.execute(done, objection) == first
            assert len(rig.charger.acted) == 1
            assert len(rig.told("command.result")) == 2

    run(check)


def test_an_outcome_that_is_not_certain_is_not_remembered() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.charger.gate = asyncio.Event()
        command = rig.command("reset")
        task = asyncio.ensure_future(rig.service.execute(command))
        await settle()
        assert not rig.service.remembers(command.id)
        await rig.service.close()
        assert (await task).outcome is Outcome.FAILED
        assert not rig.service.remembers(command.id), "the next start tells it in other words"
        again = await rig.restarted().start()
        async with again.service:
            assert again.service.remembers(command.id)

    run(check)


def test_too_many_at_once_are_not_taken() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            waiting = [asyncio.ensure_future(rig.do("reset")) for _ in range(64)]
            await settle()
            assert "too many" in (await rig.do("reset")).reason
            rig.charger.gate.set()
            assert {result.outcome for result in await asyncio.gather(*waiting)} == {Outcome.DONE}
            for number in range(64):
                await rig.do("limit", f"rule:{number}", Origin.RULE, limit_a=10)
            assert (await rig.do("limit", "rule:more", Origin.RULE, limit_a=10)).refusal is Refusal.OUT_OF_RANGE
            assert (await rig.do("limit", "rule:1", Origin.RULE, limit_a=11)).outcome is Outcome.DONE

    run(check)


def test_nothing_is_taken_after_the_end() -> None:
    async def check() -> None:
        rig = await Rig().start()
        rig.charger.gate = asyncio.Event()
        waiting = asyncio.ensure_future(rig.do("reset"))
        await settle()
        await rig.service.close()
        assert (await waiting).outcome is Outcome.FAILED
        assert (await rig.do("off")).reason == "the gateway stops"
        assert rig.charger.log == []

    run(check)


def test_secrets_are_left_out() -> None:
    assert redacted(
        {
            "id_tag": "04AB",
            "idTag": "04AB",
            "parent_id_tag": "x",
            "password": "p",
            "AuthorizationKey": "k",
            "api_token": "t",
            "nested": [{"key": "secret"}],
            "empty_key": "",
            "outlet": 2,
            "text": "x" * 300,
            "other": object,
        }
    ) == {
        "id_tag": HIDDEN,
        "idTag": HIDDEN,
        "parent_id_tag": HIDDEN,
        "password": HIDDEN,
        "AuthorizationKey": HIDDEN,
        "api_token": HIDDEN,
        "nested": [{"key": HIDDEN}],
        "empty_key": "",
        "outlet": 2,
        "text": "x" * 256,
        "other": "<class 'object'>",
    }
    assert redacted({"key": "AuthorizationKey", "value": "00ff"}) == {"key": "AuthorizationKey", "value": HIDDEN}
    assert redacted({"keys": ["A"], "x": float("nan")}) == {"keys": ["A"], "x": "nan"}
    told = {"configurationKey": [{"key": "AuthorizationKey", "value": "00ff"}, {"key": "Other", "value": "1"}]}
    assert redacted(told) == {
        "configurationKey": [{"key": "AuthorizationKey", "value": HIDDEN}, {"key": "Other", "value": "1"}]
    }
    plain = {"key": "HeartbeatInterval", "value": "60"}
    assert redacted(plain) == plain
    assert redacted({"report": ["x" * 200] * 100}) == {"left_out_bytes": 20412}


@given(st.dictionaries(st.sampled_from(["id_tag", "password", "key", "value", "x"]), st.text(min_size=1)))
def test_no_secret_text_passes(args: dict[str, str]) -> None:
    shown = redacted(args)
    assert set(shown) == set(args)
    for name in ("id_tag", "password"):
        assert name not in shown or shown[name] == HIDDEN


@pytest.mark.announced_warnings
def test_what_came_of_a_local_stop_is_told_though_the_store_fails_and_is_told_once() -> None:
    """Trials C11, C2: the stop is allowed without the disk; its one result is on the ledger as soon as it can."""

    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.notebook.failing = True
            stop = rig.command("off")
            result = await rig.service.execute(stop)
            assert result.outcome is Outcome.DONE
            assert [event.data["id"] for event in rig.told("command.result")] == [stop.id]
            rig.notebook.failing = False
            await rig.do("limit", limit_a=10)
        after = await rig.restarted().start()
        assert after.told("command.result") == [], "the record says what came of it"
        async with after.service:
            assert (await after.service.execute(stop)).outcome is Outcome.DONE

    run(check)


@pytest.mark.announced_warnings
def test_a_command_that_was_recorded_before_the_store_failed_has_one_result() -> None:
    async def check() -> None:
        rig = await Rig().start()
        async with rig.service:
            rig.charger.gate = asyncio.Event()
            command = rig.command("reset")
            task = asyncio.create_task(rig.service.execute(command))
            await settle()
            rig.notebook.failing = True
            rig.charger.gate.set()
            assert (await task).outcome is Outcome.DONE
            rig.notebook.failing = False
            await rig.do("limit", limit_a=10)
        told = [event.data for event in rig.told("command.result") if event.data["id"] == command.id]
        assert [data["outcome"] for data in told] == ["done"]
        assert (await rig.restarted().start()).told("command.result") == []

    run(check)
