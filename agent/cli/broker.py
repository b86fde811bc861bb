"""Options of commands that speak to a broker: where it is, and who they are to it."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--broker``, ``--root``, ``--username`` and the files of a connection."""
    parser.add_argument("--broker", default="", metavar="URL", help="mqtt://host[:port] or mqtts://host[:port]")
    parser.add_argument("--root", default="enlace", metavar="R", help="first level of the topics (enlace)")
    parser.add_argument("--username", default="", metavar="U", help="at the broker")
    for name, what in (
        ("password-file", "holds the password at the broker"),
        ("ca-file", "PEM: whom to believe that he is the broker"),
        ("cert-file", "PEM: who we are to the broker"),
        ("key-file", "PEM: its key"),
    ):
        parser.add_argument(f"--{name}", type=Path, metavar="F", help=what)
