"""``enlace demo``: a simulated site with the real drivers, each counterpart a process of its own."""

import argparse
import importlib.util
import tempfile
from pathlib import Path

from agent.core.errors import Unavailable


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("demo", help="a simulated site with the real drivers: no hardware, no root")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="keep the database there (default: thrown away)")
    parser.add_argument("--seconds", type=float, metavar="N", help="end by itself after that long")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the simulated site until Ctrl-C or SIGTERM."""
    import asyncio  # noqa: PLC0415 - see the package's docstring

    for package, what in (("amqtt", "the MQTT broker"), ("msgpack", "the CAN bus between processes")):
        if importlib.util.find_spec(package) is None:
            raise Unavailable("demo", f"{what} needs the package {package}", "pip install 'enlace[demo]'")
    with tempfile.TemporaryDirectory(prefix="enlace-demo-") as folder:
        data_dir: Path = (arguments.data_dir or Path(folder) / "data").resolve()
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"make {data_dir}", error.strerror or str(error), "name another --data-dir") from error
        asyncio.run(_run(Path(folder), data_dir, arguments.seconds))
    return 0


async def _run(folder: Path, data_dir: Path, seconds: float | None) -> None:
    import asyncio  # noqa: PLC0415 - see the package's docstring
    import signal  # noqa: PLC0415

    from agent.cli.demo_site import Site  # noqa: PLC0415
    from agent.core.clock import SystemClock  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Site(folder, data_dir, SystemClock()).run(stop, seconds)
