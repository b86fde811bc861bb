"""What the audit is told of a changed configuration."""

import json
from typing import Any

from agent.config import Config
from agent.config_changes import changes_of, hash_of

BASE: dict[str, Any] = {
    "site": {"id": "depot-7"},
    "devices": [
        {"id": "cp1", "driver": "modbus", "profile": "abb_terra_ac", "url": "tcp://10.0.0.21:502", "unit_id": 1},
        {"id": "cp2", "driver": "modbus", "profile": "abb_terra_ac", "url": "tcp://10.0.0.22:502", "unit_id": 1},
    ],
    "schedules": [{"id": "night", "cron": "0 22 * * *", "then": [{"station": "cp1", "set": "off"}]}],
}


def config(**changed: object) -> Config:
    return Config.model_validate_json(json.dumps({**BASE, **changed}))


def test_the_same_changes_nothing() -> None:
    told = changes_of(config(), config())
    assert told == {"sections": [], "old": told["new"], "new": hash_of(config())}


def test_which_devices_came_went_and_changed_is_told() -> None:
    _, second = BASE["devices"]
    new = config(devices=[{**second, "unit_id": 9}, {**second, "id": "cp3"}], site={"id": "depot-7", "name": "secret"})
    told = changes_of(config(), new)
    assert told["sections"] == ["site", "devices"]
    assert told["devices"] == {"added": ["cp3"], "removed": ["cp1"], "changed": ["cp2"]}
    assert told["old"] != told["new"]
    assert "secret" not in str(told)


def test_a_list_that_comes_to_be_is_told() -> None:
    told = changes_of(config(schedules=[]), config())
    assert (told["sections"], told["schedules"]) == (["schedules"], {"added": ["night"]})


def test_a_section_that_comes_to_be_is_told() -> None:
    told = changes_of(config(), config(uplink={"broker": "mqtt://central.example:1883"}))
    assert (told["sections"], "uplink" in told) == (["uplink"], False)
