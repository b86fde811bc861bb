"""What one version of OCPP says for a simulated charger: the port between the charger and its words."""

from collections.abc import Callable
from typing import Any, Protocol

from drivers.sim.charger_ocpp_model import Message, Outlet, Transaction


class Dialect(Protocol):
    """What one version says. Each makes a message; the charger sends it."""

    subprotocol: str
    boots_again: bool  #: BootNotification also when only the connection was lost

    def boot(self, reason: str) -> Message:
        """BootNotification."""

    def heartbeat(self) -> Message:
        """Heartbeat."""

    def status(self, outlet: Outlet | None) -> Message | None:
        """StatusNotification of an outlet, or of the whole charger (None where there is no such thing)."""

    def authorize(self, tag: str, then: Callable[[str], None]) -> Message:
        """Authorize; ``then`` is given the status."""

    def started(self, outlet: Outlet, running: Transaction) -> Message:
        """The transaction began."""

    def changed(self, outlet: Outlet, running: Transaction, trigger: str) -> Message | None:
        """The transaction's state changed."""

    def sampled(self, outlet: Outlet, running: Transaction, context: str) -> Message:
        """Meter values of a transaction."""

    def stopped(self, outlet: Outlet, running: Transaction) -> Message:
        """The transaction ended, ``running.reason`` says why."""

    def meter(self, outlet: Outlet, context: str) -> Message:
        """Meter values outside a transaction."""

    def answered(self, message: Message, answer: Any) -> None:  # noqa: ANN401 - a class for each action
        """A transaction message was answered."""
