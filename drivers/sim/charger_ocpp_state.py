"""What a simulated OCPP charger keeps over its own restart: one JSON file, replaced as a whole."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers.sim.charger_ocpp_model import Message, Reservation, Session, Transaction
from drivers.sim.charger_ocpp_profiles import TRANSACTION, Period, Profile

if TYPE_CHECKING:  # it holds these functions
    from drivers.sim.charger_ocpp_core import Charger


def save(charger: "Charger", path: Path) -> None:
    """Replace the file. Raises ``OSError``."""
    kept = {
        "keys": {name: key.value for name, key in charger.keys.items() if key.writable and key.readable},
        "password": None if charger.password is None else charger.password.hex(),
        "url": charger.url,
        "started_with": charger.settings.url,
        "firmware": charger.firmware,
        "last_number": charger.last_number,
        "transaction_ids": charger.transaction_ids,
        "sessions": [asdict(session) for session in charger.sessions],
        "outbox": [asdict(message) | {"then": None} for message in charger.outbox],
        "profiles": [asdict(profile) for profile in charger.profiles.installed],
        "local_list": [charger.list_version, charger.local_list],
        "outlets": [
            {
                "total_wh": outlet.evse.total_wh,
                "operative": outlet.operative,
                "transaction": None if outlet.transaction is None else asdict(outlet.transaction),
                "reservation": None if outlet.reservation is None else asdict(outlet.reservation),
            }
            for outlet in charger.outlets
        ],
    }
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(kept))
    beside.replace(path)


def restore(charger: "Charger", path: Path) -> None:
    """Take up what was kept. Raises ``OSError`` and ``ValueError`` for a file that is none of ours."""
    kept: dict[str, Any] = json.loads(path.read_text())
    for name, value in kept["keys"].items():
        charger.keys[name].value = value
    charger.password = None if kept["password"] is None else bytes.fromhex(kept["password"])
    charger.firmware = kept["firmware"]
    if kept["started_with"] == charger.settings.url:  # else who starts it knows better where its central system is now
        charger.url = kept["url"]
    charger.last_number = kept["last_number"]
    charger.transaction_ids = {int(number): given for number, given in kept["transaction_ids"].items()}
    charger.sessions = [Session(**session) for session in kept["sessions"]]
    charger.outbox.extend(Message(**message | {"due_s": 0.0}) for message in kept["outbox"])
    charger.profiles.installed = [
        Profile(**profile | {"periods": tuple(Period(**period) for period in profile["periods"])})
        for profile in kept["profiles"]
        if profile["purpose"] != TRANSACTION
    ]
    charger.list_version, charger.local_list = kept["local_list"]
    for outlet, was in zip(charger.outlets, kept["outlets"], strict=True):
        outlet.evse.total_wh = was["total_wh"]
        outlet.operative = was["operative"]
        outlet.transaction = None if was["transaction"] is None else Transaction(**was["transaction"])
        outlet.reservation = None if was["reservation"] is None else Reservation(**was["reservation"])
