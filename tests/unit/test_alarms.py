"""Alarms and rules at work: what they do with stations, what is told, what people do, and what a restart leaves."""

import asyncio
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from agent.control.alarm_entry import START_S
from agent.control.alarm_keeper import BURST, PAUSE_S
from agent.control.alarm_model import ALL, MAX_SHELVE_S, AlarmState, RuleAct, Severity
from agent.control.alarms import MAX_NOTE, MAX_ORDERS
from agent.control.model import Origin, Outcome
from agent.control.when import parse
from agent.core.errors import CommandRejected, Refusal, StoreError
from agent.core.model import Encoding, Signal
from tests.alarm_fakes import OFF, SIGNALS, SOC, Rig, hot, low
from tests.control_fakes import NOON_US, Killer, run, settle

ANA = "user:ana"
STOP = RuleAct("cp1", do="stop", args={"outlet": 1})


def test_an_alarm_acts_at_once_and_is_told_with_the_values_why() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        rig.put(52.3)
        (wish,) = rig.stations.wishes["alarm:hot"]
        assert (wish.station, wish.key, wish.origin, wish.on) == ("cp1", "alarm:hot", Origin.SAFETY, False)
        assert wish.reason == "battery1.temperature_max_degc is 52.3 °C (> 50)"
        assert wish.inputs == {"battery1.temperature_max_degc": 52.3}
        assert not rig.notebook.writes, "nothing waited for the disk"
        await settle()
        event = rig.told("alarm.raised")
        assert (event.subject, event.t_us) == ("hot", NOON_US)
        assert event.data == {
            "severity": "critical",
            "text": "Too hot",
            "device": "battery1",
            "why": "battery1.temperature_max_degc is 52.3 °C (> 50)",
            "inputs": {"battery1.temperature_max_degc": 52.3},
            "state": "unacknowledged",
            "raised_count": 1,
            "notify": None,
            "shadow": False,
            "silent": False,
            "source": "condition",
            "done": ["cp1 off"],
        }
        assert rig.ledger == [event], "once, with the note"
        status = rig.status()
        assert (status.active, status.acting, status.raised_us, status.raised_count) == (True, True, NOON_US, 1)
        await rig.book.close()

    run(check)


def test_it_is_over_with_its_wishes_and_waits_for_nobody() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.heat(52.3, 47)
        assert rig.stations.off == {"alarm:hot"}, "the deadband"
        await rig.heat(44)
        assert not rig.stations.wishes
        assert rig.kinds == ["alarm.raised", "alarm.cleared"]
        assert rig.status().state is AlarmState.RETURNED
        assert rig.status().cleared_us == NOON_US
        await rig.book.close()

    run(check)


def test_a_rule_acts_and_tells_but_is_no_alarm() -> None:
    async def check() -> None:
        rig = Rig([low()]).start()
        rig.put(10, SOC)
        await settle()
        assert rig.stations.wishes["rule:low"][0].origin is Origin.RULE
        rig.put(50, SOC)
        await settle()
        assert rig.kinds == ["rule.active", "rule.over"]
        assert rig.status("low").state is AlarmState.NORMAL
        assert rig.told("rule.active").data["severity"] is None
        with pytest.raises(CommandRejected) as refused:
            await rig.book.shelve("low", 60, ANA)
        assert refused.value.refusal is Refusal.NOT_CAPABLE
        await rig.book.close()

    run(check)


def test_delays_are_looked_at_each_second() -> None:
    async def check() -> None:
        rig = Rig([hot(for_s=5, clear_for_s=10)]).start()
        await rig.heat(60)
        await rig.wait(4)
        assert not rig.kinds
        await rig.wait(1)
        assert rig.kinds == ["alarm.raised"]
        await rig.heat(40)
        await rig.wait(9)
        assert rig.status().active
        await rig.wait(1)
        assert not rig.status().active
        await rig.book.close()

    run(check)


def test_one_that_is_seen_late_is_told_with_the_values_of_then() -> None:
    async def check() -> None:
        rig = Rig([hot(for_s=5)]).start()
        rig.put(60)
        rig.clock.advance(5.5)
        rig.put(40)
        await settle()
        assert rig.kinds == ["alarm.raised", "alarm.cleared"]
        assert rig.told("alarm.raised").data["inputs"] == {"battery1.temperature_max_degc": 60}
        await rig.book.close()

    run(check)


def test_the_reason_says_until_when_it_is_held_and_for_whom_it_waits() -> None:
    async def check() -> None:
        rig = Rig([hot(latch=True, hold_s=600)], zone=ZoneInfo("Europe/Madrid")).start()
        await rig.heat(60)
        await rig.wait(60)
        await rig.heat(40)
        (wish,) = rig.stations.wishes["alarm:hot"]
        over = "over since 13:01, held until 13:11, waits for acknowledgement"
        assert wish.reason == f"battery1.temperature_max_degc is 60 °C (> 50); {over}"
        assert wish.since_us == NOON_US
        await rig.book.acknowledge("hot", ANA)
        assert rig.stations.wishes["alarm:hot"][0].reason.endswith("over since 13:01, held until 13:11")
        assert rig.status().hold_until_us == NOON_US + 660_000_000
        await rig.wait(599)
        assert rig.status().acting
        await rig.wait(1)
        assert not rig.stations.wishes
        assert rig.status().hold_until_us is None
        await rig.book.close()

    run(check)


def test_a_latched_alarm_acts_until_somebody_has_seen_it() -> None:
    async def check() -> None:
        rig = Rig([hot(latch=True)]).start()
        await rig.heat(60, 40)
        assert rig.status().state is AlarmState.LATCHED
        assert rig.stations.off == {"alarm:hot"}
        status = await rig.book.acknowledge("hot", ANA, "I let it cool down")
        assert (status.state, status.acknowledged_by) == (AlarmState.NORMAL, ANA)
        assert not rig.stations.wishes
        data = rig.told("alarm.acknowledged").data
        assert (data["source"], data["note"], data["state"]) == (ANA, "I let it cool down", "normal")
        again = await rig.book.acknowledge("hot", "user:bo")
        assert again.acknowledged_by == ANA, "who was first"
        assert rig.kinds.count("alarm.acknowledged") == 1
        await rig.book.close()

    run(check)


def test_two_acts_are_two_wishes_and_orders_are_given_once() -> None:
    async def check() -> None:
        acts = (OFF, RuleAct("cp2", limit_a=10), STOP)
        rig = Rig([hot(acts=acts)]).start()
        rig.put(60)
        assert [(one.station, one.on, one.limit_a) for one in rig.stations.wishes["alarm:hot"]] == [
            ("cp1", False, None),
            ("cp2", None, 10),
        ]
        await settle()
        (command,) = rig.commands
        assert (command.target, command.action, command.args) == ("cp1", "stop", {"outlet": 1})
        assert (command.origin, command.issuer, command.ttl_s) == (Origin.SAFETY, "alarm:hot", 60)
        assert rig.told("alarm.raised").data["done"] == ["cp1 off", "cp2 at most 10 A", "cp1 stop"]
        await rig.heat(40, 60)
        assert len(rig.commands) == 2, "another raising"
        assert rig.commands[0].id != rig.commands[1].id
        await rig.book.close()

    run(check)


def test_an_order_for_all_goes_to_each_charger_that_can_do_it() -> None:
    async def check() -> None:
        rig = Rig([hot("x" * 128, acts=(RuleAct(ALL, do="stop"),))]).start()
        await rig.heat(60)
        assert [command.target for command in rig.commands] == ["cp1", "cp3.2"], "not to its outlet"
        assert len(rig.commands[0].id) <= 128, "what a command's id may have"
        assert rig.told("alarm.raised").data["done"] == ["all stations stop"]
        await rig.book.close()

    run(check)


def test_an_order_that_was_not_done_is_told() -> None:
    async def check() -> None:
        rig = Rig([hot(acts=(STOP,))]).start()
        rig.outcome = Outcome.FAILED
        await rig.heat(60)
        event = rig.told("alarm.not_done")
        assert event.subject == "hot"
        assert {**event.data, "id": ""} == {
            "id": "",
            "station": "cp1",
            "action": "stop",
            "outcome": "failed",
            "reason": "as the test says",
        }
        assert event in rig.recorded
        await rig.book.close()

    run(check)


def test_orders_at_once_are_bounded_and_the_rest_is_told() -> None:
    async def check() -> None:
        rig = Rig([hot(acts=(STOP,) * (MAX_ORDERS + 3))]).start()
        rig.put(60)
        await settle(4)  # the orders are given, and not done yet
        await settle()
        assert rig.kinds.count("alarm.not_done") == 3
        assert len(rig.commands) == MAX_ORDERS
        await rig.book.close()

    run(check)


def test_in_shadow_mode_it_only_says_what_it_would_do() -> None:
    async def check() -> None:
        rig = Rig([hot(shadow=True, acts=(OFF, STOP))]).start()
        await rig.heat(60)
        assert not rig.stations.log
        assert not rig.commands
        data = rig.told("alarm.raised").data
        assert (data["shadow"], data["would"]) == (True, ["cp1 off", "cp1 stop"])
        assert "done" not in data
        assert (rig.status().active, rig.status().acting) == (True, False)
        await rig.book.close()

    run(check)


def test_shelved_it_acts_and_nobody_is_told_until_the_time_is_over() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        status = await rig.book.shelve("hot", 3600, ANA, "the sensor is being replaced")
        assert (status.state, status.shelved_by) == (AlarmState.SHELVED, ANA)
        assert status.shelved_until_us == NOON_US + 3_600_000_000
        data = rig.told("alarm.shelved").data
        assert (data["for_s"], data["until_us"]) == (3600, NOON_US + 3_600_000_000)
        assert (data["source"], data["reason"]) == (ANA, "the sensor is being replaced")
        await rig.heat(60)
        assert rig.stations.off == {"alarm:hot"}
        assert rig.told("alarm.raised").data["silent"] is True
        await rig.wait(3599, 3599)
        assert rig.status().state is AlarmState.SHELVED
        await rig.wait(1)
        data = rig.told("alarm.unshelved").data
        assert (data["source"], data["silent"], data["state"]) == ("time", False, "unacknowledged")
        assert (rig.status().shelved_by, rig.status().shelved_until_us) == ("", None)
        await rig.book.close()

    run(check)


def test_it_is_unshelved_by_hand() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.book.shelve("hot", 60, ANA)
        await rig.book.shelve("hot", 120, "user:bo")
        assert (await rig.book.unshelve("hot", ANA)).state is AlarmState.NORMAL
        assert rig.told("alarm.unshelved").data["source"] == ANA
        await rig.book.unshelve("hot", ANA)
        assert rig.kinds == ["alarm.shelved", "alarm.shelved", "alarm.unshelved"]
        await rig.book.close()

    run(check)


@pytest.mark.parametrize("for_s", [0, -1, MAX_SHELVE_S + 1, float("nan"), float("inf")])
def test_nobody_shelves_for_ever(for_s: float) -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        with pytest.raises(CommandRejected) as refused:
            await rig.book.shelve("hot", for_s, ANA)
        assert refused.value.refusal is Refusal.OUT_OF_RANGE
        with pytest.raises(CommandRejected):
            await rig.book.acknowledge("hot", ANA, "x" * (MAX_NOTE + 1))
        for act in (rig.book.acknowledge("nobody", ANA), rig.book.unshelve("nobody", ANA)):
            with pytest.raises(CommandRejected) as refused:
                await act
            assert refused.value.refusal is Refusal.NOT_CAPABLE
        assert not rig.heard

    run(check)


def test_it_is_silent_while_another_one_explains_it() -> None:
    async def check() -> None:
        silent = hot("battery1-silent", acts=(), unknown="raise", for_s=5)
        low_soc = replace(low(severity=Severity.WARNING), suppressed_by=("battery1-silent",))
        rig = Rig([silent, low_soc]).start()
        rig.put(20)
        rig.put(10, SOC)
        await settle()
        assert rig.status("low").state is AlarmState.UNACKNOWLEDGED
        await rig.heat(None)
        await rig.wait(START_S + 6)
        status = rig.status("low")
        assert (status.state, status.suppressed_by, status.active) == (
            AlarmState.SUPPRESSED,
            "battery1-silent",
            True,
        )
        assert rig.told("alarm.suppressed").data["by"] == "battery1-silent"
        assert rig.stations.off == {"alarm:low"}, "it acts all the same"
        await rig.heat(20)
        assert rig.status("low").state is AlarmState.UNACKNOWLEDGED
        assert rig.told("alarm.unsuppressed").data["silent"] is False
        await rig.book.close()

    run(check)


@pytest.mark.announced_warnings
def test_alarms_that_explain_each_other_are_both_told() -> None:
    async def check() -> None:
        rig = Rig([hot("a", suppressed_by=("b",)), hot("b", suppressed_by=("c",)), hot("c", suppressed_by=("a",))])
        await rig.start().heat(60)
        assert {rig.status(name).state for name in "abc"} == {AlarmState.UNACKNOWLEDGED}
        await rig.book.close()

    run(check)


def test_one_that_toggles_is_told_some_times_a_minute_and_acts_each_time() -> None:
    async def check() -> None:
        rig = Rig([hot(clear=None, latch=False, severity=Severity.INFO)]).start()
        for _ in range(60):
            for value in (60, 40) * 5:
                rig.put(value)
                await settle(2)
            await rig.wait(1)
        changes = 600
        assert len(rig.stations.log) == changes, "each is acted on"
        assert len(rig.heard) <= BURST + 60 / PAUSE_S
        await rig.heat(60)
        await rig.wait(PAUSE_S)
        counted = [int(str(event.data.get("left_out", 0))) for event in rig.heard]
        assert sum(counted) + len(rig.heard) >= changes
        assert rig.heard[-1].kind == "alarm.raised", "how it stands is told in the end"
        assert rig.notebook.writes <= len(rig.heard), "and so often it is written"
        assert rig.status().raised_count == 301
        await rig.book.close()

    run(check)


def test_how_one_that_toggles_ended_is_told_whatever_is_told_meanwhile() -> None:
    async def check() -> None:
        rig = Rig([hot(), hot("other", suppressed_by=("hot",))]).start()
        await rig.heat(*(60, 40) * BURST)
        assert rig.status().active is False
        await rig.book.shelve("hot", 5, ANA)
        await rig.wait(2 * PAUSE_S + 1)
        for name in ("hot", "other"):
            told = [
                event for event in rig.heard if event.subject == name and event.kind.endswith(("raised", "cleared"))
            ]
            assert told[-1].kind == "alarm.cleared"
            counted = sum(int(str(event.data.get("left_out", 0))) for event in rig.heard if event.subject == name)
            assert counted + len([event for event in rig.heard if event.subject == name]) >= 2 * BURST
        await rig.book.close()

    run(check)


def test_one_that_is_taken_out_while_it_toggles_is_told_to_be_over() -> None:
    async def check() -> None:
        rig = Rig([hot(severity=Severity.INFO)]).start()
        await rig.heat(*(60, 40) * (BURST // 2))
        await rig.wait(PAUSE_S)
        await rig.heat(60, 40)
        assert rig.kinds[-1] == "alarm.raised", "its end waits for its turn"
        rig.book.apply([], SIGNALS)
        await settle()
        assert rig.kinds[-1] == "alarm.cleared"
        await rig.book.close()

    run(check)


def test_orders_of_one_that_toggles_are_those_that_are_told() -> None:
    async def check() -> None:
        rig = Rig([hot(acts=(STOP,))]).start()
        for _ in range(50):
            rig.clock.advance(0.01)
            await rig.heat(60, 40)
        assert 0 < len(rig.commands) <= BURST
        assert len(rig.commands) == rig.kinds.count("alarm.raised")
        await rig.book.close()

    run(check)


def test_ten_times_a_second_for_an_hour_is_one_alarm_with_the_defaults() -> None:
    """Trials C9, over everything but the store."""

    async def check() -> None:
        rig = Rig([hot(clear=None, clear_for_s=10)]).start()
        for tenth in range(36_000):
            rig.put(60 if tenth % 2 == 0 else 40)
            rig.clock.advance(0.1)
            if tenth % 10 == 0:
                rig.book.tick()
        await settle()
        assert rig.kinds == ["alarm.raised"]
        await rig.book.close()

    run(check)


def test_what_is_not_known_yet_says_nothing_at_first() -> None:
    async def check() -> None:
        rig = Rig([hot(unknown="raise")]).start()
        await rig.wait(START_S - 1)
        assert not rig.kinds
        await rig.wait(1)
        assert rig.kinds == ["alarm.raised"]
        assert not rig.status().known
        assert "not known" in rig.status().why
        await rig.heat(20)
        assert not rig.status().active
        await rig.heat(None)
        assert rig.status().active, "it was heard before"
        await rig.book.close()

    run(check)


def test_all_are_acknowledged_at_once() -> None:
    async def check() -> None:
        rig = Rig([hot("a"), hot("b", latch=True), hot("c", severity=Severity.INFO), low()]).start()
        await rig.heat(60, 40)
        changed = await rig.book.acknowledge_all(ANA)
        assert [status.spec.id for status in changed] == ["a", "b"]
        assert not rig.stations.wishes
        assert await rig.book.acknowledge_all(ANA) == []
        await rig.book.close()

    run(check)


@pytest.mark.announced_warnings
def test_a_store_that_fails_stops_people_but_not_the_alarm() -> None:
    async def check() -> None:
        rig = Rig([hot(latch=True, acts=(OFF, STOP))]).start()
        rig.notebook.failing = True
        await rig.heat(60)
        assert rig.stations.off == {"alarm:hot"}
        assert [event.kind for event in rig.recorded] == ["alarm.raised"], "the ledger takes it when it can"
        assert len(rig.commands) == 1, "control decides what it does without a store"
        for act in (rig.book.acknowledge("hot", ANA), rig.book.shelve("hot", 60, ANA), rig.book.acknowledge_all(ANA)):
            with pytest.raises(StoreError):
                await act
        assert rig.status().state is AlarmState.UNACKNOWLEDGED
        assert rig.status().acknowledged_us is None
        rig.notebook.failing = False
        await rig.wait(11)
        note = rig.notebook.note("alarm", "hot")
        assert note is not None
        assert note["active"] is True
        assert [event.kind for event in rig.ledger] == ["alarm.raised"], "not twice"
        await rig.book.acknowledge("hot", ANA)
        assert rig.status().state is AlarmState.ACKNOWLEDGED
        await rig.book.close()

    run(check)


def test_who_acknowledges_has_not_seen_what_came_while_it_was_written() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.heat(60)
        task = asyncio.create_task(rig.book.acknowledge("hot", ANA))
        await settle(1)
        rig.put(40)
        rig.clock.advance(1)
        rig.put(60)
        status = await task
        assert (status.state, status.raised_count) == (AlarmState.UNACKNOWLEDGED, 2)
        await settle()
        after = rig.restarted().start()
        assert after.status().state is AlarmState.UNACKNOWLEDGED, "nor after a restart"
        await rig.book.close()
        await after.book.close()

    run(check)


def test_a_changed_configuration_leaves_those_alone_that_stay() -> None:
    async def check() -> None:
        rig = Rig([hot("a"), hot("b")]).start()
        await rig.heat(60)
        await rig.book.acknowledge("a", ANA)
        log = len(rig.stations.log)
        assert rig.book.apply([hot("a"), hot("c")], SIGNALS) == []
        await settle()
        assert rig.status("a").state is AlarmState.ACKNOWLEDGED
        assert rig.book.alarm("b") is None
        assert rig.stations.off == {"alarm:a", "alarm:c"}
        assert [key for key, _ in rig.stations.log[log:]] == ["alarm:b", "alarm:c"], "what stays is not touched"
        event = rig.told("alarm.cleared")
        assert (event.subject, event.data["source"]) == ("b", "configuration")
        assert set(rig.notebook.notes("alarm")) == {"a", "c"}
        await rig.wait(1)
        assert [status.spec.id for status in rig.book.alarms()] == ["a", "c"]
        await rig.book.close()

    run(check)


def test_other_acts_are_wished_at_once_and_other_conditions_judged_anew() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.heat(60)
        rig.book.apply([hot(acts=(RuleAct("cp2", limit_a=6),))], SIGNALS)
        assert [(one.station, one.limit_a) for one in rig.stations.wishes["alarm:hot"]] == [("cp2", 6)]
        rig.book.apply([hot(shadow=True)], SIGNALS)
        assert not rig.stations.wishes
        rig.book.apply([replace(hot(), when=parse("battery1.temperature_max_degc > 70"), clear=None)], SIGNALS)
        assert not rig.status().active
        await rig.book.close()

    run(check)


def test_another_delay_begins_anew_with_what_is_known() -> None:
    async def check() -> None:
        rig = Rig([hot(for_s=100)]).start()
        await rig.heat(60)
        await rig.wait(50)
        rig.book.apply([hot(for_s=20)], SIGNALS)
        await rig.wait(19)
        assert not rig.status().active
        await rig.wait(1)
        assert rig.status().active
        await rig.book.close()

    run(check)


def test_who_explains_whom_follows_the_configuration_without_a_word_too_many() -> None:
    async def check() -> None:
        cold = parse("battery1.temperature_max_degc < 0")
        first, second = hot("first", clear_for_s=100), replace(hot("second"), when=cold, clear=None, latch=False)
        explained = hot("explained", clear=None, suppressed_by=("first", "second"), clear_for_s=1000)
        rig = Rig([explained, first, second]).start()
        await rig.heat(60)
        assert rig.status("explained").suppressed_by == "first"
        await rig.heat(-5)
        rig.book.apply([explained, replace(first, clear_for_s=0), second], SIGNALS)
        assert rig.status("explained").suppressed_by == "second"
        assert not rig.status("first").active
        rig.book.apply([replace(explained, suppressed_by=()), second], SIGNALS)
        assert rig.status("explained").state is AlarmState.UNACKNOWLEDGED
        rig.book.apply([explained, second], SIGNALS)
        assert rig.status("explained").suppressed_by == "second"
        await settle()
        told = [event.kind for event in rig.heard if event.subject == "explained"]
        assert told == ["alarm.raised", "alarm.suppressed", "alarm.unsuppressed", "alarm.suppressed"]
        await rig.book.close()

    run(check)


def test_what_waits_for_the_disk_goes_with_what_a_person_does() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        rig.put(60)
        await rig.book.acknowledge("hot", ANA)
        await settle()
        assert [event.kind for event in rig.notebook.events] == ["alarm.raised", "alarm.acknowledged"]
        assert rig.notebook.writes == 1
        await rig.heat(40)
        assert [event.kind for event in rig.ledger] == rig.kinds
        await rig.book.close()

    run(check)


@pytest.mark.announced_warnings
def test_an_alarm_that_becomes_a_rule_begins_anew() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.heat(60)
        rig.notebook.failing = True  # so that the note of the alarm is still to be deleted when the rule has one
        rig.book.apply([hot(severity=None, origin=Origin.RULE)], SIGNALS)
        assert rig.stations.off == {"rule:hot"}
        await settle()
        rig.notebook.failing = False
        await rig.wait(30)
        assert rig.kinds == ["alarm.raised", "alarm.cleared", "rule.active"]
        note = rig.notebook.note("alarm", "hot")
        assert note is not None
        assert (note["alarm"], note["active"]) == (False, True)
        await rig.book.close()

    run(check)


def test_signals_that_are_found_out_about_are_read_from_then_on() -> None:
    async def check() -> None:
        rig = Rig([low()])
        assert rig.book.apply(rig.specs, SIGNALS[:1]) == ["battery1.soc_pct"]
        assert rig.book.learn(SIGNALS) == []
        rig.put(10, SOC)
        assert rig.status("low").active
        other = Signal("battery1", "soc_pct", unit="%", encoding=Encoding.FLOAT, id=9)
        rig.book.learn([SIGNALS[0], other])
        rig.put(50, other)
        assert not rig.status("low").active
        await settle()
        await rig.book.close()

    run(check)


def test_after_a_restart_all_stands_as_before() -> None:
    async def check() -> None:
        specs = [
            hot("seen"),
            hot("unseen"),
            hot("held", hold_s=600, severity=Severity.INFO),
            hot("latched", latch=True),
        ]
        specs.append(hot("calm"))
        rig = Rig(specs[:2]).start()
        await rig.heat(60)
        await rig.book.acknowledge("seen", ANA)
        rig.book.apply(specs, SIGNALS)
        rig.book.apply(
            [*specs[:2], *(replace(one, when=parse("battery1.soc_pct < 20"), clear=None) for one in specs[2:])], SIGNALS
        )
        await settle()
        await rig.book.shelve("calm", 3600, ANA)
        rig.put(50, SOC)
        await settle()
        before = {status.spec.id: status for status in rig.book.alarms()}
        assert before["held"].hold_until_us is not None
        rig.clock.advance(60)
        after = rig.restarted(specs=[status.spec for status in before.values()]).start()
        assert after.stations.off == {"alarm:seen", "alarm:unseen", "alarm:held", "alarm:latched"}, (
            "before anything else"
        )
        for status in after.book.alarms():
            assert status == replace(before[status.spec.id], known=False)
        await settle()
        assert not after.heard, "nothing has happened"
        await after.wait(539)
        assert after.status("held").acting
        await after.wait(1)
        assert not after.status("held").acting
        await after.wait(3000, 300)
        assert after.told("alarm.unshelved").subject == "calm"
        await rig.book.close()
        await after.book.close()

    run(check)


@pytest.mark.parametrize("unknown", ["hold", "raise", "clear"])
def test_after_a_restart_it_is_active_until_something_is_heard(unknown: str) -> None:
    async def check() -> None:
        rig = Rig([hot(unknown=unknown)]).start()
        await rig.heat(60)
        after = rig.restarted().start()
        await after.wait(START_S - 1)
        assert after.status().active
        assert not after.heard
        await after.heat(40)
        assert after.kinds == ["alarm.cleared"]
        await rig.book.close()
        await after.book.close()

    run(check)


def test_shelving_ends_in_time_also_while_the_gateway_is_off() -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.book.shelve("hot", 600, ANA)
        rig.clock.advance(601)
        after = rig.restarted().start()
        await settle()
        assert after.kinds == ["alarm.unshelved"]
        await rig.book.close()
        await after.book.close()

    run(check)


@pytest.mark.parametrize("jump_s", [-56 * 365 * 86_400, -3600])
def test_shelving_is_never_longer_than_it_was_given_whatever_the_clock_says(jump_s: float) -> None:
    async def check() -> None:
        rig = Rig([hot()]).start()
        await rig.book.shelve("hot", 600, ANA)
        rig.clock.jump_wall(jump_s)
        after = rig.restarted().start()
        await after.wait(599)
        assert after.status().state is AlarmState.SHELVED
        await after.wait(1)
        assert after.status().state is AlarmState.NORMAL
        await rig.book.close()
        await after.book.close()

    run(check)


def test_an_order_is_not_repeated_by_a_restart() -> None:
    async def check() -> None:
        rig = Rig([hot(acts=(STOP,))]).start()
        await rig.heat(60)
        after = rig.restarted().start()
        await after.wait(2)
        assert not after.commands, "control had done it"
        after.done.clear()  # as if it had been killed before
        soon = after.restarted().start()
        await soon.wait(2)
        assert [command.id for command in soon.commands] == [rig.commands[0].id]
        soon.done.clear()
        soon.clock.advance(61)
        late = soon.restarted().start()
        await late.wait(2)
        assert not late.commands, "it would be one of old"
        for one in (rig, after, soon, late):
            await one.book.close()

    run(check)


def test_what_was_taken_out_while_the_gateway_was_off_ends() -> None:
    async def check() -> None:
        rig = Rig([hot(), low(), hot("calm")]).start()
        await rig.heat(60)
        rig.put(10, SOC)
        await settle()
        after = rig.restarted(specs=[hot("calm")]).start()
        await settle()
        assert sorted(after.kinds) == ["alarm.cleared", "rule.over"]
        assert set(after.notebook.notes("alarm")) == {"calm"}
        assert after.stations.off == {"alarm:calm"}
        await rig.book.close()
        await after.book.close()

    run(check)


@pytest.mark.announced_warnings
@pytest.mark.parametrize(
    "note",
    [
        {"alarm": True},
        {"alarm": True, "active": 1, "acknowledged": True, "inputs": {}},
        {"alarm": True, "active": True, "acknowledged": True, "inputs": [], "raised_count": 1},
        {"active": True},
    ],
)
def test_a_note_that_cannot_be_read_begins_anew(note: dict[str, object]) -> None:
    async def check() -> None:
        rig = Rig([hot()])
        await rig.notebook.write("alarm", "hot", note)
        assert rig.start().status().state is AlarmState.NORMAL
        await rig.heat(60)
        assert rig.status().active
        await rig.book.close()

    run(check)


def test_a_kill_at_any_step_loses_no_alarm_that_goes_on() -> None:
    """See ``test_alarms_killed.py`` for the whole life."""

    async def check() -> None:
        rig = Rig([hot()], killer=Killer(0)).start()
        await rig.heat(60)
        after = rig.restarted().start()
        assert not after.status().active, "it was never on disk"
        await after.heat(60)
        assert after.status().active
        await rig.book.close()
        await after.book.close()

    run(check)
