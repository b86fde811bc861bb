"""The steps of an upgrade, and what a cut at any of them leaves.

| state in the journal | what may have happened | a cut leads to |
|---|---|---|
| (none) | the head of the package was read | nothing |
| installing | unpacked, environment made, tried out | both are taken away |
| trying | stopped, ``current`` switched, started, at the gate | the former version, see ``_undo`` |
| undoing | the same, and the gate was not passed | the same |
| done | the gate was passed | the new version; what is left of the work is done |

The store: a newer version may have brought it to a schema that the former one can't read. Where the new one has
recorded nothing yet, the copy that it made takes the place of the file. Else the file stays: the former version moves
it aside as ``newer-…``, and takes from it what was recorded meanwhile (``docs/durability.md``).
"""

import shlex
import subprocess
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.core.clock import Clock
from agent.core.errors import StoreError, UpgradeError
from agent.store import older
from agent.store.settings import DATABASE
from agent.upgrade import environment, letters
from agent.upgrade.bundle import Manifest, Package, Wheel, open_package, unpack
from agent.upgrade.gate import Gate
from agent.upgrade.keys import Keys
from agent.upgrade.layout import Journal, Root
from agent.upgrade.rules import check_fits, check_room
from agent.upgrade.versions import Version

_SERVICE_S = 300.0
_MAX_REASON = 2000
CUT = "it was cut off"

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Site:
    """The configuration, and the folder of the data, of the gateway that runs here."""

    config: Path
    data_dir: Path


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the new version may take until it is well, and for how long it must be."""

    within_s: float = 600.0
    steady_s: float = 30.0


class Service:
    """Stops and starts the gateway by a command, in which ``{}`` stands for ``stop`` or ``start``."""

    def __init__(self, command: str) -> None:
        self._command = command

    def stop(self) -> None:
        """Stop it; when this returns no process of it is there. Raises ``UpgradeError``."""
        self._do("stop")

    def start(self) -> None:
        """Start it. Raises ``UpgradeError`` when it does not come up."""
        self._do("start")

    def _do(self, verb: str) -> None:
        command = [part.replace("{}", verb) for part in shlex.split(self._command)]
        op = " ".join(command)
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=_SERVICE_S)  # noqa: S603 - root's
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UpgradeError(op, str(error)) from error
        if done.returncode:
            words = " ".join(done.stderr.decode(errors="replace").split())[-300:]
            raise UpgradeError(op, words or f"exit code {done.returncode}")


@dataclass(frozen=True, slots=True)
class Parts:
    """What an upgrade needs of the world. ``build`` and ``try_out`` are those of ``environment.py``."""

    service: Service
    gate: Gate
    clock: Clock
    tell: Tell
    build: Callable[[Path, Sequence[Wheel], Path], object] = environment.build
    try_out: Callable[[Path, Path, str, Path], object] = environment.try_out


class Upgrader:
    """Installs packages below a root, and ends what was cut. One at a time: see ``Root.held``."""

    def __init__(self, root: Root, site: Site, parts: Parts, patience: Patience) -> None:
        self._root = root
        self._site = site
        self._parts = parts
        self._patience = patience

    def install(self, package: Path, keys: Keys) -> Manifest:
        """Make the version of a package the one that runs. Raises ``UpgradeError``: then the former one runs."""
        op = f"install {package}"
        self.resume(service=True)
        former = self._root.running()
        try:
            with package.open("rb") as file:
                opened = self._admitted(file, keys, former, op)
                journal = self._begin(opened.manifest, former)
                try:
                    self._make(journal, opened)
                    self._try(journal)
                except BaseException as error:
                    self._undo(journal, str(error) or "it was interrupted", service=True)
                    raise
            self._finish(journal)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise UpgradeError(op, f"{where}{error.strerror or error}") from error
        return opened.manifest

    def check(self, package: Path, keys: Keys) -> Manifest:
        """Look through a whole package, and whether it may be installed here. Raises ``UpgradeError``."""
        op = f"check {package}"
        try:
            with package.open("rb") as file:
                opened = open_package(file, keys, op)
                unpack(opened, None)
                check_fits(opened.manifest, self._root, self._site.data_dir / DATABASE, op)
                check_room(opened.manifest, self._root, op)
        except OSError as error:
            raise UpgradeError(op, error.strerror or str(error)) from error
        return opened.manifest

    def resume(self, *, service: bool) -> Journal | None:
        """End what was cut, before the gateway starts or another upgrade begins; what that was.

        ``service``: stop and start the gateway for that; else nobody runs it now. Raises ``UpgradeError``.
        """
        journal = self._root.journal()
        try:
            self._root.sweep()
            if journal is None:
                return None
            if journal.state == "done":
                self._finish(journal)
            else:
                self._undo(journal, journal.reason or CUT, service=service)
        except OSError as error:
            raise UpgradeError("end the upgrade that was cut", f"{error.filename}: {error.strerror}") from error
        return journal

    def _admitted(self, file: BinaryIO, keys: Keys, former: Version, op: str) -> Package:
        """A package that may be installed here; what is refused stands on the ledger. Raises ``UpgradeError``."""
        version = ""
        try:
            opened = open_package(file, keys, op)
            version = opened.manifest.version
            check_fits(opened.manifest, self._root, self._site.data_dir / DATABASE, op)
            check_room(opened.manifest, self._root, op)
        except UpgradeError as error:
            self._tell_ledger("upgrade.refused", self._site.data_dir, version, former.text, str(error))
            raise
        return opened

    def _begin(self, manifest: Manifest, former: Version) -> Journal:
        if self._root.version_of(self._root.good) is None:
            self._root.point(self._root.good, former.text)
        journal = Journal(
            id=uuid.uuid4().hex,
            state="installing",
            version=manifest.version,
            former=former.text,
            config=str(self._site.config),
            data_dir=str(self._site.data_dir),
        )
        self._root.note(journal)
        return journal

    def _make(self, journal: Journal, opened: Package) -> None:
        """Unpack, install, try out."""
        tell, root, manifest = self._parts.tell, self._root, opened.manifest
        tell(f"{manifest.version}: unpacking {len(manifest.wheels)} wheels, {manifest.size / 2**20:.1f} MiB")
        root.clear_stage()
        root.remove(manifest.version)
        root.stage.mkdir(mode=0o755)
        unpack(opened, root.stage)
        env = root.env(manifest.version)
        tell(f"installing into {env}")
        self._parts.build(env, manifest.wheels, root.stage)
        tell("trying it out")
        self._parts.try_out(env, root.env(journal.former), manifest.version, self._site.config)
        root.clear_stage()
        root.complete(manifest.version)

    def _try(self, journal: Journal) -> None:
        """Let it run, and wait at its gate. It counts when the journal says so."""
        before = self._parts.gate.look()
        self._root.note(journal.model_copy(update={"state": "trying"}))
        self._parts.tell(f"stopping {journal.former}, starting {journal.version}")
        # Stopped first: a process that runs loads some of its modules late.
        self._parts.service.stop()
        self._root.point(self._root.current, journal.version)
        self._parts.service.start()
        within_s, steady_s = self._patience.within_s, self._patience.steady_s
        self._parts.gate.wait(before, journal.version, within_s, steady_s, self._parts.tell)
        self._root.note(journal.model_copy(update={"state": "done"}))

    def _finish(self, journal: Journal) -> None:
        """The gate was passed. Can be repeated. Raises ``OSError``."""
        self._root.passed(journal.version)
        self._told(journal, "upgrade.done", "")
        self._parts.gate.close()
        self._root.clear_stage()
        for name in self._root.tidy({journal.version, journal.former}):
            self._parts.tell(f"removed {name}")
        self._root.close_journal()

    def _undo(self, journal: Journal, reason: str, *, service: bool) -> None:
        """Back to the former version. Can be repeated. Raises ``UpgradeError`` when that can't be started."""
        self._root.clear_stage()  # first: what follows needs a little room
        found = self._root.journal()
        started = found is not None and found.state != "installing"
        if started:
            self._parts.tell(f"back to {journal.former}: {reason}")
            with suppress(OSError):  # without room the old note leads to the same
                self._root.note(journal.model_copy(update={"state": "undoing", "reason": reason}))
            if service:
                self._stop()
            self._root.point(self._root.current, journal.former)
            self._store_back(journal)
        with suppress(OSError):  # they are only left lying
            self._parts.gate.close()
        self._root.remove(journal.version)
        self._told(journal, "upgrade.rolled_back", reason)
        self._root.close_journal()
        if started and service:
            self._parts.service.start()

    def _stop(self) -> None:
        try:
            self._parts.service.stop()
        except UpgradeError as error:  # the start of the former version will tell how it stands
            self._parts.tell(str(error))

    def _store_back(self, journal: Journal) -> None:
        path = Path(journal.data_dir) / DATABASE
        try:
            if older.put_back(path):
                self._parts.tell(f"{path} is as it was: {journal.version} had recorded nothing in it")
        except StoreError as error:  # the former version looks for itself, and moves it aside if it must
            self._parts.tell(f"{path} stays as it is: {error}")

    def _told(self, journal: Journal, kind: str, reason: str) -> None:
        self._tell_ledger(kind, Path(journal.data_dir), journal.version, journal.former, reason, journal.id)

    def _tell_ledger(self, kind: str, folder: Path, version: str, former: str, reason: str, number: str = "") -> None:
        content = {
            "id": number or uuid.uuid4().hex,
            "kind": kind,
            "t_us": self._parts.clock.now_us(),
            "version": version,
            "former": former,
            "reason": reason[:_MAX_REASON],
        }
        try:
            letters.tell(folder, letters.Outcome.model_validate(content))
        except OSError as error:  # on a full disk, say: going back matters more
            self._parts.tell(f"the ledger is not told: {error.strerror}")
