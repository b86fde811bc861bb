"""A machine with two versions for the tests of ``enlace upgrade``: small environments, a store, and who starts them."""

import sqlite3
import zipfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agent.core.clock import FakeClock
from agent.core.errors import UpgradeError
from agent.core.model import Event
from agent.store import older, schema
from agent.store.db import Store
from agent.store.opening import connect
from agent.upgrade import letters
from agent.upgrade.bundle import Wheel
from agent.upgrade.gate import Gate, Seen
from agent.upgrade.keys import trusted
from agent.upgrade.layout import Root
from agent.upgrade.make import make
from agent.upgrade.upgrade import Parts, Patience, Service, Site, Upgrader

OLD, NEW = "1.0.0", "2.0.0"
NEWEST = len(schema.STEPS)
WAIT_S = 60.0


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str], command: str = "") -> Path:
    """A wheel that pip takes: pure, without dependencies; ``command``: its entry point ``enlace``."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in files.items():
            wheel.writestr(place, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        if command:
            wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\nenlace = {command}\n")
        wheel.writestr(f"{info}/RECORD", "".join(f"{one.filename},,\n" for one in wheel.infolist()))
    return path


def write_keys(folder: Path, name: str) -> None:
    """``<name>.pem`` and ``<name>.pub``."""
    key = Ed25519PrivateKey.generate()
    (folder / f"{name}.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)


def write_package(folder: Path, version: str, key: str = "release", **more: str) -> Path:
    """A signed package of one small wheel."""
    wheels = folder / f"wheels-{version}"
    wheels.mkdir(exist_ok=True)
    write_wheel(wheels, "enlace", version, {"enlace_test.py": f"VERSION = {version!r}\n" + "#" * 200_000})
    target = folder / f"{version}.upgrade"
    make(target, wheels, folder / f"{key}.pem", **more)  # type: ignore[arg-type] # texts only
    return target


def build(env: Path, wheels: Sequence[Wheel], folder: Path) -> None:
    """What pip would do, as far as the steps after it see it."""
    (env / "bin").mkdir(parents=True)
    (env / "bin" / "enlace").write_text((folder / wheels[0].name).read_bytes().hex()[:100])


def _fine(*_: object) -> None:
    """It starts, and takes the configuration."""


class FakeService(Service):
    """Starts what ``current`` leads to: notes its version; a newer one brings the store to a newer schema."""

    def __init__(self, machine: "Machine") -> None:
        super().__init__("")
        self._machine = machine

    def stop(self) -> None:
        self._machine.runs.write_text("")

    def start(self) -> None:
        self._machine.boot()


class FakeGate(Gate):
    """Passes, or says why not."""

    def __init__(self, machine: "Machine") -> None:
        super().__init__(machine.data, None, FakeClock())
        self._machine = machine

    def look(self) -> Seen:
        return Seen(None, api=False)

    def wait(self, before: Seen, version: str, within_s: float, steady_s: float, tell: object) -> None:
        if self._machine.runs.read_text() != version:
            raise UpgradeError("start", f"{version} does not run")
        if self._machine.ill:
            raise UpgradeError("start", self._machine.ill)


@dataclass
class Machine:
    """``ill``: why a new version does not pass. ``migrates``: it changes the schema; ``records``: and records then."""

    folder: Path
    ill: str = ""
    migrates: bool = False
    records: bool = False
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root, self.data = Root(self.folder / "opt"), self.folder / "data"
        self.runs = self.folder / "runs"
        self.database = self.data / "enlace.db"

    def set_up(self) -> None:
        """Version ``OLD`` runs, with a store that has an event."""
        self.data.mkdir(parents=True)
        env = self.root.envs / OLD / "bin"
        env.mkdir(parents=True)
        (env / "enlace").write_text("the old one")
        self.root.current.symlink_to(f"envs/{OLD}")
        write_keys(self.folder, "release")
        with closing(Store.open(self.database, FakeClock())) as store:
            store.record(Event("test.old", 1)).result(WAIT_S)
        self.boot()

    def boot(self) -> None:
        """Start the version that ``current`` leads to: it must be whole."""
        version = self.root.running().text
        assert (self.root.env(version) / "bin" / "enlace").stat().st_size
        self.runs.write_text(version)
        if self.migrates and version != OLD:
            with closing(connect(self.database)) as connection:
                older.keep(self.database, connection, NEWEST)
                connection.execute("CREATE TABLE IF NOT EXISTS newer(id INTEGER PRIMARY KEY)")
                connection.execute(f"PRAGMA user_version = {NEWEST + 1}")
            older.upgraded(self.database, FakeClock())
            if self.records:
                self._record_as_newer()

    def _record_as_newer(self) -> None:
        """What a newer program records: by this one, that takes the schema for its own."""
        with closing(connect(self.database)) as connection:
            connection.execute("DROP TABLE newer")
            connection.execute(f"PRAGMA user_version = {NEWEST}")
        with closing(Store.open(self.database, FakeClock(FakeClock().now_us() + 1_000_000))) as store:
            store.record(Event("test.new", 1)).result(WAIT_S)
        with closing(connect(self.database)) as connection:
            connection.execute("CREATE TABLE newer(id INTEGER PRIMARY KEY)")
            connection.execute(f"PRAGMA user_version = {NEWEST + 1}")

    def upgrader(self) -> Upgrader:
        """The program that installs."""
        parts = Parts(FakeService(self), FakeGate(self), FakeClock(), self.told.append, build, _fine)
        return Upgrader(self.root, Site(self.folder / "site.yaml", self.data), parts, Patience())

    def install(self, package: Path) -> None:
        """Install it."""
        self.upgrader().install(package, trusted(self.folder / "release.pub"))

    def outcomes(self) -> list[tuple[str, str]]:
        """What waits for the ledger: kind and version."""
        return [(one.kind, one.version) for _, one in letters.told(self.data)]

    def events(self) -> list[str]:
        """What the former version finds in its store when it starts."""
        with closing(Store.open(self.database, FakeClock(FakeClock().now_us() + 9_000_000))) as store:
            return [one.event.kind for one in store.events(0, 1000, "test.")]

    def leftovers(self) -> list[str]:
        """What should not stand there when nothing is being done."""
        names = {one.name for one in (*self.root.path.iterdir(), *self.root.envs.iterdir())}
        return sorted(names - {OLD, NEW, "envs", "current", "good", "highest", "upgrade.lock"})


def is_whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")
