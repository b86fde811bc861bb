"""Certificates that chargers ask for, to prove by them who they are (1.6 security extension and 2.0.1 part 2, A02).

Rules of this file:

1. Only over TLS, so that nobody else can put a key of his own into the request; and only for the charger's connection
   (``ChargingStationCertificate``): this site has no authority of vehicles.
2. The request is checked and signed before it is answered; then the answer leaves, and then ``CertificateSigned``. It
   is sent once: a charger that gets none asks again (CertSigningWaitMinimum).
3. A charger may ask some times, and then once a minute: each request costs a signature and a line in the ledger.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from agent.core.clock import Clock
from agent.core.errors import BadData, CommandRejected, DeviceError
from drivers.codec.ocpp_model import Version
from drivers.ocpp.operations import Operations
from drivers.ocpp.ports import Call, ChargerState, Payload
from drivers.ocpp.settings import TLS_FROM
from drivers.ocpp.throttle import Throttle

#: What it is for, where the charger says so (2.x).
OWN = "ChargingStationCertificate"
#: The answer to SignCertificate leaves before the certificate is sent.
AFTER_ANSWER_S = 0.1
_BURST, _EVERY_S = 5, 60.0
_REJECTED: Payload = {"status": "Rejected"}


class Certificates:
    """The certificates of one charger. ``spawn`` starts what outlives the answer, and ends it with the charger."""

    def __init__(
        self,
        state: ChargerState,
        operations: Operations,
        clock: Clock,
        spawn: Callable[[Coroutine[object, object, None]], object],
        count: Callable[[str], None],
    ) -> None:
        self._state = state
        self._operations = operations
        self._clock = clock
        self._spawn = spawn
        self._count = count
        self._allowed = Throttle(clock, _BURST, _EVERY_S)

    async def asked(self, call: Call) -> Payload:
        """The answer to SignCertificate; Accepted, when a certificate will be sent."""
        if not self._allowed.take():
            self._count("certificate_requests")
            return _REJECTED
        try:
            chain = await self._signed(call.payload)
        except DeviceError as error:
            self._tell("certificate not signed", reason=error.reason, hint=error.hint)
            return _REJECTED
        self._spawn(self._send(chain, call.payload))
        return {"status": "Accepted"}

    async def _signed(self, payload: Payload) -> str:
        settings, central = self._state.settings, self._state.central
        op = f"sign a certificate of {settings.device}"
        if central.endpoint.profile < TLS_FROM:
            raise BadData(op, f"this port has security profile {central.endpoint.profile}", "that takes profile 2 or 3")
        if payload.get("certificateType", OWN) != OWN:
            raise BadData(op, "only certificates for its connection are signed here")
        csr = payload.get("csr")
        if not isinstance(csr, str):
            raise BadData(op, "there is no request in it")
        from drivers.ocpp.authority import SiteAuthority  # noqa: PLC0415 - cryptography, for sites that need it

        authority = SiteAuthority(central.data_dir, self._clock)
        return await asyncio.to_thread(authority.sign, csr, settings.identity)

    async def _send(self, chain: str, asked: Mapping[str, object]) -> None:
        await self._clock.sleep_s(AFTER_ANSWER_S)
        payload: dict[str, object] = {"certificateChain": chain}
        if self._operations.version.two:
            payload["certificateType"] = OWN
        if self._operations.version is Version.V21 and "requestId" in asked:
            payload["requestId"] = asked["requestId"]
        try:
            await self._operations.call("CertificateSigned", payload)
        except (DeviceError, CommandRejected) as error:
            self._tell("certificate not taken", reason=error.reason)
        else:
            self._tell("certificate taken")

    def _tell(self, what: str, **more: str) -> None:
        self._state.tell("charger.security", {"what": what, **{name: text for name, text in more.items() if text}})
