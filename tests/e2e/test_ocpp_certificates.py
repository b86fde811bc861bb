"""Chargers that ask for a certificate and move to profile 3 with it: the real port, gate, chargers and store."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from agent.core.clock import SystemClock
from agent.core.model import Event
from agent.store.db import Store
from drivers.ocpp.authority import SiteAuthority
from drivers.ocpp.credentials import seal
from drivers.ocpp.id_tags import IdTags
from drivers.ocpp.listener import OcppListener
from drivers.ocpp.plan import plan_ocpp
from drivers.ocpp.settings import CentralSettings, ChargerSettings, Endpoint
from tests.ports import free_port
from tests.sinks import RecordingSink

WAIT_S = 60.0
PASSWORD = b"a-password-of-more-than-16"
VERSIONS = ["ocpp1.6", "ocpp2.0.1"]
IDS = ("CP-1", "CP-2")


@dataclass
class House:
    """A gateway's chargers' port, with two chargers that are known."""

    folder: Path
    profile: int
    port: int
    sink: RecordingSink

    def connect(self, identity: str, offer: str, files: tuple[Path, Path] | None = None) -> connect:
        """``files``: certificate and key that it shows instead of a password."""
        pair = base64.b64encode(identity.encode() + b":" + PASSWORD).decode()
        context = None
        if self.profile > 1:
            context = ssl.create_default_context(cafile=self.folder / "ocpp-tls" / "authority.pem")
            if files is not None:
                context.load_cert_chain(*files)
        return connect(
            f"{'ws' if context is None else 'wss'}://127.0.0.1:{self.port}/ocpp/{identity}",
            subprotocols=[Subprotocol(offer)],
            additional_headers=[] if files else [("Authorization", f"Basic {pair}")],
            ssl=context,
            ping_interval=None,
        )

    def told(self, what: str) -> list[Event]:
        return [one for one in self.sink.events if one.kind == "charger.security" and one.data.get("what") == what]


@asynccontextmanager
async def house(folder: Path, profile: int) -> AsyncIterator[House]:
    clock = SystemClock()
    store = Store.open(folder / "enlace.db", clock)
    here = House(folder, profile, free_port(), RecordingSink())
    central = CentralSettings(Endpoint("127.0.0.1", here.port, profile), folder)
    chargers = [ChargerSettings(one.lower(), one) for one in IDS]
    listener = OcppListener(plan_ocpp(chargers, central, ()), clock, store, store, IdTags("any", store, clock))
    await listener.apply(chargers, {})
    for one in IDS:
        await listener.gate.credentials.put(one, seal(PASSWORD), "password pinned")
    task = asyncio.create_task(listener.run(here.sink))
    try:
        async with asyncio.timeout(WAIT_S):
            while not await _open(here.port):
                assert not task.done()
                await asyncio.sleep(0.01)
        yield here
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        store.close()


async def _open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


class Client:
    """A charger that knows nothing but certificates. ``taken`` are those that it was sent."""

    def __init__(self, socket: ClientConnection, version: str, answer: str = "Accepted") -> None:
        self.socket, self.version, self.answer = socket, version, answer
        self.taken: list[dict[str, object]] = []
        self.order: list[str] = []
        self._answers: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in self.socket:
                kind, number, *rest = json.loads(text)
                if kind == 3:
                    self.order.append("answer")
                    self._answers.put_nowait(rest[0])
                elif kind == 2 and rest[0] == "CertificateSigned":
                    self.order.append("CertificateSigned")
                    self.taken.append(rest[1])
                    await self.socket.send(json.dumps([3, number, {"status": self.answer}]))
                elif kind == 2:
                    await self.socket.send(json.dumps([4, number, "NotSupported", "", {}]))

    async def ask(self, action: str, payload: dict[str, object]) -> dict[str, object]:
        await self.socket.send(json.dumps([2, "1" + action, action, payload]))
        return await asyncio.wait_for(self._answers.get(), WAIT_S)


@asynccontextmanager
async def client(here: House, identity: str, version: str, **more: object) -> AsyncIterator[Client]:
    files: tuple[Path, Path] | None = more.pop("files", None)  # type: ignore[assignment]
    async with here.connect(identity, version, files) as socket:
        made = Client(socket, version, **more)  # type: ignore[arg-type]
        listening = asyncio.create_task(made.listen())
        try:
            yield made
        finally:
            await socket.close()
            await listening


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.005)


def request(key: ec.EllipticCurvePrivateKey) -> str:
    """A signing request that claims to be somebody else."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CP-9")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


async def certificate(
    here: House, identity: str, version: str, files: tuple[Path, Path] | None = None
) -> tuple[Path, Path]:
    """What a charger has after it asked for one: certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    async with client(here, identity, version, files=files) as charger:
        assert await charger.ask("SignCertificate", {"csr": request(key)}) == {"status": "Accepted"}
        await until(lambda: here.told("certificate taken"))
        assert charger.order == ["answer", "CertificateSigned"]
        (sent,) = charger.taken
        kind = {} if version == "ocpp1.6" else {"certificateType": "ChargingStationCertificate"}
        chain = str(sent.pop("certificateChain"))
        assert sent == kind
    (event,) = here.told("certificate taken")
    assert event.subject == identity.lower()
    here.sink.events.clear()
    files = here.folder / f"{identity}.pem", here.folder / f"{identity}.key"
    files[0].write_text(chain)
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def boot(version: str) -> dict[str, object]:
    if version == "ocpp1.6":
        return {"chargePointVendor": "Enlace", "chargePointModel": "Test"}
    return {"reason": "PowerUp", "chargingStation": {"vendorName": "Enlace", "model": "Test"}}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_charger_moves_to_profile_3_with_a_certificate_of_ours(tmp_path: Path, version: str) -> None:
    """A02, A00.FR.404 and 405: each with its own certificate, and with that of nobody else."""

    async def main() -> None:
        async with house(tmp_path, 2) as here:
            files = {one: await certificate(here, one, version) for one in IDS}
        subject = x509.load_pem_x509_certificates(files["CP-1"][0].read_bytes())[0].subject
        assert subject.rfc4514_string() == "CN=CP-1,O=Enlace"
        async with house(tmp_path, 3) as here:
            async with client(here, "CP-1", version, files=files["CP-1"]) as charger:
                assert (await charger.ask("BootNotification", boot(version)))["status"] == "Accepted"
                with pytest.raises(InvalidStatus, match="401"):
                    await here.connect("CP-1", version, files["CP-2"])
                (refused,) = [one for one in here.sink.events if one.kind == "charger.refused"]
                assert (refused.subject, refused.data["reason"]) == ("cp-1", "wrong_certificate")
                assert (await charger.ask("Heartbeat", {})).keys() == {"currentTime"}
            await certificate(here, "CP-1", version, files["CP-1"])  # and renews it

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_signed_is_told(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        good = request(ec.generate_private_key(ec.SECP256R1()))
        async with house(tmp_path, 2) as here, client(here, "CP-1", version) as charger:
            bad: list[dict[str, object]] = [{"csr": "hello"}, {"csr": good[:200]}, {"csr": 7}, {}]
            if version == "ocpp2.0.1":
                bad[0] = {"csr": good, "certificateType": "V2GCertificate"}
            for payload in bad:
                assert await charger.ask("SignCertificate", payload) == {"status": "Rejected"}
            assert len(here.told("certificate not signed")) == len(bad)
            assert not here.told("certificate taken")
            assert not charger.taken
            # The fifth request is the last one before it has to wait; one more is not even looked at.
            assert await charger.ask("SignCertificate", {"csr": good}) == {"status": "Accepted"}
            assert await charger.ask("SignCertificate", {"csr": good + "\n"}) == {"status": "Rejected"}
            assert len(here.told("certificate not signed")) == len(bad)
            assert here.sink.counts["certificate_requests"] == 1
            await until(lambda: here.told("certificate taken"))

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_charger_that_does_not_take_its_certificate(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        csr = request(ec.generate_private_key(ec.SECP256R1()))
        async with house(tmp_path, 2) as here:
            async with client(here, "CP-1", version, answer="Rejected") as charger:
                assert await charger.ask("SignCertificate", {"csr": csr}) == {"status": "Accepted"}
                await until(lambda: here.told("certificate not taken"))
            (event,) = here.told("certificate not taken")
            assert event.data["reason"] == "it answered Rejected"

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_signed_without_tls(tmp_path: Path, version: str) -> None:
    async def main() -> None:
        csr = request(ec.generate_private_key(ec.SECP256R1()))
        async with house(tmp_path, 1) as here, client(here, "CP-1", version) as charger:
            assert await charger.ask("SignCertificate", {"csr": csr}) == {"status": "Rejected"}
            (event,) = here.told("certificate not signed")
            assert "profile 1" in str(event.data["reason"])
            assert not (tmp_path / "ocpp-tls").exists()

    asyncio.run(main())


def test_chargers_that_ask_at_once_get_certificates_of_one_authority(tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, 2) as here:
            own = SiteAuthority(tmp_path, SystemClock()).fingerprint()
            async with client(here, "CP-1", "ocpp1.6") as one, client(here, "CP-2", "ocpp2.0.1") as two:
                csrs = [request(ec.generate_private_key(ec.SECP256R1())) for _ in IDS]
                await asyncio.gather(
                    *(c.ask("SignCertificate", {"csr": csr}) for c, csr in zip((one, two), csrs, strict=True))
                )
                await until(lambda: len(here.told("certificate taken")) == 2)
                for charger in (one, two):
                    chain = str(charger.taken[0]["certificateChain"]).encode()
                    assert x509.load_pem_x509_certificates(chain)[1].fingerprint(hashes.SHA256()).hex() == own

    asyncio.run(main())
