"""Which packages are taken: newer ones, for this Python and this machine, with room for them.

There is no option to take an older one: old packages stay signed for ever, and their faults are known. Who wants to go
back installs the older Debian package, as root and by hand (``docs/upgrade.md``).
"""

import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from agent.core.errors import UpgradeError
from agent.store.older import schema_of
from agent.upgrade.bundle import Manifest
from agent.upgrade.layout import Root
from agent.upgrade.versions import Version

#: What venv and pip take, and how much more modules are when they are compiled.
_VENV_BYTES = 48 << 20
_COMPILED = 2
_SPARE_BYTES = 64 << 20


def python_tag() -> str:
    """This Python as wheels name it: ``cp311``."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def this_platform() -> str:
    """This machine: ``linux-x86_64``. pip looks again, by the word length of its Python too."""
    return sysconfig.get_platform()


def check_fits(manifest: Manifest, root: Root, database: Path, op: str) -> None:
    """See that a package may be installed here at all. Raises ``UpgradeError``."""
    version, running, highest = Version(manifest.version), root.running(), root.highest()
    if version <= running:
        raise UpgradeError(op, f"it is {version}, and {running} runs", "only a newer version is installed")
    if version <= highest:
        raise UpgradeError(op, f"it is {version}, and {highest} ran here before", "only a newer version is installed")
    if running < Version(manifest.from_version):
        hint = f"install {manifest.from_version} first"
        raise UpgradeError(op, f"{version} can't follow {running} directly", hint)
    if (manifest.python, manifest.platform) != (python_tag(), this_platform()):
        wanted, here = f"{manifest.python} on {manifest.platform}", f"{python_tag()} on {this_platform()}"
        raise UpgradeError(op, f"it is for {wanted}, this is {here}", "take the package for this machine")
    if find_spec("ensurepip") is None:  # Debian has it apart
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise UpgradeError(op, "this Python can't make an environment", f"install Debian's {package}, say")
    if root.env(manifest.version).exists():
        raise UpgradeError(op, f"{root.env(manifest.version)} is there already", "remove it: it is none of an upgrade")
    schema = schema_of(database)
    if schema > manifest.store_schema:
        reason = f"{database} has schema {schema}, {version} knows {manifest.store_schema}"
        raise UpgradeError(op, reason, "take a newer package")


def check_room(manifest: Manifest, root: Root, op: str) -> None:
    """See that it can be unpacked and installed. Raises ``UpgradeError``, ``OSError``."""
    needed = manifest.size + _COMPILED * manifest.installed_bytes + _VENV_BYTES + _SPARE_BYTES
    free = shutil.disk_usage(root.path).free
    if free < needed:
        reason = f"{root.path} has {free >> 20} MiB left, {needed >> 20} MiB are needed"
        raise UpgradeError(op, reason, "free some space")
