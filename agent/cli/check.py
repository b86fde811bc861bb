"""``enlace check``: validates a site without starting it. Each finding says where, what, and what to do."""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from agent.cli.output import is_live, print_findings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("check", help="validate a configuration without starting")
    parser.add_argument("--config", type=Path, metavar="F", help="the site's configuration")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print every finding; exit 0 when there is no error, 1 otherwise."""
    from agent.findings import found_in  # noqa: PLC0415 - see the package's docstring

    found = list(found_in(arguments.config))
    counts = Counter(severity for severity, _ in found)
    errors, warnings = counts["error"], counts["warning"]
    if is_live(sys.stdout):
        print_findings((severity, str(replace(one, hint="")), one.hint) for severity, one in found)
    else:
        for severity, one in found:
            print(f"{severity}: {one}")
    verdict = "can't be used" if errors else "can be used"
    print(f"{arguments.config}: {verdict}: {errors} errors, {warnings} warnings", file=sys.stderr)
    return 1 if errors else 0
