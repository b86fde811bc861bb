"""``enlace backup`` and ``enlace restore``: all of a site in one file, while the gateway runs, and back."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.output import Progress, mib
from agent.core.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from agent.restore import Places, Restored

_STDOUT = Path("-")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands to the command line."""
    backup = commands.add_parser("backup", help="write all of a site into one file, while the gateway runs")
    backup.add_argument("file", type=Path, metavar="FILE", help="the backup to write; - is standard output")
    backup.add_argument("--config", type=Path, metavar="F", help="the site's configuration")
    backup.add_argument("--data-dir", type=Path, metavar="D", help="where enlace.db is instead")
    backup.add_argument(
        "--without-secrets", action="store_true", help="for support: no users, passwords, keys, id tags"
    )
    backup.set_defaults(run=run_backup)
    restore = commands.add_parser("restore", help="put the state of a backup in the place of what is there")
    restore.add_argument("file", type=Path, metavar="FILE", help="the backup")
    restore.add_argument("--config", type=Path, metavar="F", help="where the site's configuration goes")
    restore.add_argument("--data-dir", type=Path, metavar="D", help="where enlace.db goes; default: where it was")
    restore.add_argument("--outside", action="store_true", help="also files that stood in other folders")
    restore.add_argument("--without-secrets", action="store_true", help="take a backup for support too")
    restore.add_argument("--yes", action="store_true", help="don't ask")
    restore.set_defaults(run=run_restore)


def run_backup(arguments: argparse.Namespace) -> int:
    """Make a backup; 0. Raises ``StoreError``, ``ConfigError``."""
    from agent.backup import Site, back_up  # noqa: PLC0415 - see the package's docstring
    from agent.config import load_config  # noqa: PLC0415
    from agent.core.clock import SystemClock  # noqa: PLC0415

    config = load_config(arguments.config)
    site = Site(config, arguments.config.absolute(), (arguments.data_dir or config.data_dir).absolute())
    target = None if arguments.file == _STDOUT else arguments.file
    if target is None and sys.stdout.isatty():
        raise Unavailable("write the backup", "standard output is a terminal", "name a file, or send it through a pipe")
    if target is not None and target.is_dir():
        raise Unavailable("write the backup", f"{target} is a folder", "name the file in it")
    with Progress() as bar:
        secrets = not arguments.without_secrets
        made = back_up(site, target, SystemClock(), bar.tell, sys.stdout.buffer, secrets=secrets)
    for text in made.missing:
        print(f"not in it: {text}, named in the configuration, is no file here", file=sys.stderr)
    for member in made.manifest.members:
        if member.name.startswith("outside/"):
            print(f"restored only with --outside: {member.name.removeprefix('outside')}", file=sys.stderr)
    where = "standard output" if target is None else str(target)
    what = "" if secrets else ", without secrets"
    print(f"{where}: {len(made.manifest.members)} files, {mib(made.size)}{what}", file=sys.stderr)
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """Restore a backup; 0, and 1 when the answer is no. Raises ``StoreError``, ``ConfigError``."""
    from agent.backup_file import read_manifest  # noqa: PLC0415 - see the package's docstring
    from agent.core.clock import SystemClock  # noqa: PLC0415
    from agent.restore import Places, present, restore  # noqa: PLC0415

    manifest = read_manifest(arguments.file)
    data_dir = (arguments.data_dir or Path(manifest.data_dir)).absolute()
    places = Places(arguments.config.absolute(), data_dir, arguments.outside)
    if not arguments.yes and present(places) and not _asked(places):
        print("nothing was changed", file=sys.stderr)
        return 1
    with Progress() as bar:
        restored = restore(arguments.file, places, SystemClock(), bar.tell, support=arguments.without_secrets)
    _report(restored, places)
    return 0


def _asked(places: "Places") -> bool:
    found = _found(places)
    if not sys.stdin.isatty():
        there = " and ".join(f"{what} at {path}" for path, what in found.items())
        raise Unavailable("ask", f"there is {there}, and no terminal", "add --yes")
    verb = "are" if len(found) > 1 else "is"
    print(f"{' and '.join(map(str, found))} {verb} moved aside and replaced.", file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _found(places: "Places") -> dict[Path, str]:
    """What would be moved aside, where something would: either may be there without the other."""
    from agent.backup import state_files  # noqa: PLC0415 - see the package's docstring
    from agent.store.settings import DATABASE  # noqa: PLC0415

    configured = places.config.exists()
    database = (places.data_dir / DATABASE).exists()
    found = {}
    if database or not configured or any(True for _ in state_files(places.data_dir)):
        found[places.data_dir] = "a site"
    if configured:
        found[places.config] = "a configuration"
    return found


def _report(restored: "Restored", places: "Places") -> None:
    from agent.api.times import iso  # noqa: PLC0415 - see the package's docstring
    from agent.config import load_config  # noqa: PLC0415

    manifest, above = restored.manifest, restored.above
    print(f"restored: site {manifest.site} as of {iso(manifest.made_us)}, at {places.data_dir} and {places.config}")
    for path in restored.aside:
        print(f"what was there is at {path}")
    for name in restored.left_out:
        print(f"left out: {name}; `tar -xf` takes it out of the backup, --outside puts it back")
    newest = max(above.telemetry, above.event)
    print(f"numbers go on above {newest} (records), {above.session} (sessions), {above.signal} (signals)")
    try:
        if load_config(places.config).data_dir.absolute() != places.data_dir:
            print(f"{places.config} names another data_dir: edit it, or run with --data-dir {places.data_dir}")
    except ConfigError as error:
        print(f"the configuration can't be used here, see `enlace check`: {error}")
    print("start the gateway now")
