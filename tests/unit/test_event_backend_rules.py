"""What the event backend lists begins and ends here once, whatever is lost, refused or killed on the way."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.clock import FakeClock
from agent.core.errors import ConfigError
from agent.core.model import Event
from cloud_sync.backend_http import Answer, BackendError
from cloud_sync.backend_list import end_us, parse, title_of
from cloud_sync.event_backend import MAX_EVENTS, NOTE, EventBackend
from cloud_sync.settings import EventBackendSettings
from tests.control_fakes import NOON_US, FakeNotebook, Killer, run, settle

SETTINGS = EventBackendSettings("http://central.example/x/")


def at(hours: float) -> str:
    """So many hours after noon."""
    return datetime.fromtimestamp(NOON_US / 1e6 + hours * 3600, UTC).isoformat()


class Server:
    """A backend as it should be, with a network as it is: ``fate`` of the next questions, ``ok`` when there is none."""

    def __init__(self, **ends: str | None) -> None:
        self.states = dict.fromkeys(ends, "pending")
        self.ends = ends
        self.starts: dict[str, object] = {}
        self.hurt: set[str] = set()  #: events, and lists, that it fails over
        self.clock: FakeClock | None = None  #: that of who asks
        self.over: set[str] = set()  #: due to finish
        self.fate: list[str] = []
        self.asked: list[str] = []
        self.taken: list[str] = []

    async def ask(self, method: str, path: str, op: str) -> Answer:
        await asyncio.sleep(0)
        self.asked.append(f"{method} {path}")
        fate = self.fate.pop(0) if self.fate else "ok"
        if path.partition("/")[0] in self.hurt:
            raise BackendError(op, "it answers HTTP 500", unsure=True)
        if fate == "down":
            raise BackendError(op, "it can't be reached", unsure=True) from OSError()
        if fate == "slow" and self.clock is not None:
            self.clock.advance(SETTINGS.timeout_s)
            raise BackendError(op, "no answer within 10 s", unsure=True)
        if fate == "denied":
            raise BackendError(op, "it refuses the token")
        if method == "GET":
            return Answer(200, json.dumps(self._listed(path)).encode())
        if fate == "refuse":
            return Answer(409, b"")
        event_id, _, what = path.partition("/")
        self.taken.append(path)
        self.states[event_id] = "started" if what == "start" else "finished"
        if fate == "lost":
            raise BackendError(op, "no answer within 10 s", unsure=True)
        return Answer(200, b"")

    def _listed(self, path: str) -> list[dict[str, object]]:
        wanted = [
            one
            for one, state in self.states.items()
            if (state == "pending" if path == "pending-start" else state == "started" and one in self.over)
        ]
        found = [{"id": one, "name": f"event {one}", "end_date": self.ends[one]} for one in wanted]
        return [one | ({"start_date": self.starts[one["id"]]} if one["id"] in self.starts else {}) for one in found]


class UnwatchedClock(FakeClock):
    """One that nobody set."""

    def trusted(self) -> bool:
        return False


class Site:
    """A client of the server; ``again`` is the next process over the same notebook."""

    def __init__(
        self,
        server: Server,
        clock: FakeClock | None = None,
        kept: FakeNotebook | None = None,
        killer: Killer | None = None,
    ) -> None:
        self.server = server
        self.clock = server.clock = clock or FakeClock(NOON_US)
        self.notebook = FakeNotebook(killer, kept)
        self.recorded: list[Event] = []
        self.log: list[str] = []
        self.backend = EventBackend(
            SETTINGS,
            self.clock,
            self.notebook,
            self.recorded.append,
            lambda event_id, _: self.log.append(f"start {event_id}"),
            lambda event_id, _: self.log.append(f"finish {event_id}"),
        )
        self.backend._asker = server  # type: ignore[assignment]

    def again(self) -> "Site":
        return Site(self.server, self.clock, self.notebook)

    async def look(self, *fate: str) -> None:
        self.server.fate = list(fate)
        await self.backend.look()

    def told(self) -> list[str]:
        return [event.kind.removeprefix("event_backend.") for event in (*self.recorded, *self.notebook.events)]


def test_what_is_due_is_started_and_finished_there_and_here() -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=None))
        await site.look()
        await site.look()
        assert site.log == ["start a", "start b"]
        assert site.backend.going_on == {one: {"id": one, "name": f"event {one}", "end_date": None} for one in "ab"}
        site.server.over = {"a"}
        await site.look()
        await site.look()
        assert site.log == ["start a", "start b", "finish a"]
        assert list(site.backend.going_on) == ["b"]
        assert site.server.taken == ["a/start", "b/start", "a/finish"]
        assert sorted(site.told()) == ["finished", "started", "started"]
        assert list(site.notebook.notes(NOTE)) == ["b"]
        assert site.backend.counters() == {
            "rounds_total": 4,
            "failed_total": 0,
            "started_total": 2,
            "finished_total": 1,
            "refused_total": 0,
            "bad_entries_total": 0,
            "going_on": 1,
        }

    run(check)


@pytest.mark.announced_warnings
def test_an_answer_that_was_lost_is_known_by_the_next_list() -> None:
    async def check() -> None:
        site = Site(Server(a=None))
        await site.look("ok", "lost")
        assert (site.log, site.server.taken) == ([], ["a/start"])
        assert "no answer within 10 s" in site.backend.failing
        await site.look("down")
        assert site.log == []
        await site.look()
        assert (site.log, site.server.taken) == (["start a"], ["a/start"]), "it is not told again"
        site.server.over = {"a"}
        await site.look("ok", "ok", "lost")
        await site.look()
        assert (site.log, site.server.taken) == (["start a", "finish a"], ["a/start", "a/finish"])
        assert site.told() == ["failed", "back", "failed", "back", "started", "finished"]
        assert site.backend.going_on == {}

    run(check)


@pytest.mark.announced_warnings
def test_what_is_listed_again_is_told_again_and_begins_once() -> None:
    async def check() -> None:
        site = Site(Server(a=None))
        await site.look("ok", "down")
        await site.look("ok", "down")
        await site.look()
        assert site.log == ["start a"]
        site.server.states["a"] = "pending"  # it was reset over there
        await site.look()
        assert site.log == ["start a"]
        assert site.server.taken == ["a/start", "a/start"]

    run(check)


@pytest.mark.announced_warnings
def test_one_that_is_refused_holds_up_nobody_and_is_told_once() -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=None))
        for _ in range(3):
            await site.look("ok", "refuse")
        assert site.log == ["start b"]
        assert site.told().count("refused") == 1
        assert site.backend.failing == ""
        assert list(site.notebook.notes(NOTE)) == ["b"]
        site.server.over = {"b"}
        site.server.states["a"] = "gone"
        await site.look("ok", "ok", "refuse")
        assert site.log == ["start b", "finish b"], "it says itself that its end has come"

    run(check)


@pytest.mark.announced_warnings
def test_one_that_the_server_fails_over_holds_up_nobody() -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=None, c=None, d=None))
        site.server.states |= {"c": "started", "d": "started"}
        site.server.over, site.server.hurt = {"c", "d"}, {"a", "c"}
        for _ in range(3):
            await site.look()
        assert site.log == ["start b"]
        assert site.server.taken == ["b/start", "d/finish"]
        assert "start event a: it answers HTTP 500" in site.backend.failing
        site.server.hurt = {"c"}
        await site.look()
        assert "finish event c: it answers HTTP 500" in site.backend.failing
        site.server.hurt = set()
        await site.look()
        assert site.log == ["start b", "start a"]
        assert site.server.taken == ["b/start", "d/finish", "a/start", "c/finish"]
        assert [one for one in site.told() if one in {"failed", "back"}] == ["failed", "back"]
        assert site.backend.counters()["failed_total"] == 4

    run(check)


@pytest.mark.announced_warnings
@pytest.mark.parametrize("hurt", ["pending-start", "pending-finish"])
def test_a_list_that_can_not_be_had_holds_up_no_other(hurt: str) -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=None))
        site.server.states["b"], site.server.over, site.server.hurt = "started", {"b"}, {hurt}
        await site.look()
        assert site.server.taken == (["b/finish"] if hurt == "pending-start" else ["a/start"])
        assert site.backend.failing == f"ask for {hurt}: it answers HTTP 500"
        site.server.hurt = set()
        await site.look()
        assert sorted(site.server.taken) == ["a/start", "b/finish"]
        assert [one for one in site.told() if one in {"failed", "back"}] == ["failed", "back"]

    run(check)


@pytest.mark.announced_warnings
@pytest.mark.parametrize("fate", ["down", "denied"])
def test_where_nobody_answers_one_event_is_tried_and_the_other_list_asked(fate: str) -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=None, c=None, d=None))
        site.server.states["d"], site.server.over = "started", {"d"}
        await site.look("ok", fate)
        assert site.server.asked == ["GET pending-start", "POST a/start", "GET pending-finish", "POST d/finish"]
        await site.look("ok", "ok", fate)
        assert site.server.asked[4:] == ["GET pending-start", "POST b/start", "POST c/start", "GET pending-finish"]
        await site.look()
        assert site.log == ["start b", "start a", "start c"]

    run(check)


@pytest.mark.announced_warnings
def test_one_that_is_too_slow_has_its_thread_ended_before_the_other_list_is_asked() -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=None))
        looking = asyncio.ensure_future(site.look("ok", "slow"))
        await settle()
        assert site.server.asked == ["GET pending-start", "POST a/start"]
        site.clock.advance(SETTINGS.timeout_s)
        await looking
        assert site.server.asked[2:] == ["GET pending-finish"]
        await site.look()
        assert site.log == ["start b", "start a"]

    run(check)


@pytest.mark.announced_warnings
def test_what_is_due_to_finish_began_also_where_its_start_was_lost_just_now() -> None:
    async def check() -> None:
        site = Site(Server(a=None))
        site.server.over = {"a"}
        await site.look("ok", "lost")
        assert (site.log, site.server.taken) == (["start a", "finish a"], ["a/start", "a/finish"])
        assert [one for one in site.told() if one in {"started", "finished"}] == ["started", "finished"]

    run(check)


@pytest.mark.parametrize("start", ["2026-03-28T13:00:00Z", "2026-03-28T15:00:00+02:00"])
def test_what_is_listed_before_its_time_is_waited_for(start: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def check() -> None:
        site = Site(Server(a=None, b=at(1)))
        site.server.starts = {"a": start}
        site.server.states["b"], site.server.over = "started", {"b"}
        for _ in range(2):
            await site.look()
        assert (site.server.taken, site.notebook.notes(NOTE), site.backend.failing) == ([], {}, "")
        site.clock.advance(3597)
        await site.look()
        assert site.server.taken == []
        site.clock.advance(1)  # as near as two clocks are
        await site.look()
        assert site.server.taken == ["a/start", "b/finish"]
        assert len(caplog.messages) == 2, "one line for each list"

    run(check)


@pytest.mark.parametrize(
    "date",
    ["2026-03-28T13:00:00", "2026-03-29", "2026-03-28T12:00:01Z", "2020-01-01T00:00:00Z", "soon", "", None, 1 << 60],
)
def test_what_has_no_time_to_compare_is_due_because_it_is_listed(date: str | None) -> None:
    async def check() -> None:
        site = Site(Server(a=None, b=date))
        site.server.starts = {"a": date}
        site.server.states["b"], site.server.over = "started", {"b"}
        await site.look()
        assert site.server.taken == ["a/start", "b/finish"]

    run(check)


@pytest.mark.parametrize("clock", [UnwatchedClock(NOON_US), FakeClock()])
def test_a_clock_that_is_not_believed_leaves_the_time_to_the_server(clock: FakeClock) -> None:
    async def check() -> None:
        site = Site(Server(a=None), clock)
        site.server.starts = {"a": at(1)}
        await site.look()
        assert site.log == ["start a"]

    run(check)


@pytest.mark.announced_warnings
def test_what_is_put_off_after_a_lost_start_may_yet_be_called_off() -> None:
    async def check() -> None:
        site = Site(Server(a=None))
        await site.look("ok", "down")
        site.server.starts = {"a": at(24)}
        await site.look()
        assert site.notebook.notes(NOTE) == {}
        del site.server.states["a"]
        await site.look()
        assert (site.log, site.server.taken) == ([], [])

    run(check)


@pytest.mark.announced_warnings
def test_a_token_that_is_refused_leaves_nothing_begun() -> None:
    async def check() -> None:
        site = Site(Server(a=None))
        await site.look("ok", "denied")
        assert site.notebook.notes(NOTE) == {}
        site.server.states.clear()  # somebody else took it
        await site.look()
        assert site.log == []
        assert site.told() == ["failed", "back"]

    run(check)


@pytest.mark.announced_warnings
def test_what_goes_on_ends_at_its_time_without_a_network() -> None:
    async def check() -> None:
        site = Site(Server(a=at(1), b=at(-1), c="2026-03-28T11:00:00"))
        await site.look()
        assert site.log == ["start a", "start c"], "b is over; of c nobody knows the zone"
        assert sorted(site.server.taken) == ["a/start", "b/start", "c/start"]
        site.clock.advance(3599)
        await site.look("down")
        assert site.log == ["start a", "start c"]
        site.clock.advance(1)
        for _ in range(2):
            await site.look("down")
        assert site.log == ["start a", "start c", "finish a"]
        site.server.over = {"a", "b"}
        await site.look()
        assert site.server.taken[3:] == ["a/finish", "b/finish"]
        assert site.log == ["start a", "start c", "finish a"]
        assert list(site.notebook.notes(NOTE)) == ["c"]

    run(check)


def test_what_began_before_a_restart_goes_on_after_it() -> None:
    async def check() -> None:
        site = Site(Server(a="2026-03-28T17:00:00"))
        await site.look()
        later = site.again()
        assert later.backend.going_on == site.backend.going_on
        await later.look()
        assert later.log == []
        later.server.over = {"a"}
        await later.look()
        assert later.log == ["finish a"]

    run(check)


def test_what_began_elsewhere_is_only_finished_over_there() -> None:
    async def check() -> None:
        site = Site(Server(a=None))
        site.server.states["a"], site.server.over = "started", {"a"}
        await site.look()
        site.server.states["a"] = "started"  # it forgets
        await site.look()
        assert site.log == []
        assert site.server.taken == ["a/finish"] * 2
        assert site.told() == ["finished"]

    run(check)


def test_killed_at_any_step_each_begins_once_and_ends_once() -> None:
    async def check() -> None:
        for at_step in range(40):
            killer = Killer(at_step)
            site = Site(Server(a=None, b=at(2)), killer=killer)

            async def life(site: Site = site) -> None:
                await site.look()
                site.server.over = {"a"}
                await site.look()

            alive = asyncio.ensure_future(life())
            await settle(200)
            dead = not alive.done()
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
            later = site.again()
            going_on = set(later.backend.going_on)
            await later.look()
            later.server.over = {"a"}
            await later.look()
            begun = {one.removeprefix("start ") for one in later.log if one.startswith("start")}
            assert not begun & going_on, f"killed at {at_step}"
            assert set(later.backend.going_on) == {"b"}, f"killed at {at_step}"
            assert later.server.states == {"a": "finished", "b": "started"}
            ledger = [
                (one.kind, one.subject) for one in (*site.notebook.events, *later.notebook.events, *later.recorded)
            ]
            assert sorted(ledger) == [
                ("event_backend.finished", "a"),
                ("event_backend.started", "a"),
                ("event_backend.started", "b"),
            ], f"killed at {at_step}"
            if not dead:
                break
        assert at_step > 8

    run(check)


@pytest.mark.announced_warnings
def test_a_store_that_takes_nothing_starts_nothing_and_stops_no_end() -> None:
    async def check() -> None:
        site = Site(Server(a=at(1), b=None))
        await site.look()
        site.server.states["c"], site.server.ends["c"] = "pending", None
        site.notebook.failing = True
        await site.look()
        assert "disk is full" in site.backend.failing
        assert "c/start" not in site.server.taken
        site.clock.advance(3600)
        await site.look()
        assert site.log == ["start a", "start b", "finish a"]
        site.notebook.failing = False
        site.server.states["c"] = "gone"
        await site.look()
        assert site.backend.failing == ""
        assert list(site.again().backend.going_on) == ["b"]

    run(check)


@pytest.mark.announced_warnings
def test_so_many_are_held_and_those_that_do_nothing_make_room() -> None:
    async def check() -> None:
        site = Site(Server(old=at(-1), **{f"e{number}": None for number in range(MAX_EVENTS - 1)}))
        await site.look()
        assert (len(site.notebook.notes(NOTE)), site.backend.failing) == (MAX_EVENTS, "")
        for name in ("new", "more"):
            site.server.states[name], site.server.ends[name] = "pending", None
        await site.look()
        assert site.log[-1] == "start new"
        assert "go on here already" in site.backend.failing
        site.server.states["more"] = "gone"
        await site.look()
        assert set(site.notebook.notes(NOTE)) == set(site.backend.going_on)
        assert len(site.backend.going_on) == MAX_EVENTS

    run(check)


@pytest.mark.announced_warnings
def test_a_note_that_can_not_be_read_is_left_out() -> None:
    async def check() -> None:
        site = Site(Server())
        for key, note in (("a", {}), ("b", {"data": 5}), ("c", {"data": {}, "state": "x", "acting": True})):
            await site.notebook.write(NOTE, key, note)
        assert site.again().backend.going_on == {}

    run(check)


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        ('[{"id": 7}, {"id": "seven"}, {"id": 7}, {"id": -1}]', ["7", "seven", "-1"]),
        ('{"results": [{"id": 1}], "next": null}', ["1"]),
        ('{"events": [{"id": 1}]}', ["1"]),
        ("[]", []),
        ('[{}, 5, null, {"id": true}, {"id": 1.5}, {"id": ""}, {"id": ".."}, {"id": "a\\nb"}, {"id": null}]', []),
        (f'[{{"id": "{"x" * 101}"}}, {{"id": "\\ud800"}}]', []),
    ],
)
def test_lists_that_can_be_read(body: str, ids: list[str]) -> None:
    assert list(parse("x", body.encode()).events) == ids


def test_a_page_of_a_list_is_no_whole_list() -> None:
    assert not parse("x", b'{"results": [], "next": "http://central.example/?page=2"}').whole
    assert parse("x", b"[1, {}]").bad == 2


@pytest.mark.parametrize(
    "body", [b"", b"{", b"5", b"{}", b'{"events": {}}', b"<html>", b"[" * 100_000, b"\xff", b'[{"id": 1' + b"0" * 5000]
)
def test_what_is_no_list(body: bytes) -> None:
    with pytest.raises(BackendError):
        parse("x", body)


def test_what_is_kept_of_an_event_is_short_and_plain() -> None:
    entry = {"id": 1, "name": "x" * 201, "who": {"a": 1}, "many": 1 << 70, "\ud800": 1, "ok": "ñ", "end_date": "soon"}
    (data,) = parse("x", json.dumps([entry | {f"k{number}": number for number in range(50)}]).encode()).events.values()
    assert list(data)[:3] == ["id", "ok", "end_date"]
    assert len(data) == 30
    assert (end_us(data), title_of("1", data), title_of("1", {"title": "T"})) == (None, "1", "T")
    assert end_us({"end_date": "2026-03-28T13:00:00+01:00"}) == NOON_US


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x", "no server's address"),
        ("http://", "no server's address"),
        ("http://a:b@x", "user name or password"),
        ("http://x:99999", "its url is none"),
        ("http://x/?a=1", "behind its path"),
    ],
)
def test_urls_that_can_not_work(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        EventBackendSettings(url)
    assert "b@" not in str(caught.value)


def test_a_token_is_one_word(tmp_path: Path) -> None:
    path = tmp_path / "token"
    one = EventBackendSettings("http://x", path)
    with pytest.raises(ConfigError, match="No such file"):
        one.token()
    path.write_text("s3cret\n")
    assert one.token() == "s3cret"
    for wrong in (b"", b"two words\n", b"two\nlines", "señal".encode(), b"\xff\xfe"):
        path.write_bytes(wrong)
        with pytest.raises(ConfigError) as caught:
            one.token()
        assert "two" not in str(caught.value)
    assert EventBackendSettings("http://x").token() is None


fates = st.lists(st.sampled_from(["ok", "ok", "lost", "down", "denied"]), max_size=6)


async def live(script: Sequence[tuple[str, list[str]]], server: Server) -> tuple[list[str], Mapping[str, object]]:
    """What was called in all processes, and what goes on at the end, when all was well at last."""
    site, log = Site(server), []
    for what, fate in script:
        if what == "restart":
            log += site.log
            going = dict(site.backend.going_on)
            site = site.again()
            assert site.backend.going_on == going
        elif what in server.states:
            server.over.add(what)
        with contextlib.suppress(BackendError):
            await site.look(*fate)
    for _ in range(3):
        await site.look()
    assert site.backend.failing == ""
    return log + site.log, site.backend.going_on


@pytest.mark.announced_warnings
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["restart", "look", "a", "b"]), fates), max_size=12))
def test_whatever_is_lost_each_begins_once_and_ends_once(script: list[tuple[str, list[str]]]) -> None:
    async def check() -> None:
        server = Server(a=None, b=None)
        log, going_on = await live(script, server)
        for one in "ab":
            ended = one in server.over
            assert server.states[one] == ("finished" if ended else "started")
            assert [entry for entry in log if entry.endswith(one)] == [f"start {one}", f"finish {one}"][: 1 + ended]
            assert (one in going_on) is not ended

    asyncio.run(check())
