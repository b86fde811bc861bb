"""Where versions stand, which one runs, and the journal of an upgrade.

```
/opt/enlace/envs/1.2.0/       a virtual environment for each version, never moved, never written to when it is complete
/opt/enlace/current           -> envs/1.2.0: what runs
/opt/enlace/good              -> envs/1.2.0: the last version that passed a gate; undoes what is cut
/opt/enlace/highest           the highest version that ever passed: none below is installed any more
/opt/enlace/upgrade.json      the journal, while there is an upgrade
/opt/enlace/upgrade.lock      held while a command works here
```
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.core.disk import replace_file, sync
from agent.core.errors import UpgradeError
from agent.upgrade.versions import Version

DEFAULT = Path("/opt/enlace")
#: Stands in an environment that this command made and that is complete.
COMPLETE = ".enlace-complete"


class Journal(BaseModel):
    """What is being done. ``trying``: the new version runs, or may; all before ``done`` is undone after a cut."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    state: Literal["installing", "trying", "undoing", "done"]
    version: str
    former: str
    config: str
    data_dir: str
    reason: str = ""


class Root:
    """The folder of the program. Everything raises ``OSError``; what raises ``UpgradeError`` says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.envs = path / "envs"
        self.stage = path / "envs" / ".new"
        self._old = path / "envs" / ".old"
        self.current = path / "current"
        self.good = path / "good"
        self._journal = path / "upgrade.json"
        self._highest = path / "highest"

    def env(self, version: str) -> Path:
        """The place of a version's environment."""
        return self.envs / Version(version).text

    def version_of(self, link: Path) -> Version | None:
        """The version that a link points to; None where there is none."""
        try:
            return Version.or_none(link.readlink().name)
        except OSError:
            return None

    def running(self) -> Version:
        """The version that ``current`` points to. Raises ``UpgradeError`` where there is none."""
        found = self.version_of(self.current)
        if found is None or not self.env(found.text).is_dir():
            hint = "install the Debian package first, or name the folder with --root"
            raise UpgradeError(f"upgrade {self.path}", f"{self.current} leads to no version in {self.envs}", hint)
        return found

    def point(self, link: Path, version: str) -> None:
        """Let a link lead to a version, in one rename; on the disk when this returns."""
        if link.is_symlink() and link.readlink() == Path("envs", version):
            return
        draft = link.with_name(f".{link.name}.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(f"envs/{version}")
        draft.replace(link)
        sync(self.path)

    def highest(self) -> Version:
        """No version up to this one is installed: the highest that passed, or that runs. Raises ``UpgradeError``."""
        running = self.running()
        try:
            text = self._highest.read_text().strip()
        except FileNotFoundError:
            return running
        found = Version.or_none(text)
        if found is None:
            hint = f"write the highest version that ever ran here into it, such as {running}"
            raise UpgradeError(f"read {self._highest}", "it is damaged", hint)
        return max(found, running)

    def passed(self, version: str) -> None:
        """That version passed its gate."""
        replace_file(self._highest, f"{max(Version(version), self.highest())}\n".encode(), mode=0o644)
        self.point(self.good, version)

    def journal(self) -> Journal | None:
        """What is being done, or was when it was cut. Raises ``UpgradeError`` when it is damaged."""
        try:
            return Journal.model_validate_json(self._journal.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            hint = "delete it; before the next start let `current` lead to where `good` does"
            raise UpgradeError(f"read {self._journal}", "it is damaged", hint) from error

    def note(self, journal: Journal) -> None:
        """Write down what is done from now on."""
        replace_file(self._journal, journal.model_dump_json(indent=1).encode(), mode=0o644)

    def close_journal(self) -> None:
        """Nothing is being done any more."""
        self._journal.unlink(missing_ok=True)
        sync(self.path)

    def is_complete(self, version: str) -> bool:
        """Whether an environment was made here, to its end."""
        return (self.env(version) / COMPLETE).exists()

    def complete(self, version: str) -> None:
        """All of an environment is there; it is on the disk before this says so."""
        os.sync()
        replace_file(self.env(version) / COMPLETE, b"", mode=0o644)

    def remove(self, version: str) -> None:
        """Take an environment away: renamed first, so that none ever stands there half."""
        self._clear_old()
        env = self.env(version)
        if env.is_dir():
            env.rename(self._old)
            sync(self.envs)
            self._clear_old()

    def _clear_old(self) -> None:
        if self._old.exists():
            shutil.rmtree(self._old)

    def clear_stage(self) -> None:
        """Take away what was unpacked."""
        if self.stage.exists():
            shutil.rmtree(self.stage)

    def sweep(self) -> None:
        """Take away drafts of links and files that a cut left. Nobody else may be at work here."""
        for name in (self.current.name, self.good.name, self._journal.name, self._highest.name):
            for draft in self.path.glob(f".{name}[.-]*"):
                draft.unlink()

    def tidy(self, keep: set[str]) -> list[str]:
        """Remove the environments that this command made and that are not to be kept; which ones."""
        self._clear_old()
        found = [
            one.name
            for one in sorted(self.envs.iterdir())
            if Version.or_none(one.name) and one.name not in keep and self.is_complete(one.name)
        ]
        for name in found:
            self.remove(name)
        return found

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock of this folder; whether it could be had."""
        descriptor = os.open(self.path / "upgrade.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)
