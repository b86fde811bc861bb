"""ETSI EN 303 645 (consumer IoT security), provision by provision, where software alone can be tried.

Beside what is here: 5.1-1 "nothing usable before set-up" and 5.5-5 "every route closed" stand in test_api_matrix.py,
5.1-3 (argon2id, its cost) in test_api_security.py, 5.5-1 (TLS) in test_api_tls.py, 5.6-1 (ports) and 5.8/5.11 in a
running gateway in tests/e2e/test_etsi_process.py, 5.9 (power and network cuts) in tests/e2e/test_store*.py.

What software alone can't show: 5.3 (signed updates, roll-back, how long they are offered), 5.4-1 and 5.4-2 (keys in
hardware, identity of the hardware), 5.6-3 and 5.6-4 (debug ports, unused hardware interfaces), 5.7 (verified boot),
5.2-1 and 5.12 (policies and manuals of who sells it).
"""

import json
import logging
import re
import secrets
import uuid
from pathlib import Path
from typing import cast

import pytest

from agent.api.passwords import PasswordError, check_new
from agent.api.public_routes import EXPIRES_DAYS, Published, add_public_routes
from agent.api.throttle import Throttle, TooFastError
from agent.api.users import Role
from agent.core.clock import FakeClock
from tests.fake_view import START_US, quick_auth
from tests.unit.api_rig import ELSEWHERE, PASSWORD, Json, Rig, problem
from tests.unit.test_api_matrix import NEEDS, PAGES, url_of

HOUR_S = 3600


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> Rig:
    return Rig(tmp_path, users=False)


def test_5_1_1_a_hundred_fresh_gateways_have_a_hundred_codes(tmp_path: Path) -> None:
    """Made under the same clock on the same machine: nothing that they share gives a code away."""
    codes = [quick_auth(tmp_path, FakeClock(START_US)).new_code() for _ in range(100)]
    assert len(set(codes)) == 100
    letters = [code.replace("-", "") for code in codes]
    assert {len(code) for code in letters} == {16}
    alphabet = set("".join(letters))
    assert len(alphabet) == 32, "1,600 letters bring all of them: 5 bits each, 80 in all"
    mac = f"{uuid.getnode():012x}".upper()
    for code in letters:
        assert mac[-6:] not in code
    for place in range(16):
        assert len({code[place] for code in letters}) > 16, "no letter stays the same"


def test_5_1_1_there_is_no_default_password(fresh: Rig) -> None:
    assert not (fresh.folder / "users.json").exists()
    for name in ("admin", "root", "enlace", "operator", "user"):
        for password in ("admin", "password", "enlace", "12345678", name):
            problem(fresh.log_in(name, password, "127.0.0.1"), 403, "set it up first")


@pytest.mark.parametrize("password", ["", "short", "123456789", "luis", "LUIS", "x" * 1025, "aaaaaaaaaaaa", " " * 12])
def test_5_1_2_what_is_no_password(password: str) -> None:
    with pytest.raises(PasswordError):
        check_new("luis", password)


def test_5_1_4_a_password_is_changed_by_its_owner(rig: Rig) -> None:
    token = rig.tokens_of()["access_token"]
    new = {"old": PASSWORD, "new": "quite another one"}
    assert rig.call("POST", "/api/auth/password", token=token, json=new).status_code == 200
    assert rig.log_in("viewer", "quite another one").status_code == 200


def guesses(throttle: Throttle, clock: FakeClock, account: str, address: str) -> bool:
    """Whether a guess could be made; it is wrong."""
    try:
        throttle.check(account, address)
    except TooFastError:
        return False
    throttle.failed(account, address)
    return True


def most_in_an_hour(times_s: list[float]) -> int:
    return max(sum(start <= one < start + HOUR_S for one in times_s) for start in times_s)


def test_5_1_5_ten_guesses_an_hour_of_one_account_from_however_many_addresses() -> None:
    clock = FakeClock(START_US)
    throttle = Throttle(clock)
    made: list[float] = []
    for second in range(6 * HOUR_S):
        if guesses(throttle, clock, "ana", f"10.{second % 200}.{second // 200 % 200}.1"):
            made.append(second)
        clock.advance(1)
    assert most_in_an_hour(made) <= 10


def test_5_1_5_thirty_guesses_an_hour_of_one_address_at_however_many_accounts() -> None:
    clock = FakeClock(START_US)
    throttle = Throttle(clock)
    made = []
    for second in range(6 * HOUR_S):
        if guesses(throttle, clock, f"user{second}", "203.0.113.5"):
            made.append(float(second))
        clock.advance(1)
    assert 20 <= most_in_an_hour(made) <= 30


def test_5_2_1_who_is_told_of_weak_spots(rig: Rig) -> None:
    problem(rig.call("GET", "/.well-known/security.txt"), 404, "security_contact")
    from agent.api.access import Routes  # noqa: PLC0415 - for this test alone

    routes = Routes(rig.auth)
    add_public_routes(routes, rig.clock, Published("mailto:security@site.example"))
    rig.app.router.routes[:0] = routes.router.routes
    answer = rig.call("GET", "/.well-known/security.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    fields = dict(line.split(": ", 1) for line in answer.text.splitlines())
    assert fields["Contact"] == "mailto:security@site.example"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", fields["Expires"])
    assert fields["Expires"] == "2024-02-12T00:00:00Z", f"within {EXPIRES_DAYS} days"


def test_5_6_2_the_version_is_told_to_who_is_logged_in_only(rig: Rig) -> None:
    version = rig.view.site().version
    for method, path in NEEDS:
        if method != "GET" or path == "/api/live":
            continue
        rig.clock.advance(10)
        answer = rig.call("GET", url_of(path))
        assert f'"{version}"' not in answer.text, path
        assert "server" not in answer.headers
        assert "x-powered-by" not in answer.headers
    for path in PAGES:
        assert f'"{version}"' not in rig.call("GET", path).text, path
    assert version in rig.call("GET", "/api/system/health", Role.VIEWER).text


def test_5_4_1_secrets_stand_nowhere_but_where_they_belong(fresh: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Canaries through the whole API at ``debug``: log, ledger, answers, OpenAPI and files are searched for them."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    def send(method: str, url: str, token: str = "", **body: object) -> dict[str, object]:
        fresh.clock.advance(2)
        sent: Json = {"json": body} if body else {}
        answer = fresh.call(method, url, token=token, **sent)
        return cast("dict[str, object]", answer.json()) if answer.content else {}

    canaries = {name: f"canary {name} {secrets.token_hex(8)}" for name in ("first", "second", "third", "wrong", "luis")}
    code = fresh.auth.new_code()
    made = send("POST", "/api/auth/setup", code=code, username="ana", password=canaries["first"])
    admin = str(made["access_token"])
    canaries |= {"code": code, "set-up refresh": str(made["refresh_token"]), "set-up access": admin}
    shown.append(str(send("POST", "/api/auth/login", username="ana", password=canaries["wrong"])))
    shown.append(str(send("POST", "/api/auth/login", username=canaries["wrong"], password=PASSWORD)))  # typed there
    shown.append(str(send("POST", "/api/auth/login", username="ana", password=canaries["wrong"], more=1)))
    shown.append(str(send("POST", "/api/users", admin, username="luis", password=canaries["luis"], role="viewer")))
    shown.append(str(send("POST", "/api/users", admin, username="luis", password=canaries["luis"], role="root")))
    shown.append(str(send("PATCH", "/api/users/luis", admin, password=canaries["second"])))
    canaries["machine"] = str(send("POST", "/api/users/luis/tokens", admin, label="grafana")["token"])
    refreshed = send("POST", "/api/auth/refresh", refresh_token=canaries["set-up refresh"])
    canaries["refresh"] = str(refreshed["refresh_token"])
    shown.append(str(send("POST", "/api/auth/password", admin, old=canaries["wrong"], new=canaries["third"])))
    fresh.clock.advance(400)
    cookie = fresh.call(
        "POST", "/api/auth/login", json={"username": "ana", "password": canaries["first"], "cookie": True}
    )
    assert cookie.status_code == 200, cookie.text
    canaries["cookie"] = cookie.headers["set-cookie"].partition("=")[2].partition(";")[0].partition(".")[2]
    assert len(canaries) >= 10
    assert all(canaries.values())
    for method, path in NEEDS:
        if method == "GET" and path != "/api/live":
            shown.append(fresh.call("GET", url_of(path), token=admin).text)
    shown += [fresh.call("GET", path).text for path in PAGES]
    places = {
        "log": caplog.text,
        "ledger": str(fresh.told) + str(fresh.notebook.events),
        "answers": "\n".join(shown),
        "files": "\n".join(path.read_text() for path in fresh.folder.rglob("*") if path.is_file()),
    }
    for place, text in places.items():
        found = [name for name, secret in canaries.items() if secret in text]
        assert not found, f"in the {place}: {found}"


def test_5_11_what_is_known_of_a_person_can_be_erased(rig: Rig) -> None:
    """Users with all their log-ins and tokens, and id tags. The ledger keeps who did what: that is what it is for."""
    admin = rig.tokens[Role.ADMIN]
    body = {"username": "luis.perez", "password": PASSWORD, "role": "operator"}
    assert rig.call("POST", "/api/users", token=admin, json=body).status_code == 201
    rig.tokens_of("luis.perez")
    shown = rig.call("PUT", "/api/id-tags", token=admin, json={"tag": "04A2B3C4", "label": "Luis Perez"}).json()
    assert "04A2B3C4" not in shown["id"]
    assert "luis.perez" in (rig.folder / "logins.json").read_text()
    assert rig.call("DELETE", "/api/users/luis.perez", token=admin).status_code == 204
    assert rig.call("DELETE", f"/api/id-tags/{shown['id']}", token=admin).status_code == 204
    rig.tokens_of("viewer")  # the next change of the file leaves out what is worth nothing
    for path in rig.folder.rglob("*"):
        assert "luis.perez" not in path.read_text(), path
    assert rig.call("GET", "/api/id-tags", token=admin).json()["items"] == []
    tags = json.dumps([event.data for event in (*rig.told, *rig.notebook.events)])
    assert "04A2B3C4" not in tags, "the ledger knows id tags by their hash"


def test_5_10_1_security_events_are_told_with_their_address(rig: Rig) -> None:
    rig.log_in("viewer", "wrong")
    rig.clock.advance(2)
    tokens = rig.tokens_of()
    refresh = {"refresh_token": tokens["refresh_token"]}
    for _ in range(2):
        rig.call("POST", "/api/auth/refresh", json=refresh)
    rig.call("DELETE", "/api/users/operator", Role.ADMIN)
    told = [(one[1], one[2]) for one in rig.audit()]
    assert told == [("log-in", ELSEWHERE), ("log-in", ELSEWHERE), ("refresh", ELSEWHERE), ("remove user", "operator")]


@pytest.mark.parametrize("path", sorted(PAGES))
def test_5_13_1_pages_load_nothing_from_outside_and_cant_be_framed(rig: Rig, path: str) -> None:
    answer = rig.call("GET", path)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
