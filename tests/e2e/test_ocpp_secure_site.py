"""Chargers over TLS at the real gateway process: adopted, used and let in again, with passwords and certificates."""

import asyncio
import signal
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidMessage

from agent.core.clock import SystemClock
from drivers.ocpp.authority import SiteAuthority
from drivers.sim.charger_ocpp import SimulatedCharger
from tests.e2e.test_ocpp_site import Gateway, until
from tests.ports import free_port

PASSWORD = b"a password of its own, 1.6"
DEVICES = {"CP-0001": ("cp1", "1.6"), "CP-0003": ("cp3", "2.0.1")}
SITE = """\
data_dir: {folder}/data
site: {{id: depot}}
api: {{listen: "127.0.0.1:{api}"}}
ocpp: {{listen: "127.0.0.1:{ocpp}", sample_s: 1, security_profile: {profile}}}
"""
#: How a client learns that its handshake was refused; with TLS 1.3 only with the first bytes that it reads.
REFUSED = (OSError, InvalidMessage, InvalidHandshake, EOFError)


class Site:
    """A gateway of one security profile, and chargers that trust its authority."""

    def __init__(self, folder: Path, profile: int) -> None:
        self.folder, self.profile = folder, profile
        self.gateway = Gateway(folder, free_port(), free_port())
        text = SITE.format(folder=folder, api=self.gateway.api_port, ocpp=self.gateway.ocpp_port, profile=profile)
        self.gateway.config.write_text(text)

    @property
    def ca_file(self) -> Path:
        """What an installer gives to chargers."""
        return self.folder / "data" / "ocpp-tls" / "authority.pem"

    def charger(self, identity: str) -> SimulatedCharger:
        plain = self.gateway.charger(identity, DEVICES[identity][1], PASSWORD if self.profile == 2 else None).settings
        url = plain.url.replace("ws:", "wss:", 1)
        secure = replace(plain, url=url, ca_file=self.ca_file)
        if self.profile == 3:
            cert_file, key_file = self.files(identity)
            secure = replace(secure, cert_file=cert_file, key_file=key_file)
        return SimulatedCharger(secure, SystemClock())

    def files(self, identity: str) -> tuple[Path, Path]:
        """Certificate and key of a charger."""
        cert_file, key_file = self.folder / f"{identity}.pem", self.folder / f"{identity}.key"
        if not cert_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity)])
            csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
            text = csr.public_bytes(serialization.Encoding.PEM).decode()
            cert_file.write_text(SiteAuthority(self.folder / "data", SystemClock()).sign(text, identity))
            form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return cert_file, key_file

    async def adopt(self, charger: SimulatedCharger) -> None:
        """Once it waits; the API says how it proves who it is."""
        identity = charger.settings.identity

        async def knocks() -> bool:
            pending = (await self.gateway.get("/api/chargers/pending"))["items"]
            return any(one["charge_point_id"] == identity and one["boot"] for one in pending)

        await until(knocks, "it waits to be adopted")
        entry = {"id": DEVICES[identity][0], "driver": "ocpp", "charge_point_id": identity}
        answer = await self.gateway.send("POST", "/api/devices", entry)
        assert answer["adoption"]["outcome"] == ("pinned" if self.profile == 2 else "nothing")
        await until(lambda: _is(charger.registered == "Accepted"), "it is served")

    async def charges(self, charger: SimulatedCharger) -> None:
        """A vehicle comes, charges and is stopped by the API; what is stored is what its meter says."""
        device, before = DEVICES[charger.settings.identity][0], len(charger.sessions)

        async def free() -> bool:
            return bool((await self.gateway.station(device))["connector"] == "Available")

        await until(free, "its status is known")
        charger.plug_in(1, 16.0, f"VAN-{device}")
        await until(lambda: _is(charger.outlets[0].transaction is not None), "a transaction runs")
        await until(lambda: _is(charger.outlets[0].evse.session_wh > 1), "energy flows")
        assert await self.gateway.tell(device, "stop") == "done"
        await until(lambda: _is(len(charger.sessions) > before), "its session ended")
        charger.unplug(1)
        energies = sorted(one.stop_wh - one.start_wh for one in charger.sessions)

        async def stored() -> bool:
            ended = [one for one in await self.gateway.sessions() if one["stop"] and one["device"] == device]
            return sorted(one["energy_wh"] for one in ended) == pytest.approx(energies, abs=1)

        await until(stored, "the session is stored with its energy")


async def _is(value: object) -> object:
    return value


@pytest.mark.parametrize("profile", [2, 3])
def test_chargers_over_tls_are_adopted_charge_and_come_back(tmp_path: Path, profile: int) -> None:
    """TC_A_04 (a valid certificate of ours, TLS 1.2 or later) and TC_A_07 (theirs), over the whole gateway."""
    site = Site(tmp_path, profile)

    async def first() -> tuple[SimulatedCharger, ...]:
        for device, _ in DEVICES.values():
            await site.gateway.send("PUT", "/api/id-tags", {"tag": f"VAN-{device}"})
        chargers = tuple(site.charger(identity) for identity in DEVICES)
        async with chargers[0], chargers[1]:
            for charger in chargers:
                await site.adopt(charger)
            await asyncio.gather(*(site.charges(charger) for charger in chargers))
        return chargers

    async def again() -> None:
        chargers = tuple(site.charger(identity) for identity in DEVICES)
        async with chargers[0], chargers[1]:
            for charger in chargers:
                await until(lambda one=charger: _is(one.registered == "Accepted"), "it is let in as before")  # type: ignore[misc]

    with site.gateway.running():
        asyncio.run(first())
        before = site.ca_file.read_bytes()
        keys = list((tmp_path / "data" / "ocpp-tls").glob("*.key"))
        assert {one.name for one in keys} == {"authority.key", "server-ec.key", "server-rsa.key"}
        assert {one.stat().st_mode & 0o777 for one in keys} == {0o600}
        assert site.ca_file.parent.stat().st_mode & 0o777 == 0o700
    with site.gateway.running():
        asyncio.run(again())
        assert site.ca_file.read_bytes() == before
    for log in tmp_path.glob("gateway*.log"):
        assert "Traceback" not in log.read_text()


def _context(ca_file: Path | None, highest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.maximum_version = highest
    return context


def _too_old(ca_file: Path) -> ssl.SSLContext:
    context = _context(ca_file)
    context.set_ciphers("ALL@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


async def _fails(url: str, **more: object) -> None:
    with pytest.raises(REFUSED):
        await connect(url, subprotocols=["ocpp1.6"], ping_interval=None, **more)  # type: ignore[list-item,arg-type]


@pytest.mark.parametrize("profile", [2, 3])
def test_tc_a_05_06_and_086_who_does_not_trust_us_or_speaks_old_tls_or_none(tmp_path: Path, profile: int) -> None:
    """TC_A_05: a charger that does not know our authority ends it; TC_A_06, TC_086_CS: TLS 1.1 is not spoken.

    And A00.FR.005: whoever comes back on a lower profile (without TLS; without a certificate) stays outside, while
    another charger stays connected.
    """
    site = Site(tmp_path, profile)

    async def main() -> None:
        async with site.charger("CP-0001") as healthy:
            await site.adopt(healthy)
            connections = healthy.connections
            url = healthy.settings.url
            await _fails(url, ssl=_context(None))
            await _fails(url, ssl=_too_old(site.ca_file))
            await _fails(url.replace("wss:", "ws:"))
            if profile == 3:
                await _fails(url, ssl=_context(site.ca_file, ssl.TLSVersion.TLSv1_2))
                await _fails(url, ssl=_context(site.ca_file))
            # TLS 1.2 with what is right is enough.
            right = _context(site.ca_file, ssl.TLSVersion.TLSv1_2)
            if profile == 3:
                right.load_cert_chain(*site.files("CP-0003"))
            other = url.replace("CP-0001", "CP-0003")
            async with connect(other, ssl=right, subprotocols=["ocpp1.6"], ping_interval=None) as socket:  # type: ignore[list-item]
                tls = socket.transport.get_extra_info("ssl_object")
                assert tls.version() == "TLSv1.2"
            assert healthy.connections == connections
            assert healthy.registered == "Accepted"

    with site.gateway.running() as child:
        # The authority stands before a charger is there.
        asyncio.run(main())
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    assert "Traceback" not in (tmp_path / "gateway1.log").read_text()
