"""The sending side of commands: one message to one site, and the one result that comes for it."""

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping

from agent.core.clock import Clock
from agent.core.errors import Unavailable
from cloud_sync.link import MqttLink
from cloud_sync.mqtt import Message, Refused, Session
from cloud_sync.settings import LinkSettings

_log = logging.getLogger(__name__)


async def give(settings: LinkSettings, topic: str, payload: bytes, clock: Clock, wait_s: float) -> Mapping[str, object]:
    """Publish a command at ``{root}/{site}/command`` and wait for its result.

    When the connection ends meanwhile it is given again on the next: it is done once all the same. Raises
    ``Unavailable`` when no result came within ``wait_s``, ``Refused`` when the broker does not take it.
    """
    command_id, link = json.loads(payload)["id"], MqttLink(settings, clock)
    correlation, found = secrets.token_bytes(16), dict[str, object]()
    given = False

    async def serve(session: Session) -> None:
        nonlocal given
        await session.subscribe(f"{topic}/result")
        await (await session.publish(topic, payload, correlation_data=correlation))
        given = True
        while not found:
            message = await session.next_message()
            session.acknowledge(message)
            if message.correlation_data in {b"", correlation}:  # with MQTT 3.1.1 there is none
                found.update(_result(message, command_id))

    try:
        async with asyncio.timeout(wait_s):
            await link.run(serve)
    except TimeoutError:
        reason = "no result came" if given else link.stats.last_error or "the broker did not answer"
        hint = "is the site online, and does it take commands? the same again, with the same --id, does no harm"
        raise Unavailable(f"command {topic}", f"{reason} within {wait_s:g} s", hint) from None
    except Refused as error:
        raise Refused(error.op, error.reason, "let the broker's access list allow it") from error
    return found


def _result(message: Message, command_id: object) -> Mapping[str, object]:
    """What a message says of that command; empty: nothing."""
    try:
        document = json.loads(message.payload)
    except (ValueError, RecursionError):
        _log.warning("what came at %s is no result", message.topic)
        return {}
    return document if isinstance(document, dict) and document.get("id") == command_id else {}
