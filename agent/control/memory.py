"""Writing notes so that control goes on when the store can't: from memory, and told once."""

import logging
from collections.abc import Mapping, Sequence

from agent.core.errors import StoreError
from agent.core.model import Event
from agent.core.ports import Notebook

logger = logging.getLogger(__name__)


class Memory:
    """A notebook whose failures are told at their edges instead of raised."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self._failing = False

    async def write(
        self, kind: str, key: str, data: Mapping[str, object] | None, events: Sequence[Event] = ()
    ) -> StoreError | None:
        """``Notebook.write``; what went wrong, or None."""
        try:
            await self.notebook.write(kind, key, data, events)
        except StoreError as error:
            if not self._failing:
                self._failing = True
                logger.warning("control goes on from memory, a restart would forget what it does now: %s", error)
            return error
        if self._failing:
            self._failing = False
            logger.info("control is kept over restarts again")
        return None
