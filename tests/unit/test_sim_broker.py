"""What the embedded broker prints of tasks that nobody waited for."""

import asyncio
import gc

import pytest
from amqtt.errors import ProtocolHandlerError

from drivers.sim.broker import unless_a_client_was_lost


@pytest.mark.announced_warnings
@pytest.mark.parametrize(
    ("error", "told"),
    [(ProtocolHandlerError("Packet handling was cancelled"), ""), (KeyError("x"), "was never retrieved")],
)
def test_only_what_is_left_of_a_client_that_went_away_is_not_told(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(unless_a_client_was_lost)

        async def fail() -> None:
            raise error

        task = asyncio.ensure_future(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task.done()
        del task
        gc.collect()

    asyncio.run(main())
    assert told in caplog.text if told else not caplog.text
