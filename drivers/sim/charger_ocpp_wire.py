"""Between a simulated OCPP charger and its WebSocket: the ``ocpp`` package's charge point, bad manners in frames."""

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ocpp.exceptions import OCPPError, SecurityError  # type: ignore[import-untyped]
from ocpp.routing import on as ocpp_on  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection

from drivers.sim.charger_ocpp_core import Charger
from drivers.sim.charger_ocpp_model import Message, Quirk

F = TypeVar("F", bound=Callable[..., Any])
#: The package has a class for each action's answer, and no types.
Answer = Any
#: What else a payload may hold.
Rest = Any
GARBAGE_EACH = 10
GARBAGE = (
    "not json",
    '[2,"1"',
    "[]",
    '{"a":1}',
    '[2,{"id":1},["Heartbeat"],{}]',
    '[3,"nobody-asked",{}]',
    '[4,"nobody-asked","InternalError","",{}]',
    '[9,"x",{}]',
    '[2,null,"Heartbeat",{}]',
    '[2,"nan","MeterValues",{"connectorId":NaN,"meterValue":[]}]',
    "[" * 400 + "]" * 400,
)


def on(action: str) -> Callable[[F], F]:
    """The package's decorator, with types."""
    return cast("Callable[[F], F]", ocpp_on(action))


#: What a charger may reject, in both versions by the same word.
REFUSABLE = frozenset(
    {
        "ChangeAvailability",
        "RemoteStartTransaction",
        "RemoteStopTransaction",
        "RequestStartTransaction",
        "RequestStopTransaction",
        "Reset",
        "SetChargingProfile",
    }
)


class Wire:
    """What the ``ocpp`` package calls a connection: frames to and from the WebSocket."""

    def __init__(self, socket: ClientConnection, charger: Charger) -> None:
        self._socket = socket
        self._quirks = charger.quirks
        self._sent = 0

    async def recv(self) -> str | bytes:
        """The next frame."""
        return await self._socket.recv()

    async def send(self, frame: str) -> None:
        """Send a frame, or what bad manners make of it."""
        if Quirk.MUTE in self._quirks and frame.startswith("[3"):
            return
        if Quirk.METER_OBJECT in self._quirks and '"MeterValues"' in frame:
            said = json.loads(frame)
            said[3]["meterValue"] = said[3]["meterValue"][0]
            frame = json.dumps(said)
        await self._socket.send(frame)
        self._sent += 1
        if Quirk.DOUBLE_START in self._quirks and '"StartTransaction"' in frame:
            await self._socket.send(frame)
        if Quirk.GARBAGE in self._quirks and self._sent % GARBAGE_EACH == 0:
            await self._socket.send(GARBAGE[self._sent // GARBAGE_EACH % len(GARBAGE)])


class Speaker:
    """What both versions add to the package's ``ChargePoint``: it is the class's second base."""

    charger: Charger
    _call: Any  #: the module with the requests of this version
    _connection: Wire
    _ocpp_version: str

    async def ask(self, message: Message) -> Answer:
        """Send it; the answer. Raises ``OCPPError`` and ``TimeoutError``."""
        request = getattr(self._call, message.action)(**message.payload)
        try:
            return await self.call(request, suppress=False, unique_id=message.id)  # type: ignore[attr-defined]
        except OCPPError as error:
            self.charger.violations.append(f"answer to {message.action}: {error!r}")
            raise

    async def _handle_call(self, msg: Rest) -> Answer:
        if self.charger.registered == "Rejected":
            if self._ocpp_version == "1.6":
                return None  # 1.6 edition 2, 4.2: no answer
            raise SecurityError  # B03.FR.08
        if Quirk.REFUSES in self.charger.quirks and msg.action in REFUSABLE:
            await self._connection.send(json.dumps([3, msg.unique_id, {"status": "Rejected"}]))
            return None
        try:
            return await super()._handle_call(msg)  # type: ignore[misc]
        except OCPPError as error:
            self.charger.violations.append(f"{msg.action}: {error!r}")
            raise


def quiet_logger() -> logging.Logger:
    """The package logs each frame and each refusal; what matters here is counted."""
    return logging.Logger("ocpp-sim", logging.CRITICAL + 1)  # noqa: LOG001 - stands alone on purpose
