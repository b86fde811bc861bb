"""``enlace user``: who may use the API and the dashboard. Works while the gateway runs, and before its set-up."""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.output import is_live, print_table
from agent.core.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from agent.api.users import UserBook

_ROLES = ("viewer", "operator", "admin")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("user", help="users of the API and the dashboard: add, passwd, list, remove, token")
    # Written at both places it may stand: enlace user --config F add …, enlace user add … --config F
    _add_place(parser)
    parser.set_defaults(data_dir=None)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    name = argparse.ArgumentParser(add_help=False)
    name.add_argument("name", metavar="NAME", help="of the user")
    secret = argparse.ArgumentParser(add_help=False)
    secret.add_argument("--password-stdin", action="store_true", help="read the password from the first line of stdin")
    place = argparse.ArgumentParser(add_help=False)
    _add_place(place)
    add = verbs.add_parser("add", parents=[name, secret, place], help="add a user; the first admin ends set-up")
    add.add_argument("--role", choices=_ROLES, required=True, help="what the user may do")
    verbs.add_parser("passwd", parents=[name, secret, place], help="set a password; log-ins and tokens end")
    verbs.add_parser("list", parents=[place], help="list users with their roles and tokens")
    verbs.add_parser("remove", parents=[name, place], help="take a user out; log-ins and tokens end")
    token = verbs.add_parser("token", parents=[name, place], help="make an API token for a machine, and print it")
    token.add_argument("--label", default="cli", metavar="L", help="what it is for (default: cli)")
    token.add_argument("--revoke", action="store_true", help="take the token of that label back instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do it; 0. Raises ``UserError`` and ``PasswordError`` with what is wrong."""
    from agent.api.users import Role, UserBook  # noqa: PLC0415 - see the package's docstring
    from agent.core.clock import SystemClock  # noqa: PLC0415

    clock = SystemClock()
    folder = _data_dir(arguments)
    users = UserBook(folder, clock.now_us)
    verb: str = arguments.verb
    if verb == "list":
        _list(users)
    elif verb == "add":
        password = _password(arguments)
        if not folder.exists():
            _make(folder)
        user = users.add(arguments.name, Role(arguments.role), _hash(password, folder))
        print(f"{user.name} is {user.role}")
    elif verb == "passwd":
        users.set_password(arguments.name, _hash(_password(arguments), folder))
        print(f"the password of {arguments.name} is set; all log-ins and tokens of {arguments.name} have ended")
    elif verb == "remove":
        users.remove(arguments.name)
        print(f"{arguments.name} is gone")
    elif arguments.revoke:
        users.remove_token(arguments.name, arguments.label)
        print(f"the token {arguments.label!r} of {arguments.name} is worth nothing any more")
    else:
        print(users.add_token(arguments.name, arguments.label, clock.now_us()))
        print("keep it well: it is not shown again", file=sys.stderr)
    return 0


def _add_place(parser: argparse.ArgumentParser) -> None:
    suppress = argparse.SUPPRESS  # what stands at the other place is not overwritten with nothing
    parser.add_argument("--config", type=Path, metavar="F", default=suppress, help="the site's configuration")
    parser.add_argument("--data-dir", type=Path, metavar="D", default=suppress, help="where users.json stands instead")


def _data_dir(arguments: argparse.Namespace) -> Path:
    from agent.config import load_config  # noqa: PLC0415 - see the package's docstring

    folder: Path = arguments.data_dir or load_config(arguments.config).data_dir
    comes = arguments.verb == "add" and not folder.exists()  # before the first start
    if not folder.is_dir() and not comes:
        hint = "start the gateway once, or name the folder with --data-dir"
        raise ConfigError(f"open {folder}", "there is no such folder", hint)
    return folder


def _make(folder: Path) -> None:
    """Make the folder, as the first start would have. Raises ``ConfigError``."""
    from agent.core.disk import give_to_owner  # noqa: PLC0415 - see the package's docstring
    from agent.store.evidence import make_folder  # noqa: PLC0415

    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        make_folder(folder)
        for one in reversed(new):
            handle = os.open(one, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                # Who may make folders there runs the gateway: in one of root's it could not open its database.
                give_to_owner(handle, one.parent)
            finally:
                os.close(handle)
    except OSError as error:
        hint = "run it as the user that runs enlace, or name another folder with --data-dir"
        raise ConfigError(f"make {folder}", error.strerror or str(error), hint) from error


def _password(arguments: argparse.Namespace) -> str:
    """The password that is given, and fit to be one."""
    from agent.api.passwords import check_new  # noqa: PLC0415 - see the package's docstring

    if arguments.password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise Unavailable("read the password", "there is no terminal", "write it to stdin, with --password-stdin")
    else:
        password = getpass.getpass("password: ")
        if getpass.getpass("once more: ") != password:
            raise Unavailable("read the password", "the two are not the same", "try again")
    check_new(arguments.name, password)
    return password


def _hash(password: str, folder: Path) -> str:
    """Its hash, as dear as this machine can bear."""
    from agent.api.passwords import CostBook, Passwords  # noqa: PLC0415 - see the package's docstring
    from agent.core.clock import SystemClock  # noqa: PLC0415

    return Passwords(costs=CostBook(folder, SystemClock())).hash(password)


def _list(users: "UserBook") -> None:
    if is_live(sys.stdout):
        rows = [(one.name, str(one.role), ", ".join(token.label for token in one.tokens)) for one in users.all()]
        print_table(("user", "role", "tokens"), rows)
    for user in () if is_live(sys.stdout) else users.all():
        tokens = ", ".join(one.label for one in user.tokens)
        print(f"{user.name:<24} {user.role:<10}{f'tokens: {tokens}' if tokens else ''}".rstrip())
    if not users.set_up:
        print("there is no admin yet: add one, or use the set-up code from the gateway's log", file=sys.stderr)
