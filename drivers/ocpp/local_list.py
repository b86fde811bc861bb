"""The charger's local authorization list: the site's id tags, so that it lets the right people in while we are away.

Rules of this file:

1. The list is the site's known tags, accepted and blocked (OCPP 1.6 edition 2, 3.5.1 and 5.15; 2.0.1 part 2, D01). It
   is sent when it differs from what the charger was last told, at most once in ``EVERY_S``, and again when the charger
   says that it has another version.
2. The first part replaces what the charger has, the others are added: chargers bound the entries of a message.
3. A charger that says that it has no such list is not asked again until its firmware changes. Where everybody may
   charge there is no list.
4. Tags that the version can't carry (1.6: 20 characters) are left out.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from agent.core.clock import Clock
from agent.core.errors import CommandRejected, DeviceError, Refusal
from drivers.codec.ocpp_model import Version
from drivers.codec.ocpp_values import wire_time
from drivers.ocpp.id_tags import CARD, OURS, IdTags, KnownTag
from drivers.ocpp.ports import ChargerState, Link, Payload

NOTE = "local_list"
EVERY_S = 60.0
#: Entries of a message: every charger takes as many, as far as is known; 1.6 has SendLocalListMaxLength for it.
PART = 20
MAX_TAG_16 = 20


class LocalList:
    """Keeps one charger's list. ``run`` is a task of the charger's; ``wake`` after each set-up."""

    def __init__(self, state: ChargerState, tags: IdTags, clock: Clock) -> None:
        self._state = state
        self._tags = tags
        self._clock = clock
        self._ready = False  #: it was set up on this connection

    def connected(self) -> None:
        """A new connection: nothing is sent before it was set up."""
        self._ready = False

    def wake(self) -> None:
        """It is set up."""
        self._ready = True

    async def run(self) -> None:
        """Look again and again, until cancelled. Failures are told by events."""
        while True:
            await self._clock.sleep_s(EVERY_S)
            if (
                self._ready
                and self._state.central.id_tags == "known"
                and "SendLocalList" not in self._state.quirks.skip
            ):
                try:
                    await self.sync(self._state.link)
                except CommandRejected as error:
                    await self._refused(error)
                except DeviceError:
                    self._ready = False  # it is asked again on its next connection

    async def sync(self, link: Link) -> None:
        """Send the list when it is not what the charger has. Raises as ``Link.call``."""
        firmware = self._state.boot.firmware if self._state.boot is not None else ""
        before = self._state.remembered(NOTE) or {}
        if before.get("unsupported") == firmware:
            return
        entries = _entries(link.version, self._tags.known())
        digest = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()
        same = before.get("digest") == digest
        if same and before.get("checked") == link.address:
            return
        key = "versionNumber" if link.version.two else "listVersion"
        told = (await link.call("GetLocalListVersion", {})).get(key)
        has = told if isinstance(told, int) else 0
        if has < 0:  # 1.6: no local list at all
            await self._state.remember(NOTE, {"unsupported": firmware})
            return
        version = has
        if not (same and has == before.get("version")) and (entries or has):
            version = await self._send(link, entries, has)
            self._state.tell("charger.local_list", {"entries": len(entries), "version": version})
        await self._state.remember(NOTE, {"digest": digest, "version": version, "checked": link.address})

    async def _send(self, link: Link, entries: Sequence[Payload], version: int) -> int:
        key = "versionNumber" if link.version.two else "listVersion"
        for start in range(0, max(1, len(entries)), PART):
            version += 1
            payload: dict[str, object] = {key: version, "updateType": "Differential" if start else "Full"}
            if part := entries[start : start + PART]:
                payload["localAuthorizationList"] = part
            status = (await link.call("SendLocalList", payload)).get("status")
            if status != "Accepted":
                refusal = Refusal.NOT_CAPABLE if status == "NotSupported" else Refusal.DEVICE_REFUSED
                raise CommandRejected("send the local list", refusal, f"it answered {status}")
        return version

    async def _refused(self, error: CommandRejected) -> None:
        """No list, or not this one: not again on this connection, and never where it has none."""
        self._ready = False
        if error.refusal is Refusal.NOT_CAPABLE:
            firmware = self._state.boot.firmware if self._state.boot is not None else ""
            await self._state.remember(NOTE, {"unsupported": firmware})
        self._state.tell("charger.refused", {"what": "local list", "reason": error.reason})


def _entries(version: Version, tags: Sequence[KnownTag]) -> list[Payload]:
    """AuthorizationData of both versions, in the order of the tags."""
    if version.two:
        return [{"idToken": {"idToken": tag.tag, "type": CARD}, "idTokenInfo": _info(tag, two=True)} for tag in tags]
    return [{"idTag": tag.tag, "idTagInfo": _info(tag, two=False)} for tag in tags if len(tag.tag) <= MAX_TAG_16]


def _info(tag: KnownTag, *, two: bool) -> Mapping[str, object]:
    info: dict[str, object] = {"status": tag.status}
    if tag.until_us is not None:
        info["cacheExpiryDateTime" if two else "expiryDate"] = wire_time(tag.until_us)
    if tag.parent and two:
        info["groupIdToken"] = {"idToken": tag.parent, "type": OURS}
    elif tag.parent and len(tag.parent) <= MAX_TAG_16:
        info["parentIdTag"] = tag.parent
    return info
