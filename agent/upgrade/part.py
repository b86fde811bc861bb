"""The gateway's side of an upgrade: answers how it is, and writes on the ledger what came of it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from agent.core.clock import Clock
from agent.core.errors import UpgradeError
from agent.core.model import Event
from agent.upgrade import letters
from agent.upgrade.letters import Answer, DeviceHealth, Outcome

EVERY_S = 1.0

#: How the gateway is: its parts, whether each is well; its devices, driver and state of each.
Look = Callable[[], tuple[Mapping[str, bool], Mapping[str, tuple[str, str]]]]


class UpgradePart:
    """Long-running part of the gateway. ``write`` puts an event on the ledger, its future is done when it is there."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        who: tuple[str, str],
        look: Look,
        write: Callable[[Event], Future[int]],
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._version, self._boot = who
        self._look = look
        self._write = write
        self._answered: str | None = None

    async def run(self) -> None:
        """Look for letters until cancelled. Raises ``UpgradeError`` when the folder can't be used."""
        while True:
            try:
                nonce, outcomes = await asyncio.to_thread(self._letters)
                for path, outcome in outcomes:
                    await self._tell(path, outcome)
                if nonce is not None and nonce != self._answered:
                    found = self._found(nonce)
                    await asyncio.to_thread(letters.answer, self._folder, found)
                    self._answered = nonce
            except OSError as error:
                raise UpgradeError(f"answer enlace upgrade in {self._folder}", error.strerror or str(error)) from error
            await self._clock.sleep_s(EVERY_S)

    def _letters(self) -> tuple[str | None, Sequence[tuple[Path, Outcome]]]:
        return letters.asked(self._folder), list(letters.told(self._folder))

    def _found(self, nonce: str) -> Answer:
        parts, devices = self._look()
        return Answer(
            nonce=nonce,
            version=self._version,
            boot=self._boot,
            parts=parts,
            devices={name: DeviceHealth(driver=driver, state=state) for name, (driver, state) in devices.items()},
        )

    async def _tell(self, path: Path, outcome: Outcome) -> None:
        event = Event(outcome.kind, outcome.t_us, "program", letters.as_data(outcome))
        await asyncio.wrap_future(self._write(event))
        await asyncio.to_thread(letters.is_told, path)
