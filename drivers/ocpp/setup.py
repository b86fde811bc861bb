"""What is done with a charger after it has booted, before it is used."""

from agent.core.clock import Clock
from drivers.ocpp.limits import Limits
from drivers.ocpp.operations import Operations
from drivers.ocpp.ports import ChargerState


async def set_up(state: ChargerState, limits: Limits, operations: Operations, clock: Clock) -> None:
    """Bring a charger into the state that we count on; each step that fails is told, none ends the others.

    Runs after each connection's boot (or, of a charger that does not boot, some seconds after it connected), in a task
    of the charger's that ends with the connection. Never raises but ``CancelledError``.
    """
