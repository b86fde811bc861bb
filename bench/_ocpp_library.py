"""The central system that one writes with the ``ocpp`` package alone: it validates, and answers; nothing is kept."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any

import ocpp.messages  # type: ignore[import-untyped]
from ocpp import v16, v201
from ocpp.routing import on  # type: ignore[import-untyped]

ocpp.messages.ASYNC_VALIDATION = False


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def library_point(version: str, identity: str, socket: object) -> Any:  # noqa: ANN401 - the package has no types
    """The package's charge point on a connection. Both versions know what a ``Script`` says."""
    transactions = count(1)
    accepted = {"status": "Accepted"}
    results, base = (v16.call_result, v16.ChargePoint) if version == "1.6" else (v201.call_result, v201.ChargePoint)
    answers: dict[str, Callable[[], Mapping[str, object]]] = {
        "BootNotification": lambda: {"current_time": _now(), "interval": 60, **accepted},
        "Heartbeat": lambda: {"current_time": _now()},
        "StatusNotification": dict,
    }
    if version == "1.6":
        answers |= {
            "MeterValues": dict,
            "StartTransaction": lambda: {"transaction_id": next(transactions), "id_tag_info": accepted},
            "StopTransaction": lambda: {"id_tag_info": accepted},
        }
    else:
        answers["TransactionEvent"] = dict

    def handler(action: str, answer: Callable[[], Mapping[str, object]]) -> object:
        def handle(_: object, **_payload: object) -> object:
            return getattr(results, action)(**answer())

        handle.__name__ = f"on_{action}"  # by which the package finds it
        return on(action)(handle)

    members = {f"on_{action}": handler(action, answer) for action, answer in answers.items()}
    return type("Point", (base,), members)(identity, socket)
