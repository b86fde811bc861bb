"""Making a version's environment from its wheels, without a network, and trying it before it may run.

pip runs from the new environment (``venv`` brings it), takes only files whose hash stands in the signed manifest, and
builds nothing: wheels only.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.core.errors import UpgradeError
from agent.upgrade.bundle import Wheel

_SLOW_S = 1800.0
_LAST_LINES = 5


def build(env: Path, wheels: Sequence[Wheel], folder: Path) -> None:
    """Make an environment of wheels that stand in a folder. Raises ``UpgradeError``, ``OSError``."""
    run([sys.executable, "-m", "venv", str(env)], f"make {env}")
    wanted = folder / "requirements.txt"
    wanted.write_text("".join(f"{(folder / one.name).as_uri()} --hash=sha256:{one.sha256}\n" for one in wheels))
    pip = [str(env / "bin" / "python"), "-I", "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input"]
    install = ["install", "--quiet", "--no-index", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    run([*pip, *install, "--no-cache-dir", "-r", str(wanted)], f"install into {env}")
    run([*pip, "check"], f"look for what is missing in {env}")


def try_out(env: Path, former: Path, version: str, config: Path) -> None:
    """See that a version starts at all, and takes this configuration as well as the former one does.

    Raises ``UpgradeError``.
    """
    command = str(env / "bin" / "enlace")
    told = run([command, "--version"], f"start {command}").split()
    if told[-1:] != [version]:
        raise UpgradeError(f"start {command}", f"it says that it is {' '.join(told)}, its package says {version}")
    if found := _errors(former, config):  # then there is nothing to compare with: the gate will tell
        raise UpgradeError(f"check {config}", f"the version that runs finds errors in it: {found[0]}", "mend it first")
    if found := _errors(env, config):
        hint = "the former version finds none: see what the new one has changed"
        raise UpgradeError(f"check {config} with {version}", found[0], hint)


def run(command: Sequence[str], op: str, timeout_s: float = _SLOW_S) -> str:
    """Run a command to its end; what it printed. Raises ``UpgradeError`` with the last lines when it fails."""
    try:
        # The site comes first: this may wait.
        done = subprocess.run(  # noqa: S603 - our own words
            ["nice", *command] if shutil.which("nice") else command,
            check=False,
            capture_output=True,
            env=_environment(),
            timeout=timeout_s,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise UpgradeError(op, f"it was not done within {timeout_s:.0f} s") from error
    except OSError as error:
        raise UpgradeError(op, error.strerror or str(error)) from error
    if done.returncode:
        raise UpgradeError(op, _last_words(done.stdout + done.stderr) or f"exit code {done.returncode}")
    return done.stdout.decode(errors="replace")


def _errors(env: Path, config: Path) -> list[str]:
    """What ``enlace check`` of an environment calls errors. Raises ``UpgradeError`` when it gives no verdict."""
    command = [str(env / "bin" / "enlace"), "check", "--config", str(config)]
    op = " ".join(command)
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, check=False, capture_output=True, env=_environment(), timeout=_SLOW_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UpgradeError(op, str(error)) from error
    found = re.findall(r"^error: (.*)$", done.stdout.decode(errors="replace"), re.MULTILINE)
    if done.returncode not in {0, 1} or (done.returncode == 1 and not found):
        raise UpgradeError(op, _last_words(done.stderr) or f"exit code {done.returncode}")
    return found


def _last_words(output: bytes) -> str:
    return " | ".join(output.decode(errors="replace").split("\n")[-_LAST_LINES - 1 :]).strip(" |")


def _environment() -> dict[str, str]:
    """Nothing of who calls leads Python or pip elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "VIRTUAL_ENV"))}
