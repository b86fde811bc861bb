"""The API as its OpenAPI description promises it, over its real port: whatever fits the description and what does not.

Schemathesis makes the requests from the description, as an admin, to a gateway that runs: no answer is a server error,
each has a status, a type and a shape that is described, what does not fit is refused, and what fits is not.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import ignored_auth

from agent.api.users import Role, UserBook
from tests.e2e import site
from tests.e2e.test_login import url_of

CASES, LONG_CASES = 3, 1000
WALKS, LONG_WALKS, STEPS = 30, 1000, 12

SITE = """\
data_dir: {folder}/data
site: {{id: test, import_limit_a: 63}}
api: {{listen: "127.0.0.1:0"}}
ocpp: {{listen: "127.0.0.1:0", security_profile: 0}}
devices:
  - {{id: cp1, driver: ocpp, charge_point_id: CP-0001, connectors: 2}}
  - {{id: cp2, driver: modbus, profile: abb_terra_ac, url: "tcp://127.0.0.1:9", unit_id: 1, every_s: 2}}
alarms:
  - {{id: hot, when: cp2.power_w > 50000, severity: critical, latch: true, then: [{{station: cp1, set: "off"}}]}}
schedules:
  - {{id: night_off, cron: "0 22 * * *", then: [{{station: cp1, set: "off"}}]}}
"""

#: What a schema can say: who is refused with these words has kept to the description, which then lacks them. All other
#: refusals are about sense: a time that is no time, a station that is not there, a change that changes nothing.
SAYABLE = (
    "is missing",
    "is not known here",
    "must be a list",
    "must be a number",
    "must be an object",
    "must be at least",
    "must be at most",
    "must be null",
    "must be text",
    "must be true or false",
)
#: It asks as others; tests/unit/test_api_auth.py does that for each route and role.
ELSEWHERE = [ignored_auth]
#: Clients of former systems send more than there is a place for, and are served: see agent/api/compat.py.
FORMER = "compat:"
#: A stream without an end, and what would look through this machine's networks: test_setting_up.py asks that.
ELSEWHERE_ASKED = ["/api/live", "/api/scan"]


@dataclass
class Gateway:
    url: str
    users: UserBook
    log: Path
    token: str = ""

    def prove(self) -> None:
        """Be an admin, whatever was done to the users."""
        if self.token and self.users.of_token(self.token) is not None:
            return
        if self.users.get("admin") is None:
            self.users.add("admin", Role.ADMIN, "no password is this hash")
        self.users.set_role("admin", Role.ADMIN)
        if self.users.get("second") is None:
            self.users.add("second", Role.ADMIN, "no password is this hash")
        self.token = self.users.add_token("admin", "contract", 0)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = Path(tmp_path_factory.mktemp("contract"))
    config, log = folder / "site.yaml", folder / "run.log"
    config.write_text(SITE.format(folder=folder))
    (folder / "data").mkdir()
    users = UserBook(folder / "data")
    with site.process("agent", "run", "--config", str(config), log=log) as running:
        made = Gateway(url_of(log), users, log)
        made.prove()
        yield made
        assert running.poll() is None, "the gateway is gone"
        assert site.end(running) == 0
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def schema(gateway: Gateway) -> Any:  # noqa: ANN401 - schemathesis' own
    load_all_checks()
    return schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")


class Contract:
    """Asks, and notes what breaks the description: (operation, what) -> the first request that showed it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._session = requests.Session()
        self.broken: dict[tuple[str, str], str] = {}
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.walks = 0

    def ask(self, case: schemathesis.Case[Any]) -> Any:  # noqa: ANN401 - schemathesis' own
        self._gateway.prove()
        answer = case.call(base_url=self._gateway.url, session=self._session, headers=self._headers(), timeout=60)
        self.statuses[case.operation.label, answer.status_code] += 1
        return answer

    def judge(self, case: schemathesis.Case[Any], answer: Any) -> None:  # noqa: ANN401 - the same
        try:
            case.validate_response(answer, excluded_checks=ELSEWHERE, headers=self._headers())
        except FailureGroup as group:
            for failure in group.exceptions:
                self._note(case, answer, failure)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._gateway.token}"}

    def _note(self, case: schemathesis.Case[Any], answer: Any, failure: BaseException) -> None:  # noqa: ANN401 - the same
        what = type(failure).__name__
        said = str(answer.content[:400].decode(errors="replace"))
        if what == "RejectedPositiveData" and makes_no_sense(answer):
            return
        if what == "AcceptedNegativeData" and answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return
        if what == "AcceptedNegativeData" and any(tag.startswith(FORMER) for tag in case.operation.tags or ()):
            return
        shown = (
            f"{answer.request.method} {answer.request.url} {answer.request.body!r:.300} -> {answer.status_code} {said}"
        )
        self.broken.setdefault((case.operation.label, what), f"{shown}\n    {failure!s:.300}")


def makes_no_sense(answer: Any) -> bool:  # noqa: ANN401 - the same
    """Whether a refusal is, at least in part, about what no schema can say."""
    try:
        parts = answer.json()["detail"].split("; ")
    except (ValueError, KeyError):
        return False
    return not all(any(words in part for words in SAYABLE) for part in parts)


def hold(schema: Any, gateway: Gateway, cases: int) -> Contract:  # noqa: ANN401 - schemathesis' own
    """So many cases of each operation that fit the description, and so many that do not."""
    contract = Contract(gateway)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in ELSEWHERE_ASKED:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(max_examples=cases, deadline=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck])
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case[Any]) -> None:
                contract.judge(case, contract.ask(case))

            # Some operations take nothing that could be wrong.
            with contextlib.suppress(Unsatisfiable):
                ask()
    return contract


def walk(schema: Any, gateway: Gateway, walks: int) -> Contract:  # noqa: ANN401 - schemathesis' own
    """So many walks: what an operation answers (an id, a name) is put into the next ones that take such a thing."""
    contract = Contract(gateway)

    class Walk(schema.exclude(path=ELSEWHERE_ASKED).as_state_machine()):  # type: ignore[misc] # made while it runs
        def setup(self) -> None:
            contract.walks += 1

        def call(self, case: schemathesis.Case[Any], **_kwargs: object) -> Any:  # noqa: ANN401 - the same
            return contract.ask(case)

        def validate_response(self, response: Any, case: schemathesis.Case[Any], **_kwargs: object) -> None:  # noqa: ANN401
            contract.judge(case, response)

    while contract.walks < walks:
        # What a gateway answers depends on what was done before, which Hypothesis takes for a flaw of the test as soon
        # as it begins two walks alike.
        with contextlib.suppress(FlakyStrategyDefinition):
            Walk.run(
                settings=settings(
                    max_examples=walks - contract.walks,
                    stateful_step_count=STEPS,
                    deadline=None,
                    phases=[Phase.generate],
                    suppress_health_check=[*HealthCheck],
                )
            )
    return contract


def explained(contract: Contract) -> str:
    return "\n".join(f"{label}: {what}\n  {shown}" for (label, what), shown in contract.broken.items())


def test_each_answer_is_as_the_description_promises(schema: Any, gateway: Gateway) -> None:  # noqa: ANN401
    contract = hold(schema, gateway, CASES)
    assert not contract.broken, explained(contract)
    done = {label for label, status in contract.statuses if status < 400}
    assert len(done) > 30, "most requests are refused: the handlers are not reached"


@pytest.mark.long
def test_each_answer_is_as_the_description_promises_with_many_cases(schema: Any, gateway: Gateway) -> None:  # noqa: ANN401
    contract = hold(schema, gateway, int(os.environ.get("CONTRACT_CASES", LONG_CASES)))
    assert not contract.broken, explained(contract)


def test_what_one_answer_gives_another_request_may_take(schema: Any, gateway: Gateway) -> None:  # noqa: ANN401
    contract = walk(schema, gateway, WALKS)
    assert not contract.broken, explained(contract)
    assert len({label for label, status in contract.statuses if status < 400}) > 10, "the walks go nowhere"


@pytest.mark.long
def test_what_one_answer_gives_another_request_may_take_in_many_walks(schema: Any, gateway: Gateway) -> None:  # noqa: ANN401
    contract = walk(schema, gateway, int(os.environ.get("CONTRACT_WALKS", LONG_WALKS)))
    assert not contract.broken, explained(contract)
