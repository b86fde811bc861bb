"""What a charger can be told to do once, over both versions."""

from collections.abc import Mapping

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.ports import Action
from drivers.ocpp.ports import Call, ChargerState


class Operations:
    """``Operable`` of one charger."""

    def __init__(self, state: ChargerState, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    @property
    def actions(self) -> Mapping[str, Action]:
        """What it can be told, by name; of both versions until it has connected."""
        return {}

    async def act(self, action: str, args: Mapping[str, object]) -> Mapping[str, object]:
        """Do it; what the charger answered. Raises as ``Operable.act``."""
        raise CommandRejected(f"{action} {dict(args)}", Refusal.NOT_CAPABLE, "not there yet")

    def reported(self, call: Call) -> None:
        """A part of what was asked for came as a call of its own (NotifyReport, …). Returns at once, never raises."""
