"""``enlace doctor``: one redacted file for support, and what is wrong on the screen. Changes nothing."""

import argparse
import re
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.output import Progress, print_findings
from agent.core.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from agent.doctor import Bundle, Finding, Section
    from agent.doctor_site import Place

#: How long this machine's own gateway may take to answer.
_ANSWER_S = 10.0
_MAX_BYTES = 8 << 20
#: A line of its metrics.
_UNWELL = re.compile(r'^enlace_healthy\{part="([^"]+)"\} 0$', re.MULTILINE)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("doctor", help="what is wrong, and one redacted file for support")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="where enlace.db is instead")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the bundle to write, a new .zip (default: made up here)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the bundle and say what is wrong; 0, whatever that is. Raises ``Unavailable`` where it can't be written."""
    from agent.config import Config  # noqa: PLC0415 - see the package's docstring
    from agent.core.clock import SystemClock  # noqa: PLC0415
    from agent.doctor import make_bundle, write_file  # noqa: PLC0415
    from agent.doctor_known import known_of  # noqa: PLC0415
    from agent.doctor_site import is_running, place_of  # noqa: PLC0415

    clock = SystemClock()
    place = place_of(arguments.config, arguments.data_dir, Config.model_fields["data_dir"].default)
    running = is_running(place)
    site = place.config.site.id if place.config else "site"
    with Progress("files", quiet=True) as progress:

        def tell(done: int, of: int) -> None:
            progress.tell("looking", done, of)

        sections = _sections(place, running=running)
        found = partial(_findings, place, running=running)
        bundle = make_bundle(site, sections, found, known_of(place), clock, tell)
    target: Path = arguments.out or Path(bundle.name)
    try:
        write_file(target, bundle.content)
    except OSError as error:
        hint = "name a new file in a folder that this user may write, with --out"
        raise Unavailable(f"write {target}", error.strerror or str(error), hint) from error
    _say(place, bundle, target, running=running)
    return 0


def _sections(place: "Place", *, running: bool) -> "list[Section]":
    from agent.core.clock import SystemClock  # noqa: PLC0415 - see the package's docstring
    from agent.doctor import Section  # noqa: PLC0415
    from agent.doctor_site import site_sections  # noqa: PLC0415

    found = site_sections(place, SystemClock())
    if running and place.config is not None:
        found += [
            Section("gateway/health.json", lambda: _asked(place, "/api/system/health")),
            Section("gateway/metrics.txt", lambda: _asked(place, "/metrics")),
        ]
    return found


def _findings(place: "Place", *, running: bool) -> "Iterator[Finding]":
    from agent.doctor import Finding  # noqa: PLC0415 - see the package's docstring
    from agent.doctor_site import aside_findings, check_findings, stored_findings  # noqa: PLC0415

    if not running:
        yield Finding("error", "the gateway does not run", "`systemctl status enlace` says why; `enlace run` starts it")
    yield from check_findings(place, running=running)
    yield from aside_findings(place)
    try:
        yield from stored_findings(place, running=running)
    except StoreError as error:
        yield Finding("warning", str(error))
    if running and place.config is not None:
        # Before set-up, and where its port is not known, nothing is told: the section says so.
        with suppress(Unavailable):
            for part in _UNWELL.findall(_asked(place, "/metrics")):
                hint = "the dashboard's page System says what ails it, and so does a bundle that is made there"
                yield Finding("error", f"{part} is not well", hint)


def _asked(place: "Place", path: str) -> str:
    """What this machine's own gateway tells without a user. Raises ``Unavailable``."""
    assert place.config is not None  # noqa: S101 - looked at before
    url = f"{place.config.api.own_url}{path}"
    op = f"ask {url}"
    if not place.config.api.own_door[1]:
        raise Unavailable(op, "the port is one that it chose itself", "POST /api/system/doctor asks it from inside")
    # It is this machine, no secret is sent, and the certificate may be the gateway's own.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=_ANSWER_S) as answer:
            return bytes(answer.read(_MAX_BYTES)).decode(errors="replace")
    except (OSError, HTTPException) as error:
        raise Unavailable(op, str(error), "is it this gateway that listens there?") from error


def _say(place: "Place", bundle: "Bundle", target: Path, *, running: bool) -> None:
    from agent import __version__  # noqa: PLC0415 - see the package's docstring

    state = "runs" if running else "does not run"
    print(f"Enlace {__version__}, {place.path}: the gateway {state}", file=sys.stderr)
    shown = [one for one in bundle.findings if one.severity != "info"]
    print_findings((one.severity, one.text, one.hint) for one in shown)
    if not shown:
        print("nothing is wrong as far as this can tell")
    for name in bundle.failed:
        print(f"not in the bundle: {name}, the file says why", file=sys.stderr)
    size = len(bundle.content) / 1024
    print(f"{target}: {bundle.files} files, {size:.0f} KiB, without passwords, keys and names", file=sys.stderr)
    print("look through it before you send it: docs/doctor.md says what is in it", file=sys.stderr)
