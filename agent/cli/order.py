"""``enlace command``: give a site one command over the broker, signed, and print its result."""

import argparse
import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.broker import add_options
from agent.cli.keys import private_key
from agent.core.errors import ConfigError

if TYPE_CHECKING:
    from cloud_sync.settings import LinkSettings

#: How much longer than the command lives its result is waited for.
MORE_S = 30.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("command", help="give a site a command over MQTT, signed, and print its result")
    parser.add_argument("site", metavar="SITE", help="the site's id")
    parser.add_argument("target", metavar="TARGET", help="a station or device of it, such as cp1")
    parser.add_argument("action", metavar="ACTION", help="on, off, toggle, limit, release, or one of the device's own")
    parser.add_argument("args", nargs="?", default="{}", metavar="ARGS", help="JSON, such as '{\"limit_a\": 16}'")
    parser.add_argument("--sign", type=Path, metavar="KEY", help="private key of a commander: see enlace keys")
    parser.add_argument("--id", default="", metavar="I", help="of the command; its own, unless it is given again")
    parser.add_argument("--ttl", type=float, default=60.0, metavar="S", help="not begun later than this (60)")
    parser.add_argument("--issuer", default="", metavar="N", help="who gives it, for the audit")
    parser.add_argument("--wait", type=float, metavar="S", help="for the result (as long as it lives and 30 s more)")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the message, and give it not")
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """0 when it was done. Raises ``ConfigError`` for what can't be sent, ``Unavailable`` where nobody answers."""
    from agent.core.clock import SystemClock  # noqa: PLC0415 - see the package's docstring

    clock = SystemClock()
    payload = message(arguments, clock.now_us())
    if arguments.only_print:
        print(payload.decode())
        return 0
    from agent.cli.run import set_up_logging  # noqa: PLC0415
    from cloud_sync.giving import give  # noqa: PLC0415

    set_up_logging("warning")
    wait_s = arguments.ttl + MORE_S if arguments.wait is None else arguments.wait
    topic = f"{arguments.root}/{arguments.site}/command"
    result = asyncio.run(give(_settings(arguments), topic, payload, clock, wait_s))
    sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return 0 if result.get("outcome") == "done" else 1


def message(arguments: argparse.Namespace, now_us: int) -> bytes:
    """The message, signed where a key is named. Raises ``ConfigError``."""
    from cloud_sync.command_payload import parse_command  # noqa: PLC0415 - see the package's docstring
    from cloud_sync.signed import signed  # noqa: PLC0415

    try:
        args = json.loads(arguments.args)
    except (ValueError, RecursionError) as error:
        raise ConfigError("enlace command", f"ARGS is no JSON: {error}", """write '{"limit_a": 16}'""") from error
    document: dict[str, object] = {
        "id": arguments.id or secrets.token_hex(16),
        "site": arguments.site,
        "issued_at": now_us,
        "ttl_s": arguments.ttl,
        "target": arguments.target,
        "action": arguments.action,
        "args": args,
    }
    if arguments.issuer:
        document["issuer"] = arguments.issuer
    try:
        if arguments.sign is None:
            payload = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        else:
            payload = signed(document, private_key(arguments.sign).sign)
        order = parse_command(payload)
    except (ValueError, RecursionError) as error:
        raise ConfigError("enlace command", str(error)) from error
    if order.objection:
        raise ConfigError("enlace command", order.objection)
    return payload


def _settings(arguments: argparse.Namespace) -> "LinkSettings":
    from cloud_sync.settings import LinkSettings, check_topic_level  # noqa: PLC0415 - see the package's docstring

    if not arguments.broker:
        raise ConfigError("enlace command", "no broker is named", "add --broker mqtts://host, or --print")
    for what, text in (("root", arguments.root), ("site", arguments.site)):
        check_topic_level(what, text)
    settings = LinkSettings(
        url=arguments.broker,
        client_id=f"enlace-command-{secrets.token_hex(4)}",
        username=arguments.username,
        password_file=arguments.password_file,
        ca_file=arguments.ca_file,
        cert_file=arguments.cert_file,
        key_file=arguments.key_file,
    )
    settings.check_files()
    return settings
