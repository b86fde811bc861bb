"""What a gateway must not load: at its start, without a bus, and with one."""

import subprocess
import sys

import pytest

HEAVY = ("asammdf", "pandas", "lxml")


def said_by(code: str) -> list[str]:
    """The words that a new Python prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


#: A DBC is read by cantools, which loads python-can.
A_DBC = "drivers.codec.dbc_convert; drivers.codec.dbc_convert.parse('BO_ 1 M: 8 X'); sys.modules['can']"


@pytest.mark.parametrize(
    "module", ["agent.app", "drivers.can.pycan", "drivers.can.logs", A_DBC, "drivers.sim.bms"], ids=lambda one: one[:18]
)
def test_python_can_is_loaded_without_what_only_mf4_logs_need(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if sys.modules.get(name)])"
    assert said_by(code) == []


#: What `enlace run` loads until its API answers.
STARTS = "agent.cli.run, agent.app, agent.api.server"

#: What only some commands, links or devices need: loaded when such a one is there.
LATE = (
    "aio_pika",
    "apprise",
    "asammdf",
    "can",
    "cantools",
    "lxml",
    "nats",
    "ocpp",
    "pandas",
    "psycopg",
    "pygments",
    "pymodbus",
    "rich",
    "serial",
    "sqlite_utils",
    "typer",
    "websockets",
)


def test_a_gateway_starts_without_what_its_site_may_not_have() -> None:
    code = f"import sys, {STARTS}, agent.setting_up; print(*[name for name in {LATE!r} if name in sys.modules])"
    assert said_by(code) == []


#: What a site has loaded when somebody first asks for it: areas of the API, setting up, support.
ASKED = (
    "agent.api.answers",
    "agent.api.auth_routes",
    "agent.api.bodies",
    "agent.api.compat",
    "agent.api.maintenance_bodies",
    "agent.api.setup_models",
    "agent.backup",
    "agent.doctor",
    "agent.remote",
    "agent.scanning",
    "agent.setting_up",
    "agent.support",
    "cloud_sync.subscriber",
    "cloud_sync.uplink",
    "drivers.can.logs",
    "drivers.serial_meter.scan",
)


def test_a_gateway_starts_without_what_nobody_has_asked_for_yet() -> None:
    code = f"import sys, agent.cli.main, {STARTS}; print(*[name for name in {ASKED!r} if name in sys.modules])"
    assert said_by(code) == []


def test_what_describes_the_api_is_not_made_ready_at_the_start() -> None:
    code = "import agent.api.server, fastapi.openapi.models as m; print(m.OpenAPI.__pydantic_complete__)"
    assert said_by(code) == ["False"]
