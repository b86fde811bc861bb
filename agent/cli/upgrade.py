"""``enlace upgrade``: the next version from a signed file, tried out, and undone by itself when it does no good."""

import argparse
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.arguments import seconds
from agent.core.errors import UpgradeError

if TYPE_CHECKING:
    from agent.config import Config
    from agent.upgrade.gate import Door
    from agent.upgrade.keys import Keys
    from agent.upgrade.layout import Root
    from agent.upgrade.upgrade import Upgrader

_KEYS = Path("/etc/enlace/upgrade.pub")
_ROOT = Path("/opt/enlace")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("upgrade", help="install a signed newer version; undone by itself if it does no good")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="the package; docs/upgrade.md says how one is made"
    )
    what.add_argument("--resume", action="store_true", help="before the gateway starts: end an upgrade that was cut")
    parser.add_argument("--check", action="store_true", help="only say whether FILE is whole, signed and fits")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="where enlace.db is instead")
    parser.add_argument("--keys", type=Path, default=_KEYS, metavar="PEM", help=f"who may sign (default: {_KEYS})")
    parser.add_argument("--root", type=Path, default=_ROOT, metavar="R", help=f"where versions are (default: {_ROOT})")
    parser.add_argument(
        "--service",
        default="systemctl {} enlace",
        metavar="CMD",
        help="what stops and starts the gateway, {} is the verb (default: %(default)s)",
    )
    parser.add_argument("--within", type=seconds, default=600.0, metavar="S", help="how long it may take to be well")
    parser.add_argument("--steady", type=seconds, default=30.0, metavar="S", help="for how long it must be")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Install, check or resume; 0 when that was done. Raises ``UpgradeError``, ``ConfigError``."""
    from agent.upgrade.layout import Root  # noqa: PLC0415 - see the package's docstring

    root = Root(arguments.root.absolute())
    if arguments.resume and root.journal() is None:
        return 0
    upgrader = _upgrader(arguments, root)
    if arguments.check:
        manifest = upgrader.check(arguments.file, _keys(arguments))
        _tell(f"{arguments.file}: Enlace {manifest.version} for {manifest.python}, {manifest.platform}: it fits here")
        return 0
    try:
        with root.held() as mine, _undisturbed():
            if arguments.resume:
                return _resume(upgrader) if mine else 0  # who holds it knows what to do
            if not mine:
                raise UpgradeError("upgrade", "another one is being done")
            manifest = upgrader.install(arguments.file, _keys(arguments))
    except OSError as error:
        where = error.filename or root.path
        raise UpgradeError("upgrade", f"{where}: {error.strerror or error}", "run it as root") from error
    _tell(f"Enlace {manifest.version} runs and is well")
    return 0


def _resume(upgrader: "Upgrader") -> int:
    journal = upgrader.resume(service=False)
    if journal is not None:
        runs = journal.version if journal.state == "done" else journal.former
        _tell(f"the upgrade to {journal.version} was cut off: {runs} runs")
    return 0


def _upgrader(arguments: argparse.Namespace, root: "Root") -> "Upgrader":
    from agent.core.clock import SystemClock  # noqa: PLC0415 - see the package's docstring
    from agent.upgrade.gate import Gate  # noqa: PLC0415
    from agent.upgrade.upgrade import Parts, Patience, Service, Site, Upgrader  # noqa: PLC0415

    clock, journal = SystemClock(), root.journal()
    door: Door | None = None
    if arguments.resume and journal is not None:
        # The configuration may be the very trouble: what the journal says is enough.
        site = Site(Path(journal.config), Path(journal.data_dir))
    else:
        from agent.config import load_config  # noqa: PLC0415

        config = load_config(arguments.config)
        site = Site(arguments.config.absolute(), (arguments.data_dir or config.data_dir).absolute())
        door = _door(config)
    gate = Gate(site.data_dir, door, clock)
    parts = Parts(Service(arguments.service), gate, clock, _tell)
    return Upgrader(root, site, parts, Patience(arguments.within, arguments.steady))


def _door(config: "Config") -> "Door | None":
    from agent.upgrade.gate import Door  # noqa: PLC0415 - see the package's docstring

    host, port = config.api.own_door
    return Door(host, port, config.api.encrypted) if port else None


def _keys(arguments: argparse.Namespace) -> "Keys":
    from agent.upgrade.keys import trusted  # noqa: PLC0415 - see the package's docstring

    return trusted(arguments.keys)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A terminal that goes away is no reason to stop in the middle; SIGTERM undoes what was begun, as ^C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hangup, term = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, hangup)
        signal.signal(signal.SIGTERM, term)


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        print(text, flush=True)
