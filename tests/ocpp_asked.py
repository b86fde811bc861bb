"""A charger that is asked: its state as ``ChargerState``, and a link that answers as a test says.

What is sent is held strictly against the standard's schemas, as the real link does.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from agent.core.errors import Unavailable
from drivers.codec.ocpp_model import Boot, Version
from drivers.ocpp.ports import Link, Payload
from drivers.ocpp.quirks import STANDARD, Quirks
from drivers.ocpp.schemas import Schemas
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint

SCHEMAS = Schemas()
CENTRAL = CentralSettings(Endpoint("127.0.0.1", 0), Path("/nowhere"))
Answer = Callable[[str, Payload], Payload]


def accept(action: str, payload: Payload) -> Payload:
    """The answer of a charger that agrees to everything."""
    if action == "UnlockConnector":
        return {"status": "Unlocked"}
    if action == "GetLocalListVersion":
        return {"listVersion": 0, "versionNumber": 0}
    if action == "GetConfiguration":
        return {"configurationKey": []}
    if action == "SetVariables":
        rows = payload["setVariableData"]
        assert isinstance(rows, list)
        return {"setVariableResult": [{**_named(row), "attributeStatus": "Accepted"} for row in rows]}
    if action == "GetVariables":
        rows = payload["getVariableData"]
        assert isinstance(rows, list)
        found = [{**_named(row), "attributeStatus": "Accepted", "attributeValue": "3"} for row in rows]
        return {"getVariableResult": found}
    return {"status": "Accepted"}


def _named(row: Mapping[str, object]) -> dict[str, object]:
    return {"component": row["component"], "variable": row["variable"]}


class AskedLink:
    """A link whose other end answers with a function; an error that it raises is the answer."""

    def __init__(self, version: Version = Version.V16, answer: Answer = accept) -> None:
        self.version = version
        self.identity = "CP1"
        self.address = "127.0.0.1:1"
        self.answer = answer
        self.asked: list[tuple[str, Payload]] = []
        self.closed: tuple[int, str] | None = None
        self.ping_s: float | None = None

    def set_ping(self, seconds: float) -> None:
        self.ping_s = seconds

    async def call(self, action: str, payload: Payload, timeout_s: float | None = None) -> Payload:
        deviation = SCHEMAS.deviation(self.version, action, payload, strict=True)
        if deviation:
            raise ValueError(deviation)
        self.asked.append((action, payload))
        if self.closed is not None:
            raise Unavailable("call", "the connection is gone")
        return self.answer(action, payload)

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason

    def sent(self, action: str) -> list[Payload]:
        return [payload for name, payload in self.asked if name == action]


class AskedState:
    """``ChargerState`` of a test."""

    def __init__(self, link: Link | None, quirks: Quirks = STANDARD, **settings: object) -> None:
        self.settings = ChargerSettings("cp", "CP1", **settings)  # type: ignore[arg-type]
        self.central = CENTRAL
        self.quirks = quirks
        self.boot: Boot | None = Boot("Acme", "One", firmware="1.0")
        self.connection = link
        self.transactions: dict[int, str] = {}
        self.told: list[tuple[str, Mapping[str, object]]] = []
        self.notes: dict[str, Mapping[str, object]] = {}

    @property
    def link(self) -> Link:
        if self.connection is None:
            raise Unavailable("charger cp", "it is not connected")
        return self.connection

    def transaction(self, outlet: int) -> str | None:
        return self.transactions.get(outlet)

    def status(self, outlet: int) -> str | None:
        return None

    def tell(self, kind: str, data: Mapping[str, object]) -> None:
        self.told.append((kind, data))

    async def remember(self, name: str, data: Mapping[str, object] | None) -> None:
        if data is None:
            self.notes.pop(name, None)
        else:
            self.notes[name] = dict(data)

    def remembered(self, name: str) -> Mapping[str, object] | None:
        return self.notes.get(name)
