"""The chargers' central system as the composition root holds it: its wire, and what the API asks of it."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.api.view import Adopted, PendingCharger
from agent.core.clock import Clock
from agent.core.errors import Unavailable
from agent.core.ports import Listener
from agent.store.db import Store
from drivers.ocpp.id_tags import IdTags

if TYPE_CHECKING:
    from drivers.ocpp.knocks import KnockInfo
    from drivers.ocpp.listener import OcppListener
    from drivers.ocpp.plan import OcppPlan

#: A changed configuration is applied within some seconds.
APPLIED_S = 10.0
_LOOK_S = 0.1


class Central:
    """Owns the one ``OcppListener`` of a site, if it has one; the libraries are loaded with the first."""

    def __init__(self, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self._id_tags = IdTags("known", store, clock)
        self._wire: object = None
        self._listener: OcppListener | None = None

    async def wires(self, plan: "OcppPlan | None") -> dict[str, tuple[Listener, object]]:
        """The wire of that plan by its name, with what it is made of: the running one as long as that is the same."""
        if plan is None:
            if self._listener is not None:
                await self._listener.apply((), {})  # its chargers go for good
            self._wire = self._listener = None
            return {}
        wire = plan.central, plan.quirks
        if self._listener is None or self._wire != wire:
            make = await asyncio.to_thread(_import_ocpp)
            self._id_tags = IdTags(plan.central.id_tags, self._store, self._clock)
            self._wire, self._listener = wire, make(plan, self._clock, self._store, self._store, self._id_tags)
        return {self._listener.name: (self._listener, wire)}

    async def apply(self, plan: "OcppPlan | None", ids: Mapping[tuple[str, str], int]) -> None:
        """These are the chargers from now on. Raises ``StoreError``."""
        await self._id_tags.ready()
        if plan is not None and self._listener is not None:
            self._listener.in_zone(plan.central.timezone)
            await self._listener.apply(plan.chargers, ids)

    @property
    def url(self) -> str:
        """Where chargers call, without their ids; empty where there is no port for them."""
        return "" if self._listener is None else self._listener.name

    def tag_hash(self, tag: str) -> str:
        """What is shown of an id tag."""
        return self._id_tags.tag_hash(tag)

    def identity_of(self, device: str) -> str:
        """Under which identity a device calls; empty for one that is no charger on OCPP."""
        return "" if self._listener is None else self._listener.identity_of(device)

    async def forget(self, identity: str) -> None:
        """A charger whose entry was just taken out: once that is applied, its password is worth nothing any more.

        Raises ``StoreError`` and ``Unavailable``: its password stays, should it be added again.
        """
        listener, deadline_s = self._listener, self._clock.monotonic_s() + APPLIED_S
        if listener is None:
            return
        while listener is self._listener and listener.device_of(identity):
            if self._clock.monotonic_s() > deadline_s:
                raise Unavailable(f"forget {identity}", "the changed configuration is not applied yet", "see the log")
            await self._clock.sleep_s(_LOOK_S)
        await listener.gate.forget(identity)

    def pending(self) -> list[PendingCharger]:
        """Who knocks and is not let in."""
        listener = self._listener
        if listener is None:
            return []
        return [_pending(one, listener.device_of(one.identity)) for one in listener.gate.knocks()]

    async def adopt(self, identity: str) -> Adopted:
        """Let a charger in whose entry was just written. Raises ``StoreError`` and ``Unavailable``."""
        deadline_s = self._clock.monotonic_s() + APPLIED_S
        while self._listener is None or not self._listener.device_of(identity):
            if self._clock.monotonic_s() > deadline_s:
                hint = "see the log for why, then adopt it by PUT of the same entry"
                raise Unavailable(f"adopt {identity}", "the changed configuration is not applied yet", hint)
            await self._clock.sleep_s(_LOOK_S)
        result = await self._listener.gate.adopt(identity)
        return Adopted(result.outcome, result.text, result.password, result.password_hex)


def _pending(knock: "KnockInfo", device: str) -> PendingCharger:
    boot = knock.boot
    told: dict[str, object] = {}
    if boot is not None:
        told = {"vendor": boot.vendor, "model": boot.model, "serial": boot.serial, "firmware": boot.firmware}
    return PendingCharger(
        identity=knock.identity,
        address=knock.address,
        version="" if knock.version is None else knock.version.value,
        reason=knock.reason,
        first_us=knock.first_us,
        last_us=knock.last_us,
        boot=told,
        device=device,
        connected=knock.connected,
        contested=knock.contested,
    )


def _import_ocpp() -> "type[OcppListener]":
    from drivers.ocpp.listener import OcppListener  # noqa: PLC0415 - see the head of app.py

    return OcppListener
