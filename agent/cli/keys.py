"""``enlace keys``: the key pair of who gives signed commands."""

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.errors import ConfigError

if TYPE_CHECKING:
    from agent.keys import PrivateKey


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("keys", help="make the key that signs commands, or print the public one of it")
    parser.add_argument("file", type=Path, metavar="FILE", help="of the private key (PEM); made where there is none")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the key unless it is there; print what the sites' configuration needs. Raises ``ConfigError``."""
    print(public_line(private_key(arguments.file, make=True)))
    return 0


def private_key(path: Path, *, make: bool = False) -> "PrivateKey":
    """The private key in a file; ``make``: a new one where there is no file. Raises ``ConfigError``."""
    from agent.keys import BadKeyError, make_private_key, own_private_key  # noqa: PLC0415 - see the package's docstring

    try:
        if make:
            with contextlib.suppress(FileExistsError):
                return make_private_key(path)
        return own_private_key(path)
    except OSError as error:
        hint = "" if make else f"enlace keys {path} makes one"
        raise ConfigError(f"read {path}", error.strerror or str(error), hint) from error
    except BadKeyError as error:
        raise ConfigError(f"read {path}", str(error)) from error


def public_line(key: "PrivateKey") -> str:
    """Its public key, as it stands under ``commanders:``."""
    from cloud_sync.signed import line_of  # noqa: PLC0415 - see the package's docstring

    return line_of(key.public_key().public_bytes_raw())
