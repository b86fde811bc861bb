"""Current limits and on/off of a charger's outlets, by charging profiles."""

from collections.abc import Mapping

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, Refusal
from agent.core.model import Number
from agent.core.ports import Setting
from drivers.ocpp.ports import ChargerState


class Limits:
    """``Commandable`` of one charger."""

    def __init__(self, state: ChargerState, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What can be set, by point."""
        return {}

    async def set(self, point: str, value: Number) -> Number:
        """Set it, read it back, and repeat it. Raises as ``Commandable.set``."""
        raise CommandRejected(f"set {point} to {value:g}", Refusal.NOT_CAPABLE, "not there yet")

    def release(self) -> None:
        """Stop repeating what was set: what was set last ends with its validity."""

    async def install_safe(self) -> None:
        """Install the safe TxDefaultProfile. Raises ``CommandRejected``, ``NoAnswer``, ``BadData``, ``Unavailable``."""

    def connected(self) -> None:
        """It has connected, perhaps anew: what was set is set again by ``run``."""

    async def run(self) -> None:
        """Repeat what was set for as long as there is something to repeat; runs until cancelled, never raises else.

        One task of the charger's, over all connections.
        """
        while True:
            await self._clock.sleep_s(3600)
