"""Who may import whom: the rules of the layer table in README.md, held against the code's own imports."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Rooms of the agent from the bottom up: a room imports itself, core and what stands before it.
ORDER = ["core", "pipeline", "store", "upgrade", "control", "insight", "api", "cli"]

#: A library belongs to one room, which alone imports it.
OWNERS = {
    "psycopg": ("cloud_sync/central/",),
    "paho": ("cloud_sync/mqtt_turns.py", "cloud_sync/mqtt_wire.py"),
    "requests": ("cloud_sync/backend_http.py",),
    "rich": ("agent/cli/output.py",),
    "apprise": ("cloud_sync/notify/send.py",),
    "sqlite3": ("agent/store/",),
    "sqlite_utils": ("agent/store/",),
    "fastapi": ("agent/api/",),
    "starlette": ("agent/api/",),
    "uvicorn": ("agent/api/",),
    "can": ("drivers/can/", "drivers/sim/"),
    "cantools": ("drivers/codec/",),
    "pymodbus": ("drivers/modbus/pymodbus_client.py", "drivers/sim/"),
    "ocpp": ("drivers/sim/",),
    "websockets": ("drivers/ocpp/", "drivers/sim/"),
    "fastjsonschema": ("drivers/ocpp/schemas.py", "drivers/ocpp/operations.py"),
    "cryptography": ("drivers/ocpp/authority.py", "drivers/codec/dsmr_cipher.py", "agent/api/tls.py", "agent/keys.py"),
    "apscheduler": ("agent/control/",),
    "argon2": ("agent/api/",),
    "serial": ("drivers/line.py", "agent/scan_targets.py"),
    "time": ("agent/core/clock.py",),
}

#: What a pure codec may not touch.
IMPURE = {"asyncio", "serial", "socket", "time", "logging", "threading", "subprocess", "select"}


def _files() -> list[Path]:
    return sorted(path for room in ("agent", "drivers", "cloud_sync") for path in (ROOT / room).rglob("*.py"))


def _imports(path: Path) -> Iterator[str]:
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: write the full name ({package})"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _breaks(path: Path, name: str) -> str:
    """Why this file may not import this name; empty when it may."""
    here = path.relative_to(ROOT).as_posix()
    top = name.split(".", maxsplit=1)[0]
    for reason in (_library(here, top), _outside_agent(here, name, top), _inside_agent(here, name)):
        if reason:
            return reason
    return ""


def _library(here: str, top: str) -> str:
    if top in OWNERS and not here.startswith(OWNERS[top]):
        return f"only {' and '.join(OWNERS[top])} may import {top}"
    if here.startswith("drivers/codec/") and top in IMPURE:
        return "codecs are pure"
    if here.startswith("agent/core/") and top not in sys.stdlib_module_names and top != "agent":
        return "core imports the standard library and itself"
    return ""


def _outside_agent(here: str, name: str, top: str) -> str:
    room = here.split("/", maxsplit=1)[0]
    if room == "agent":
        return ""
    if top == "agent" and name != "agent" and not name.startswith("agent.core"):
        return f"{room} imports agent.core and its own library only"
    if top in {"drivers", "cloud_sync"} and top != room:
        return "drivers and cloud_sync never import each other"
    return ""


def _inside_agent(here: str, name: str) -> str:
    parts = here.split("/")
    if parts[0] != "agent" or len(parts) < 3:
        return ""  # app.py, config.py, share.py, __main__.py: the composition root and its helpers
    room = parts[1]
    if name.startswith(("drivers", "cloud_sync")) and room != "cli":
        return "only the composition root and the commands see drivers and cloud_sync"
    if not name.startswith("agent."):
        return ""
    target = name.split(".")[1]
    if room == "core" and target != "core":
        return "core imports nothing of the agent"
    if target in ORDER and ORDER.index(target) > ORDER.index(room):
        return f"{room} stands below {target}"
    return ""


@pytest.mark.parametrize("path", _files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_keep_to_the_layers(path: Path) -> None:
    broken = [f"{name}: {reason}" for name in _imports(path) if (reason := _breaks(path, name))]
    assert not broken, broken


def test_no_module_is_called_utils() -> None:
    assert not [path for path in _files() if path.stem in {"utils", "helpers", "misc", "common"}]


@pytest.mark.parametrize(
    ("here", "name"),
    [
        ("agent/core/model.py", "numpy"),
        ("agent/core/model.py", "agent.store"),
        ("agent/pipeline/hub.py", "agent.store.db"),
        ("agent/store/db.py", "drivers.can"),
        ("drivers/can/bus.py", "agent.pipeline.hub"),
        ("drivers/can/bus.py", "cloud_sync.payload"),
        ("cloud_sync/payload.py", "drivers.can"),
        ("drivers/codec/dbc.py", "time"),
        ("drivers/codec/sml.py", "serial"),
        ("drivers/serial_meter/push.py", "serial"),
        ("drivers/modbus/unit.py", "pymodbus"),
        ("drivers/ocpp/tls.py", "cryptography.x509"),
        ("agent/api/app.py", "fastjsonschema"),
        ("drivers/modbus/unit.py", "agent.pipeline.polling"),
        ("agent/api/app.py", "sqlite3"),
        ("cloud_sync/uplink.py", "paho.mqtt.client"),
        ("cloud_sync/event_backend.py", "requests"),
        ("agent/cli/scan.py", "rich.table"),
        ("cloud_sync/notify/notifier.py", "apprise"),
        ("cloud_sync/uplink.py", "psycopg"),
    ],
)
def test_the_rules_bite(here: str, name: str) -> None:
    assert _breaks(ROOT / here, name)
