"""``enlace scan ocpp``: opens the chargers' port for a while, shows who knocks, and proposes their entries.

Everybody who knocks is kept waiting, as the gateway keeps those that it does not know (``drivers/ocpp/pending.py``):
nobody is served, no transaction is taken. A charger that has one to tell keeps it, and is sent away with it.
"""

import asyncio
import errno
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from agent.config_ocpp import OcppSection
from agent.core.clock import Clock
from agent.core.errors import ConfigError, StoreError, Unavailable
from agent.core.model import Event
from agent.scan_proposal import Proposal, slug, unique
from agent.yamlfile import parse, read_text, refuse
from drivers.codec.ocpp_model import Entry, Version
from drivers.modbus.scan import Watcher
from drivers.ocpp.gatekeeper import Gate
from drivers.ocpp.knocks import KnockInfo
from drivers.ocpp.ports import Decision, Knock
from drivers.ocpp.server import OcppServer
from drivers.ocpp.settings import TLS_FROM, CentralSettings

WAIT_S = 60.0
_LOOK_S = 0.2
_PENDING_LIST = "GET /api/chargers/pending"

NOTHING = """nobody knocked. What to check:
  is ws://THIS-MACHINE:PORT/ocpp/ the charger's central system, with its id behind it (some add the id themselves)?
  is the charger in a network from which this machine can be reached, and the port open in the firewall?
  chargers try again after some minutes only: restart it, or wait longer with --seconds"""


@dataclass(frozen=True, slots=True)
class Known:
    """What is configured: the port, the ids of all devices, and the chargers."""

    central: CentralSettings
    ids: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()


def read_known(path: Path) -> Known:
    """What a configuration says of the port and the chargers, also one that has mistakes elsewhere, or is not there.

    Raises ``ConfigError`` when it can't be read.
    """
    data: object = {}
    if path.exists():
        document, problems = parse(read_text(path), str(path))
        if document is None:
            raise refuse(path, problems)
        data = document.data
    values: Mapping[str, object] = data if isinstance(data, dict) else {}
    try:
        section = OcppSection.model_validate(values.get("ocpp") or {})
    except ValidationError as error:
        raise ConfigError(f"read {path}", f"ocpp: {error.errors()[0]['msg']}", "see `enlace check`") from error
    devices = values.get("devices")
    rows = [row for row in devices if isinstance(row, dict)] if isinstance(devices, list) else []
    return Known(
        section.settings(Path(str(values.get("data_dir") or "/var/lib/enlace")), "UTC"),
        frozenset(str(row.get("id")) for row in rows),
        frozenset(str(row["charge_point_id"]) for row in rows if "charge_point_id" in row),
    )


class Job:
    """One run of the command. ``found`` is who knocked so far, by identity."""

    def __init__(
        self,
        known: Known,
        watch: Watcher,
        clock: Clock,
        *,
        listen: tuple[str, int] | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        central = replace(known.central, unknown="pending", without_subprotocol=Version.V16)
        if listen is not None:
            host, port = listen
            central = replace(central, endpoint=replace(central.endpoint, host=host, port=port))
        self._known = known
        self._wait_s = wait_s
        self._watch = watch
        self._clock = clock
        self._gate = Gate(central, {}, _Nothing(), clock, _ignore)
        self._left_alone: set[str] = set()
        self._central = central
        self.found: dict[str, KnockInfo] = {}

    async def run(self) -> None:
        """Open the port, and watch who comes. Raises ``Unavailable`` when it can't be opened."""
        with tempfile.TemporaryDirectory() as folder:
            if self._central.endpoint.profile >= TLS_FROM and not _has_certificates(self._central):
                # For this scan only: those of the gateway are made by the user that runs it, who must read them.
                self._central = replace(self._central, data_dir=Path(folder))
            self._server = OcppServer(self._central, self, self._clock, lambda _name, _amount: None)
            await self._serve()

    async def _serve(self) -> None:
        serving = asyncio.ensure_future(self._server.run())
        watching = asyncio.ensure_future(self._look())
        try:
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in (serving, watching):
                if task.done():
                    task.result()
        except Unavailable as error:
            raise self._told(error) from error
        finally:
            for task in (serving, watching):
                task.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)

    def _told(self, error: Unavailable) -> Unavailable:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
            return error
        hint = f"when it is the gateway that runs, it shows who knocks: {_PENDING_LIST}; or choose another --listen"
        return Unavailable(error.op, "another program has this port", hint)

    async def _look(self) -> None:
        port = await self._server.opened()
        endpoint = replace(self._central.endpoint, port=port)
        self._watch.say(f"chargers may knock at {endpoint.name}/ and their id")
        until_s = self._clock.monotonic_s() + self._wait_s
        while (left_s := until_s - self._clock.monotonic_s()) > 0:
            self._watch.step("waiting for chargers", f"{len(self.found)} so far", left_s)
            self.look()
            await self._clock.sleep_s(min(_LOOK_S, left_s))
        self.look()

    def look(self) -> None:
        """Say what is new of those who knock."""
        for info in reversed(self._gate.knocks()):
            before = self.found.get(info.identity)
            self.found[info.identity] = info
            if before is None:
                offers = ", ".join(info.subprotocols) or "no subprotocol"
                self._watch.say(f"{info.identity} knocks from {info.address}: offers {offers}, {_presented(info)}")
            if info.boot is not None and (before is None or before.boot != info.boot):
                self._watch.say(f"found {_summary(info)}")

    # -- the gatekeeper of this port

    async def decide(self, knock: Knock) -> Decision:
        """All wait; but those that are configured are left to the gateway, and come back when it runs."""
        if knock.identity not in self._known.identities:
            return await self._gate.decide(knock)
        if knock.identity not in self._left_alone:
            self._left_alone.add(knock.identity)
            self._watch.say(f"{knock.identity} is configured: left alone")
        return Decision(Entry.REFUSED, "configured", status=503)

    def refused(self, knock: Knock, reason: str) -> None:
        """It could not come in to wait."""
        self._gate.refused(knock, reason)

    def connected(self, knock: Knock, decision: Decision, version: Version) -> None:
        """It came in to wait."""
        self._gate.connected(knock, decision, version)


def _has_certificates(central: CentralSettings) -> bool:
    from drivers.ocpp.authority import FOLDER  # noqa: PLC0415 - cryptography, for sites that need it

    return (central.data_dir / FOLDER).is_dir()


def propose(found: Mapping[str, KnockInfo], known: Known) -> list[Proposal]:
    """Entries for those who came in, by their ids."""
    taken = set(known.ids)
    return [proposal_of(info, taken) for _, info in sorted(found.items()) if info.version is not None]


def proposal_of(info: KnockInfo, taken: set[str]) -> Proposal:
    """An entry for one of them, whose id nobody has; then it is ``taken``."""
    name = unique(slug(info.identity) or "charger", taken)
    taken.add(name)
    boot = info.boot
    said = {} if boot is None else {"serial": boot.serial, "firmware": boot.firmware}
    said |= {"offers": ", ".join(info.subprotocols), "speaks": info.version or ""}
    return Proposal(
        {"id": name, "driver": "ocpp", "charge_point_id": info.identity},
        _summary(info),
        {key: text for key, text in said.items() if text},
        {},
        notes=tuple(_notes(info)),
        title=f"{_model(info)} {info.identity}".strip(),
    )


def _notes(info: KnockInfo) -> Iterator[str]:
    yield "add connectors: when it has more than one outlet"
    if not info.subprotocols:
        yield f"it offers no subprotocol: add without_subprotocol: {info.version} to ocpp:"
    if info.profile in (1, 2):
        if info.presented == "strong":
            yield f"{_presented(info)}: adopt it, and that is its password"
        else:
            yield f"{_presented(info)}: adopt it, and it is given one; or write one into a password_file:"
    if info.contested:
        yield "somebody else knocked under the same id: look at both before you adopt it"


def _summary(info: KnockInfo) -> str:
    return f"charger {info.identity} at {info.address}: {_model(info) or 'it has not said what it is'}"


def _model(info: KnockInfo) -> str:
    boot = info.boot
    return " ".join(part for part in (boot.vendor, boot.model) if part) if boot is not None else ""


def _presented(info: KnockInfo) -> str:
    words = {"nothing": "it presents no password", "weak": "it presents a password of less than 16 bytes"}
    return words.get(info.presented, "it presents a password")


class _Nothing:
    """A ``Notebook`` that keeps nothing, and says so."""

    def note(self, kind: str, key: str) -> None:
        """None is there."""

    def notes(self, kind: str) -> Mapping[str, Mapping[str, object]]:  # noqa: ARG002 - the port's
        """None are there."""
        return {}

    async def write(
        self,
        kind: str,  # noqa: ARG002 - the port's
        key: str,  # noqa: ARG002
        data: Mapping[str, object] | None,  # noqa: ARG002
        events: Sequence[Event] = (),  # noqa: ARG002
    ) -> None:
        """Nothing changed."""
        raise StoreError("write a note", "a scan keeps nothing")


def _ignore(event: Event) -> None:
    """A scan has no ledger."""
