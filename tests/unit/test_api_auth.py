"""Set-up, log-in, tokens, cookies, roles: who gets in and who does not."""

import asyncio
import json
import re
import stat
from pathlib import Path

import httpx
import pytest

from agent.api.access import FORM, LOGIN
from agent.api.auth import _LETTERS, Caller, DeniedError, cookie_header
from agent.api.logins import ACCESS_S, COOKIE_IDLE_S, LOGIN_S, MAX_LOGINS_OF_USER
from agent.api.passwords import MAX_WAITING, BusyError, Passwords
from agent.api.users import Role, UserBook, UserError
from agent.core.errors import StoreError
from tests.fake_view import START_US
from tests.unit.api_rig import ELSEWHERE, PASSWORD, Json, Rig, problem

NONE = "nonsense"


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One for all tests that only see inputs refused: to make it costs more than they do."""
    return Rig(Path(tmp_path_factory.mktemp("steady")))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> Rig:
    return Rig(tmp_path, users=False)


def test_before_set_up_there_is_nothing_but_set_up(fresh: Rig) -> None:
    assert fresh.call("GET", "/api/system/health").json() == {"status": "degraded"}
    assert fresh.call("GET", "/api/auth/setup").json() == {"needed": True}
    problem(fresh.log_in("admin"), 403, "set it up first")
    problem(fresh.call("POST", "/api/auth/refresh", json={"refresh_token": "a.b"}), 401)


def set_up(rig: Rig, code: str, password: str = PASSWORD) -> httpx.Response:
    return rig.call("POST", "/api/auth/setup", json={"code": code, "username": "Ana", "password": password})


def test_the_code_makes_one_admin_and_then_nothing(fresh: Rig) -> None:
    problem(set_up(fresh, "K7QF-2M9X-0ZHT-51WD"), 403, "not the code")
    fresh.clock.advance(10)
    old = fresh.auth.new_code()
    code = fresh.auth.new_code()
    problem(set_up(fresh, old), 403)
    fresh.clock.advance(10)
    problem(set_up(fresh, code, "short"), 422, "fewer than 10")
    problem(set_up(fresh, code, "x" * 20), 422)
    spoken = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    answer = set_up(fresh, spoken)
    assert answer.status_code == 200, answer.text
    token = answer.json()["access_token"]
    assert fresh.call("GET", "/api/auth/me", token=token).json() == {"username": "ana", "role": "admin"}
    assert fresh.call("GET", "/api/auth/setup").json() == {"needed": False}
    problem(set_up(fresh, code), 409, "already")
    problem(set_up(fresh, fresh.auth.new_code()), 409, "already")
    assert ("user:ana", "set-up", ELSEWHERE, "done") in fresh.audit()
    assert ("unknown", "set-up", ELSEWHERE, "refused: wrong code") in fresh.audit()


def test_codes_are_80_random_bits(fresh: Rig) -> None:
    codes = {fresh.auth.new_code() for _ in range(100)}
    assert len(codes) == 100
    assert all(re.fullmatch(r"([0-9A-Z]{4}-){3}[0-9A-Z]{4}", code) for code in codes)
    assert len(_LETTERS) == 32
    assert not set("ILOU") & set(_LETTERS)


def test_guesses_of_the_code_are_slowed_down_for_the_address_that_makes_them(fresh: Rig) -> None:
    code = fresh.auth.new_code()
    for _ in range(10):
        problem(set_up(fresh, "0000"), 403)
    assert set_up(fresh, code).headers["retry-after"] == "180"
    body = {"code": code, "username": "ana", "password": PASSWORD}
    answer = fresh.call("POST", "/api/auth/setup", json=body, address="10.0.0.77")
    assert answer.status_code == 200, "nobody can lock the owner out of set-up"


def test_who_proves_nothing_may_ask_a_hundred_times(rig: Rig) -> None:
    health, token = "/api/system/health", rig.tokens[Role.VIEWER]
    for _ in range(99):
        assert rig.call("GET", health).status_code == 200
    wrong = {"authorization": "Bearer nonsense"}
    problem(rig.call("GET", "/api/signals", headers=wrong), 401)
    answer = rig.call("GET", health)
    problem(answer, 429, "prove nothing")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    problem(rig.call("GET", "/", headers=wrong), 429)
    assert rig.call("GET", health, token=token).status_code == 200, "who proves it is served"
    assert rig.call("GET", health, address="10.0.0.10").status_code == 200
    assert rig.call("GET", health, address="127.0.0.1").status_code == 200
    rig.clock.advance(5)
    assert [rig.call("GET", health).status_code for _ in range(11)] == [200] * 10 + [429]


def test_an_admin_made_by_the_command_line_ends_set_up(fresh: Rig) -> None:
    code = fresh.auth.new_code()
    problem(fresh.log_in("admin"), 403)
    Rig(fresh.folder)  # another process adds users to the same folder
    assert fresh.log_in("admin").status_code == 200
    problem(set_up(fresh, code), 409)


def test_log_in_as_a_form_and_as_json(rig: Rig) -> None:
    given = {"username": "Viewer", "password": PASSWORD}
    as_form: Json = {"data": given | {"grant_type": "password"}}
    for sent in ({"json": given}, as_form):
        answer = rig.call("POST", LOGIN, **sent)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["token_type"], body["expires_in"]) == ("bearer", 900)
        assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert "set-cookie" not in answer.headers
        assert rig.call("GET", "/api/signals", token=body["access_token"]).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        {"json": {"username": "viewer"}},
        {"json": {"username": "viewer", "password": PASSWORD, "more": 1}},
        {"json": {"username": 5, "password": PASSWORD}},
        {"json": ["viewer", PASSWORD]},
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b'{"username": "\\ud800", "password": "x"}', "headers": {"content-type": "application/json"}},
        {"content": b"\xff\xfe", "headers": {"content-type": "application/json"}},
        {"data": {"username": "viewer"}},
        {"data": {str(n): "x" for n in range(100)}},
        {"content": b"username=%ff&password=\xff", "headers": {"content-type": FORM}},
    ],
)
def test_a_log_in_that_is_none_is_refused(steady: Rig, sent: Json) -> None:
    problem(steady.call("POST", LOGIN, **sent), 422, "username and password")


def test_log_in_takes_no_other_kind_of_body(rig: Rig) -> None:
    problem(rig.call("POST", LOGIN, content=b"x", headers={"content-type": "text/plain"}), 415)


def test_a_wrong_password_and_an_unknown_user_look_alike(rig: Rig) -> None:
    wrong = problem(rig.log_in("viewer", "not this one at all"), 401)
    unknown = problem(rig.log_in("nobody", "not this one at all"), 401)
    assert wrong == unknown
    results = [one[:2] for one in rig.audit()]
    assert results == [("user:viewer", "log-in"), ("unknown", "log-in")]
    assert "nobody" not in str(rig.told), "people type passwords there"
    assert "not this" not in str(rig.told)


def test_an_account_waits_longer_after_each_wrong_guess(rig: Rig) -> None:
    for failures in range(1, 10):
        problem(rig.log_in("viewer", "wrong"), 401)
        pause_s = min(2 ** (failures - 1), 300)
        answer = rig.log_in()
        problem(answer, 429, "too many wrong guesses")
        assert answer.headers["retry-after"] == str(pause_s)
        rig.clock.advance(pause_s - 0.5)
        problem(rig.log_in(), 429)
        rig.clock.advance(0.5 + 1)
    problem(rig.log_in("viewer", "wrong", "10.0.0.10"), 401)
    wait_s = int(rig.log_in().headers["retry-after"])
    assert 3600 - 600 < wait_s < 3600, "ten guesses in an hour"
    assert rig.log_in("operator").status_code == 200, "others are not concerned"
    rig.clock.jump_wall(86_400 * 365)
    problem(rig.log_in(), 429)
    rig.clock.advance(wait_s + 1)
    assert rig.log_in().status_code == 200
    problem(rig.log_in("viewer", "wrong"), 401)
    assert rig.log_in().headers["retry-after"] == "1", "the right password made it forget"


def test_an_address_has_a_bucket_of_guesses_and_the_machine_itself_none(rig: Rig) -> None:
    for number in range(10):
        problem(rig.log_in(f"user{number}", address="10.0.0.66"), 401)
    answer = rig.log_in(address="10.0.0.66")
    problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 180
    assert rig.log_in(address="10.0.0.67").status_code == 200
    for number in range(10, 40):
        problem(rig.log_in(f"user{number}", address="127.0.0.1"), 401)
    assert rig.log_in(address="127.0.0.1").status_code == 200
    rig.clock.advance(181)
    assert rig.log_in(address="10.0.0.66").status_code == 200


def test_guesses_sent_at_once_are_counted_one_by_one(rig: Rig) -> None:
    async def main() -> list[int]:
        transport = httpx.ASGITransport(rig.app, client=(ELSEWHERE, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            body = {"username": "viewer", "password": "wrong"}
            answers = await asyncio.gather(*(client.post(LOGIN, json=body) for _ in range(6)))
            return [answer.status_code for answer in answers]

    assert sorted(asyncio.run(main())) == [401, 429, 429, 429, 429, 429]


def test_only_a_few_wait_for_their_password_to_be_checked() -> None:
    passwords = Passwords()

    async def main() -> None:
        async with passwords.turn(), asyncio.timeout(60):
            waiting = [asyncio.create_task(take()) for _ in range(MAX_WAITING - 1)]
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                async with passwords.turn():
                    pass
        await asyncio.gather(*waiting)
        async with passwords.turn():
            pass

    async def take() -> None:
        async with passwords.turn():
            pass

    asyncio.run(main())


def test_the_real_parameters_are_those_of_rfc_9106() -> None:
    known = Passwords().hash(PASSWORD)
    assert known.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert asyncio.run(Passwords().verify(known, PASSWORD))
    assert not asyncio.run(Passwords().verify(known, PASSWORD + "x"))
    assert not asyncio.run(Passwords().verify("nonsense", PASSWORD))
    # An unknown user costs the same.
    nobody = Passwords()._nobody
    assert nobody.rpartition("$")[0].rpartition("$")[0] == known.rpartition("$")[0].rpartition("$")[0]
    assert len(nobody) == len(known)
    assert not asyncio.run(Passwords().verify(None, PASSWORD))


def test_a_letter_is_the_same_however_a_keyboard_sends_it() -> None:
    passwords = Passwords()
    assert asyncio.run(passwords.verify(passwords.hash("contrase\u00f1a larga"), "contrasen\u0303a larga"))


def test_access_tokens_end_after_a_quarter_of_an_hour_by_monotonic_time(rig: Rig) -> None:
    token = rig.tokens_of()["access_token"]
    rig.clock.jump_wall(-86_400 * 365 * 30)
    rig.clock.advance(ACCESS_S - 1)
    assert rig.call("GET", "/api/signals", token=token).status_code == 200
    rig.clock.advance(2)
    problem(rig.call("GET", "/api/signals", token=token), 401)


def refresh(rig: Rig, token: str) -> httpx.Response:
    return rig.call("POST", "/api/auth/refresh", json={"refresh_token": token})


def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_log_in(rig: Rig) -> None:
    other = rig.tokens_of()
    first = rig.tokens_of()
    second = refresh(rig, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    third = refresh(rig, second["refresh_token"]).json()
    assert rig.call("GET", "/api/signals", token=third["access_token"]).status_code == 200
    problem(refresh(rig, first["refresh_token"]), 401, "log-in has ended")
    problem(refresh(rig, third["refresh_token"]), 401)
    for tokens in (first, second, third):
        problem(rig.call("GET", "/api/signals", token=tokens["access_token"]), 401)
    assert refresh(rig, other["refresh_token"]).status_code == 200, "another log-in of the same user goes on"


@pytest.mark.parametrize("beside", ["refresh", "log out", "remove"])
def test_a_log_in_that_ends_while_it_is_refreshed_gives_no_tokens(rig: Rig, beside: str) -> None:
    """Trial t3: of several refreshes with one token one was a KeyError, as was one beside a log-out."""
    tokens = rig.tokens_of()
    name = tokens["refresh_token"].partition(".")[0]

    async def other() -> None:
        if beside == "refresh":
            await rig.auth.refresh(tokens["refresh_token"], ELSEWHERE)
        elif beside == "log out":
            await rig.auth.log_out(Caller("viewer", Role.VIEWER, "", name))
        else:
            rig.auth.users.remove("viewer")

    async def main() -> tuple[object, object]:
        renewing = rig.auth.refresh(tokens["refresh_token"], ELSEWHERE)
        return await asyncio.gather(renewing, other(), return_exceptions=True)

    renewed, ended = asyncio.run(main())
    for found in (renewed, ended) if beside == "refresh" else (renewed,):
        assert isinstance(found, DeniedError), found
        assert (found.status, "log-in has ended" in found.reason) == (401, True)
    problem(refresh(rig, tokens["refresh_token"]), 401)
    problem(rig.call("GET", "/api/signals", token=tokens["access_token"]), 401)
    reused = [one for one in rig.audit() if one[1] == "refresh"]
    assert len(reused) == (beside == "refresh"), "a token that came twice is told, once"


@pytest.mark.parametrize("cookie", [False, True])
def test_a_user_who_goes_during_the_log_in_is_not_logged_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, cookie: bool
) -> None:
    def audit(who: str | None, *_: object, **__: object) -> None:  # told when the password was right
        rig.auth.users.remove(str(who))

    monkeypatch.setattr(rig.auth, "audit", audit)
    body = {"username": "viewer", "password": PASSWORD, "cookie": cookie}
    problem(rig.call("POST", LOGIN, json=body), 401, "ended while it was made")


@pytest.mark.parametrize("token", ["", ".", "x", "x.y", "." * 200, "é.ñ", "a" * 32 + ".b"])
def test_what_is_no_refresh_token_is_refused(steady: Rig, token: str) -> None:
    problem(refresh(steady, token), 401)


def test_log_ins_outlive_a_restart_and_access_tokens_do_not(rig: Rig) -> None:
    tokens = rig.tokens_of()
    rig.restart()
    problem(rig.call("GET", "/api/signals", token=tokens["access_token"]), 401)
    renewed = refresh(rig, tokens["refresh_token"])
    assert renewed.status_code == 200
    rig.restart()
    problem(refresh(rig, tokens["refresh_token"]), 401)
    problem(refresh(rig, renewed.json()["refresh_token"]), 401)


def test_a_log_in_lives_30_days_at_most(rig: Rig) -> None:
    token = rig.tokens_of()["refresh_token"]
    for _ in range(29):
        rig.clock.advance(86_400)
        token = refresh(rig, token).json()["refresh_token"]
    rig.clock.advance(86_400 + 1)
    problem(refresh(rig, token), 401)


def test_a_clock_in_the_past_makes_no_log_in_live_for_ever(rig: Rig) -> None:
    token = rig.tokens_of()["refresh_token"]
    rig.clock.jump_wall(-START_US / 1e6)
    token = refresh(rig, token).json()["refresh_token"]
    rig.clock.advance(LOGIN_S + 1)
    problem(refresh(rig, token), 401)


def test_logging_out_ends_one_log_in(rig: Rig) -> None:
    here, there = rig.tokens_of(), rig.tokens_of()
    assert rig.call("POST", "/api/auth/logout", token=here["access_token"]).status_code == 204
    problem(rig.call("GET", "/api/signals", token=here["access_token"]), 401)
    problem(refresh(rig, here["refresh_token"]), 401)
    assert refresh(rig, there["refresh_token"]).status_code == 200


def change_own(rig: Rig, token: str, old: str = PASSWORD, new: str = "other words of mine") -> httpx.Response:
    return rig.call("POST", "/api/auth/password", token=token, json={"old": old, "new": new})


def test_a_new_password_ends_all_that_was_given_out_before(rig: Rig) -> None:
    before = rig.tokens_of()
    problem(change_own(rig, before["access_token"], old="wrong"), 403, "present password")
    rig.clock.advance(2)
    problem(change_own(rig, before["access_token"], new="Viewer"), 422)
    answer = change_own(rig, before["access_token"])
    assert answer.status_code == 200, answer.text
    problem(rig.call("GET", "/api/signals", token=before["access_token"]), 401)
    problem(refresh(rig, before["refresh_token"]), 401)
    problem(rig.call("GET", "/api/signals", Role.VIEWER), 401)
    assert rig.call("GET", "/api/signals", token=answer.json()["access_token"]).status_code == 200
    problem(rig.log_in(), 401)
    rig.clock.advance(2)
    assert rig.log_in("viewer", "other words of mine").status_code == 200


def test_log_ins_of_a_user_are_bounded_oldest_first(rig: Rig) -> None:
    tokens = [rig.tokens_of() for _ in range(MAX_LOGINS_OF_USER + 1)]
    problem(refresh(rig, tokens[0]["refresh_token"]), 401)
    assert refresh(rig, tokens[1]["refresh_token"]).status_code == 200
    assert len(json.loads((rig.folder / "logins.json").read_text())["logins"]) == MAX_LOGINS_OF_USER


def test_a_log_in_that_is_one_too_many_of_its_user_and_of_all_goes_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("MAX_LOGINS", "MAX_LOGINS_OF_USER"):
        monkeypatch.setattr(f"agent.api.logins.{bound}", 1)
    first, second = rig.tokens_of(), rig.tokens_of()
    problem(refresh(rig, first["refresh_token"]), 401)
    assert refresh(rig, second["refresh_token"]).status_code == 200


def cookie_of(rig: Rig, user: str = "operator") -> str:
    answer = rig.call("POST", LOGIN, json={"username": user, "password": PASSWORD, "cookie": True})
    assert answer.json() == {"username": user, "role": user}
    value, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    return str(value)


def test_a_cookie_is_as_good_as_a_token_for_our_own_page_only(rig: Rig) -> None:
    cookie = cookie_of(rig)
    own = {"cookie": cookie, "origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert rig.call("GET", "/api/signals", headers={"cookie": cookie}).status_code == 200
    assert rig.call("GET", "/api/signals", headers=own).status_code == 200
    for elsewhere in (
        {"origin": "http://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "https://localhost"},
        {"origin": "null"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
    ):
        for url in ("/api/signals", "/api/live", "/metrics"):
            problem(rig.call("GET", url, headers=own | elsewhere), 403, "elsewhere")
        changed = rig.call("PATCH", "/api/stations/battery1", headers=own | elsewhere, json={"status": "on"})
        problem(changed, 403)


def test_a_change_with_a_cookie_needs_the_header_that_no_form_sends(rig: Rig) -> None:
    own = {"cookie": cookie_of(rig), "origin": "http://localhost"}
    change: Json = {"json": {"status": "on"}}
    problem(rig.call("PATCH", "/api/stations/battery1", headers=own, **change), 403, "x-enlace-csrf")
    assert rig.control.commands == []
    answer = rig.call("PATCH", "/api/stations/battery1", headers=own | {"x-enlace-csrf": "1"}, **change)
    assert answer.status_code == 200


def test_a_cookie_ends_by_log_out_idleness_age_and_restart_does_not_end_it(rig: Rig) -> None:
    first = {"cookie": cookie_of(rig)}
    rig.restart()
    assert rig.call("GET", "/api/signals", headers=first).status_code == 200
    out = rig.call("POST", "/api/auth/logout", headers=first | {"x-enlace-csrf": "1"})
    assert out.status_code == 204
    assert "Max-Age=0" in out.headers["set-cookie"]
    problem(rig.call("GET", "/api/signals", headers=first), 401)
    idle, used = {"cookie": cookie_of(rig)}, {"cookie": cookie_of(rig)}
    rig.clock.advance(COOKIE_IDLE_S - 1)
    assert rig.call("GET", "/api/signals", headers=used).status_code == 200
    rig.clock.advance(2)
    problem(rig.call("GET", "/api/signals", headers=idle), 401)
    assert rig.call("GET", "/api/signals", headers=used).status_code == 200
    rig.clock.advance(LOGIN_S)
    problem(rig.call("GET", "/api/signals", headers=used), 401)


def test_a_cookie_is_no_bearer_token_and_a_refresh_token_no_cookie(rig: Rig) -> None:
    value = cookie_of(rig).partition("=")[2]
    problem(rig.call("GET", "/api/signals", token=value), 401)
    problem(refresh(rig, value), 401)
    token = rig.tokens_of()["refresh_token"]
    problem(rig.call("GET", "/api/signals", token=token), 401)
    problem(rig.call("GET", "/api/signals", headers={"cookie": f"enlace_session={token}"}), 401)
    for cookie in ("enlace_session=", "enlace_session=x", "enlace_session=a.b", "=;;;", "x" * 9000, '"\\'):
        problem(rig.call("GET", "/api/signals", headers={"cookie": cookie}), 401)


def test_over_tls_the_cookie_is_bound_to_the_host() -> None:
    from starlette.requests import Request  # noqa: PLC0415

    scope = {"type": "http", "scheme": "https", "headers": [(b"host", b"gw")], "server": ("gw", 443), "path": "/"}
    header = cookie_header(Request(scope), "value")
    assert header.startswith("__Host-enlace_session=value; ")
    assert header.endswith("; Secure")


def test_metrics_are_open_to_the_machine_itself_only(rig: Rig) -> None:
    assert rig.call("GET", "/metrics", address="127.0.0.1").status_code == 200
    assert rig.call("GET", "/metrics", address="::1").status_code == 200
    problem(rig.call("GET", "/metrics"), 401)
    problem(rig.call("GET", "/metrics", address="127.0.0.1", headers={"x-forwarded-for": "1.2.3.4"}), 401)
    problem(rig.call("GET", "/metrics", address="127.0.0.1", token=NONE), 401)
    problem(rig.call("GET", "/api/signals", address="127.0.0.1"), 401)
    assert rig.call("GET", "/metrics", Role.VIEWER).status_code == 200


def test_health_says_no_more_than_its_status_to_nobody(rig: Rig) -> None:
    assert rig.call("GET", "/api/system/health").json() == {"status": "degraded"}
    assert rig.call("GET", "/api/system/health", token=NONE).json() == {"status": "degraded"}
    assert "boot" in rig.call("GET", "/api/system/health", Role.VIEWER).json()


def test_users_are_added_changed_and_taken_out(rig: Rig) -> None:
    new = {"username": "Luis", "password": PASSWORD, "role": "viewer"}
    added = rig.call("POST", "/api/users", Role.ADMIN, json=new)
    assert (added.status_code, added.json()) == (201, {"username": "luis", "role": "viewer", "tokens": []})
    problem(rig.call("POST", "/api/users", Role.ADMIN, json=new), 409, "of that name")
    for name in ("../x", "ñ"):  # trial s5: they were a 409
        problem(rig.call("POST", "/api/users", Role.ADMIN, json=new | {"username": name}), 422, "can't be used")
    problem(rig.call("POST", "/api/users", Role.ADMIN, json=new | {"password": "luis"}), 422)
    problem(rig.call("POST", "/api/users", Role.ADMIN, json=new | {"role": "root"}), 422)
    token = rig.tokens_of("luis")["access_token"]
    problem(rig.call("GET", "/api/id-tags", token=token), 403)
    changed = rig.call("PATCH", "/api/users/LUIS", Role.ADMIN, json={"role": "operator"})
    assert changed.json()["role"] == "operator"
    assert rig.call("GET", "/api/id-tags", token=token).status_code == 200, "a role counts at once"
    listed = rig.call("GET", "/api/users", Role.ADMIN)
    assert [one["username"] for one in listed.json()["items"]] == ["admin", "luis", "operator", "viewer"]
    assert "argon2" not in listed.text
    for query, found in (("role=operator", ["luis", "operator"]), ("role=operator&name=LU", ["luis"]), ("name=x", [])):
        some = rig.call("GET", f"/api/users?{query}", Role.ADMIN).json()
        assert ([one["username"] for one in some["items"]], some["total"]) == (found, len(found))
    problem(rig.call("GET", "/api/users?role=root", Role.ADMIN), 422)
    rig.call("PATCH", "/api/users/luis", Role.ADMIN, json={"password": "other words of his"})
    problem(rig.call("GET", "/api/id-tags", token=token), 401)
    token = rig.log_in("luis", "other words of his").json()["access_token"]
    assert rig.call("DELETE", "/api/users/luis", Role.ADMIN).status_code == 204
    problem(rig.call("GET", "/api/signals", token=token), 401)
    problem(rig.call("DELETE", "/api/users/luis", Role.ADMIN), 404)
    problem(rig.call("PATCH", "/api/users/luis", Role.ADMIN, json={"role": "admin"}), 404)
    assert [one for one in rig.audit() if one[0] == "user:admin"] == [
        ("user:admin", "add user as viewer", "luis", "done"),
        ("user:admin", "make user operator", "LUIS", "done"),
        ("user:admin", "set password", "luis", "done"),
        ("user:admin", "remove user", "luis", "done"),
    ]


def test_the_last_admin_stays(rig: Rig) -> None:
    problem(rig.call("DELETE", "/api/users/admin", Role.ADMIN), 409, "no admin would be left")
    problem(rig.call("PATCH", "/api/users/admin", Role.ADMIN, json={"role": "viewer"}), 409)
    assert rig.call("GET", "/api/users", Role.ADMIN).status_code == 200


def test_a_user_of_the_same_name_as_one_before_is_another(rig: Rig) -> None:
    token = rig.tokens_of("viewer")
    rig.call("DELETE", "/api/users/viewer", Role.ADMIN)
    rig.call("POST", "/api/users", Role.ADMIN, json={"username": "viewer", "password": PASSWORD, "role": "admin"})
    problem(rig.call("GET", "/api/signals", token=token["access_token"]), 401)
    problem(refresh(rig, token["refresh_token"]), 401)


def test_machines_have_tokens_that_are_shown_once(rig: Rig) -> None:
    made = rig.call("POST", "/api/users/operator/tokens", Role.ADMIN, json={"label": "grafana 1"})
    assert made.status_code == 201
    token = made.json()["token"]
    assert token.startswith("enl_")
    assert token not in (rig.folder / "users.json").read_text()
    problem(rig.call("POST", "/api/users/operator/tokens", Role.ADMIN, json={"label": "grafana 1"}), 409)
    problem(rig.call("POST", "/api/users/operator/tokens", Role.ADMIN, json={"label": "ñ"}), 422, "can't be used")
    problem(rig.call("POST", "/api/users/nobody/tokens", Role.ADMIN, json={"label": "x"}), 404)
    listed = rig.call("GET", "/api/users", Role.ADMIN).json()["items"][1]["tokens"]
    assert [one["label"] for one in listed] == ["tests", "grafana 1"]
    rig.restart()
    rig.clock.advance(LOGIN_S * 10)
    assert rig.call("GET", "/api/id-tags", token=token).status_code == 200
    assert rig.call("POST", "/api/auth/logout", token=token).status_code == 204
    assert rig.call("GET", "/api/id-tags", token=token).status_code == 200
    assert rig.call("DELETE", "/api/users/operator/tokens/grafana 1", Role.ADMIN).status_code == 204
    problem(rig.call("GET", "/api/id-tags", token=token), 401)
    problem(rig.call("DELETE", "/api/users/operator/tokens/grafana 1", Role.ADMIN), 404)


def test_secrets_are_in_no_file_event_or_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "agent")
    code = rig.auth.new_code()
    tokens = rig.tokens_of()
    cookie = cookie_of(rig).partition("=")[2]
    rig.log_in("admin", "a secret wrong guess")
    files = {path.name: path for path in rig.folder.iterdir()}
    assert {"users.json", "logins.json"} <= set(files)
    everything = "".join(path.read_text() for path in files.values()) + str(rig.told) + caplog.text
    # The first half of a refresh token or cookie is its log-in's name.
    halves = [one.partition(".")[2] for one in (tokens["refresh_token"], cookie)]
    for secret in (code, tokens["access_token"], *halves, PASSWORD, "a secret wrong guess", *rig.tokens.values()):
        assert secret
        assert secret not in everything
    for path in files.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_file_of_users_lets_nobody_in_and_opens_no_set_up(rig: Rig) -> None:
    token = rig.tokens_of("admin")["access_token"]
    (rig.folder / "users.json").write_text('{"users": {}')
    code = rig.auth.new_code()
    for answer in (rig.call("GET", "/api/signals", token=token), set_up(rig, code), rig.log_in("admin")):
        body = problem(answer, 503, "users.json", "damaged")
        assert "restore" in body["hint"]
    assert rig.call("GET", "/api/system/health").json() == {"status": "degraded"}


@pytest.mark.announced_warnings
def test_a_damaged_file_of_log_ins_costs_only_the_log_ins(rig: Rig) -> None:
    tokens = rig.tokens_of()
    (rig.folder / "logins.json").write_text("nonsense")
    rig.restart()
    problem(refresh(rig, tokens["refresh_token"]), 401)
    assert rig.log_in().status_code == 200


@pytest.mark.announced_warnings
def test_with_a_full_disk_people_still_log_in(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    tokens = rig.tokens_of()
    assert rig.call("GET", "/api/signals", token=tokens["access_token"]).status_code == 200
    assert refresh(rig, tokens["refresh_token"]).status_code == 200
    new = {"username": "luis", "password": PASSWORD, "role": "viewer"}
    problem(rig.call("POST", "/api/users", Role.ADMIN, json=new), 503, "No space left")


def test_what_the_command_line_changes_is_told_to_the_audit_once(rig: Rig) -> None:
    beside = UserBook(rig.folder, lambda: 7_000_000)
    beside.add("Luis", Role.VIEWER, "no password is this hash")
    beside.set_role("luis", Role.OPERATOR)
    beside.remove_token("viewer", "tests")
    with pytest.raises(UserError):
        beside.remove("nobody")
    assert UserBook(rig.folder).changes(), "they wait in the file, and the gateway may be off"
    rig.restart()
    for _ in range(2):
        asyncio.run(rig.auth.tell_changes(rig.notebook))
    rig.call("DELETE", "/api/users/luis", Role.ADMIN)
    asyncio.run(rig.auth.tell_changes(rig.notebook))
    assert [(event.t_us, event.data["who"], event.data["what"], event.subject) for event in rig.notebook.events] == [
        (7_000_000, "cli", "add user as viewer", "luis"),
        (7_000_000, "cli", "make user operator", "luis"),
        (7_000_000, "cli", "take back token tests", "viewer"),
    ]
    assert rig.audit()[0] == ("user:admin", "remove user", "luis", "done")


def test_what_the_store_does_not_take_is_told_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    UserBook(rig.folder, lambda: 1).set_role("viewer", Role.OPERATOR)
    with monkeypatch.context() as patched:

        async def full(*_: object) -> None:
            raise StoreError("write", "no room")

        patched.setattr(rig.notebook, "write", full)
        with pytest.raises(StoreError):
            asyncio.run(rig.auth.tell_changes(rig.notebook))
    asyncio.run(rig.auth.tell_changes(rig.notebook))
    assert len(rig.notebook.events) == 1
