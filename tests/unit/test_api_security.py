"""What a password costs, who can lock whom out, what the ledger is told, who is logged in, and the level of the log."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher, extract_parameters
from hypothesis import given
from hypothesis import strategies as st

from agent.api.auth import EVENTS_BUCKET, EVENTS_REFILL_S
from agent.api.log_level import OURS, LogLevel
from agent.api.passwords import FILE, LEAST_S, MOST_S, Cost, CostBook, Passwords, choose
from agent.api.throttle import GUESSES_AN_HOUR, MAX_PLACES, Throttle
from agent.api.users import Role, UserBook
from agent.core.clock import FakeClock
from tests.fake_view import START_US
from tests.unit.api_rig import ELSEWHERE, PASSWORD, Rig, problem

OFFICE, STRANGER = "10.0.0.77", "203.0.113.5"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


class WorkingClock(FakeClock):
    """A clock of a machine on which each look at it comes so much later: all work takes that long."""

    def __init__(self, look_s: float) -> None:
        super().__init__(START_US)
        self.look_s = look_s

    def monotonic_s(self) -> float:
        self.advance(self.look_s)
        return super().monotonic_s()


@given(st.floats(1e-9, 1e-4), st.floats(0, 0.5))
def test_the_cost_is_between_a_quarter_and_half_a_second_where_that_can_be(
    per_pass_kib_s: float, fixed_s: float
) -> None:
    """On any machine whose time grows with memory and passes; never less than OWASP's least."""

    def measure(cost: Cost) -> float:
        return fixed_s + cost.memory_kib * cost.passes * per_pass_kib_s

    cost = choose(measure)
    assert (cost.memory_kib, cost.passes) >= (19_456, 2) or (cost.memory_kib >= 47_104 and cost.passes >= 1)
    took_s = measure(cost)
    if took_s > MOST_S:
        assert cost == Cost(memory_kib=19_456, passes=2), "the least that is allowed is too much already"
    elif took_s < LEAST_S and cost.passes < 12:
        assert measure(Cost(memory_kib=cost.memory_kib, passes=cost.passes + 1)) > MOST_S, "more would be too much"


def test_the_cost_is_measured_once_and_is_the_same_for_the_command_line(tmp_path: Path) -> None:
    first = CostBook(tmp_path, WorkingClock(0.3)).hasher()
    again = CostBook(tmp_path, WorkingClock(9)).hasher()
    assert (first.memory_cost, first.time_cost, first.parallelism) == (65_536, 2, 1)
    assert (again.memory_cost, again.time_cost) == (first.memory_cost, first.time_cost)
    (tmp_path / FILE).unlink()
    slow = CostBook(tmp_path, WorkingClock(9)).hasher()
    assert (slow.memory_cost, slow.time_cost) == (19_456, 2)


def test_a_hash_of_another_cost_is_made_anew_at_log_in_and_nothing_ends(rig: Rig) -> None:
    before = rig.tokens_of()
    old = rig.auth.users.get("viewer")
    assert old is not None
    rig.auth.passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1))
    problem(rig.log_in(password="not this one"), 401)  # noqa: S106 - of tests
    assert rig.auth.users.get("viewer") == old
    rig.clock.advance(2)
    rig.tokens_of()
    new = rig.auth.users.get("viewer")
    assert new is not None
    assert extract_parameters(new.password).time_cost == 2
    assert (new.stamp, new.tokens) == (old.stamp, old.tokens)
    assert rig.call("GET", "/api/signals", token=before["access_token"]).status_code == 200


def test_a_hash_is_not_put_over_a_password_that_was_changed_meanwhile(tmp_path: Path) -> None:
    users = UserBook(tmp_path)
    users.add("ana", Role.ADMIN, "first")
    users.set_password("ana", "second")
    users.renew_hash("ana", "first", "stale")
    users.renew_hash("nobody", "first", "stale")
    assert [user.password for user in users.all()] == ["second"]


def guess_until_locked(rig: Rig, address: str) -> None:
    for _ in range(GUESSES_AN_HOUR):
        problem(rig.log_in("viewer", "wrong", address), 401)
        rig.clock.advance(min(int(rig.log_in("viewer", "x", address).headers.get("retry-after", 0)), 300))
    problem(rig.log_in("viewer", PASSWORD, address), 429)


def test_a_stranger_locks_out_strangers_and_not_who_is_known_there(rig: Rig) -> None:
    """Who is logged in goes on, who logs in from where he did before gets in, and so does the machine itself."""
    assert rig.log_in(address=OFFICE).status_code == 200
    tokens = rig.tokens_of()
    cookie = rig.call("POST", "/api/auth/login", json={"username": "viewer", "password": PASSWORD, "cookie": True})
    guess_until_locked(rig, STRANGER)
    problem(rig.log_in(address="198.51.100.4"), 429)
    refreshed = rig.call("POST", "/api/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
    assert refreshed.status_code == 200
    value = cookie.headers["set-cookie"].partition(";")[0]
    assert rig.call("GET", "/api/signals", headers={"cookie": value}).status_code == 200
    assert rig.call("GET", "/api/signals", Role.VIEWER).status_code == 200
    assert rig.log_in(address=OFFICE).status_code == 200
    assert rig.log_in(address="127.0.0.1").status_code == 200
    problem(rig.log_in(address=STRANGER), 429)


def test_a_known_place_has_ten_guesses_an_hour_as_well(rig: Rig) -> None:
    assert rig.log_in(address=OFFICE).status_code == 200
    guess_until_locked(rig, OFFICE)
    assert rig.log_in(address=ELSEWHERE).status_code == 200, "strangers have their own"


def test_so_many_places_are_known_the_one_used_last_longest() -> None:
    throttle = Throttle(FakeClock(START_US))
    for number in range(MAX_PLACES + 1):
        throttle.succeeded("ana", f"10.0.1.{number}")
        throttle.succeeded("ana", "10.0.1.0")
    places = throttle._places["ana"]
    assert len(places) == MAX_PLACES
    assert "10.0.1.0" in places
    assert "10.0.1.1" not in places
    for number in range(2000):
        throttle.succeeded(f"user{number}", ELSEWHERE)
    assert len(throttle._places) <= 1000


def test_a_lock_and_a_reused_token_stand_in_the_ledger_with_their_address(rig: Rig) -> None:
    tokens = rig.tokens_of("operator")
    body = {"refresh_token": tokens["refresh_token"]}
    fresh = rig.call("POST", "/api/auth/refresh", json=body).json()
    problem(rig.call("POST", "/api/auth/refresh", json=body, address=STRANGER), 401)
    told = rig.audit()[-1]
    assert told == ("user:operator", "refresh", STRANGER, "refused: the token was used before, its log-in ends")
    guess_until_locked(rig, STRANGER)
    locks = [one for one in rig.audit() if one[1] == "lock account"]
    assert [one[:3] for one in locks] == [("user:viewer", "lock account", STRANGER)]
    assert "min after wrong guesses" in str(locks[0][3])
    for secret in (tokens["refresh_token"], fresh["refresh_token"], PASSWORD):
        assert secret not in str(rig.told)


def test_strangers_cant_fill_the_ledger(rig: Rig) -> None:
    """However many guess from however many addresses; what is left out is counted."""

    def guess(number: int) -> None:
        problem(rig.log_in(f"nobody{number}", "wrong", f"10.1.{number // 250}.{number % 250}"), 401)

    for number in range(round(EVENTS_BUCKET) + 15):
        guess(number)
    assert len(rig.told) == EVENTS_BUCKET
    rig.clock.advance(EVENTS_REFILL_S)
    guess(1000)
    assert len(rig.told) == EVENTS_BUCKET + 1
    assert rig.told[-1].data["left_out"] == 15
    rig.call("DELETE", "/api/users/viewer", Role.ADMIN)
    assert rig.audit()[-1] == ("user:admin", "remove user", "viewer", "done"), "what an admin does is always told"


def test_who_is_logged_in_now(rig: Rig) -> None:
    rig.tokens_of("operator")
    rig.clock.advance(60)
    cookie = rig.call("POST", "/api/auth/login", json={"username": "viewer", "password": PASSWORD, "cookie": True})
    value = {"cookie": cookie.headers["set-cookie"].partition(";")[0]}
    rig.clock.advance(60)
    assert rig.call("GET", "/api/signals", headers=value).status_code == 200
    page = rig.call("GET", "/api/users/active?page_size=1", Role.ADMIN).json()
    assert page["total"] == 2
    assert page["items"] == [
        {
            "username": "viewer",
            "role": "viewer",
            "kind": "browser",
            "since": "2023-11-14T22:14:20.000000Z",
            "last_seen": "2023-11-14T22:15:20.000000Z",
        }
    ]
    answer = rig.call("GET", "/api/users/active", Role.ADMIN)
    assert [(one["username"], one["kind"]) for one in answer.json()["items"]] == [
        ("viewer", "browser"),
        ("operator", "program"),
    ]
    rig.call("DELETE", "/api/users/operator", Role.ADMIN)
    rig.clock.advance(13 * 3600)
    assert rig.call("GET", "/api/users/active", Role.ADMIN).json()["total"] == 0


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    yield logging.getLogger()
    logging.getLogger().setLevel(before)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("root")
def test_more_is_logged_for_a_while_by_our_own_loggers_only(rig: Rig) -> None:
    levels: LogLevel = rig.app.state.log_level
    usual = {"level": "info", "configured": "info", "for_s": None}
    assert rig.call("GET", "/api/system/log-level", Role.ADMIN).json() == usual
    changed = rig.call("PUT", "/api/system/log-level", Role.ADMIN, json={"level": "debug", "for_s": 60})
    assert changed.json() == {"level": "debug", "configured": "info", "for_s": 60}
    assert logging.getLogger("drivers.can.bus").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("websockets.server").isEnabledFor(logging.DEBUG)
    assert rig.audit()[-1] == ("user:admin", "log debug for 60 s", "log", "done")

    async def pass_time(seconds: float) -> None:
        task = asyncio.create_task(levels.run())
        for _ in range(3):
            await asyncio.sleep(0)
        rig.clock.advance(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
        found = logging.getLogger("agent").isEnabledFor(logging.DEBUG)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert found == (seconds < 60)

    asyncio.run(pass_time(61))
    assert rig.call("GET", "/api/system/log-level", Role.ADMIN).json() == usual
    rig.call("PUT", "/api/system/log-level", Role.ADMIN, json={"level": "error", "for_s": 60})
    assert not logging.getLogger("agent.x").isEnabledFor(logging.WARNING)
    rig.call("PUT", "/api/system/log-level", Role.ADMIN, json={"level": "debug", "for_s": 60})
    asyncio.run(pass_time(30))
    assert rig.call("GET", "/api/system/log-level", Role.ADMIN).json() == usual, "the end of the API ends it as well"


@pytest.mark.parametrize(
    "body", [{"level": "trace"}, {"level": "debug", "for_s": 0}, {"level": "debug", "for_s": 90_000}]
)
def test_other_levels_and_times_are_refused(rig: Rig, body: dict[str, object]) -> None:
    problem(rig.call("PUT", "/api/system/log-level", Role.ADMIN, json=body), 422)
