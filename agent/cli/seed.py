"""``enlace seed``: register stations from a CSV file, as the charging-station backend had them.

Rules of this file:

1. A station of the same name and location is left as it is: the command may be repeated.
2. A bad row is named by its line and is left out; the others are registered. Then the exit code is 1.
3. While the gateway runs it is asked, by its API; only while it is stopped its database is written.
"""

import argparse
import asyncio
import csv
import io
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent.core.errors import ConfigError, Unavailable

if TYPE_CHECKING:
    from agent.config import Config

COLUMNS = ("name", "location", "max_kw", "status")
EXIT_BAD_ROWS = 1
_TIMEOUT_S = 30.0
_PAGE = 1000
_TOKEN = "ENLACE_TOKEN"  # noqa: S105 - the variable's name
_ISSUER = "cli"
_W_PER_KW = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A station of the file. ``max_kw`` None: not said."""

    line: int
    name: str
    location: str
    max_kw: float | None
    status: str

    @property
    def key(self) -> tuple[str, str]:
        """By what it is known again."""
        return self.name, self.location


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("seed", help="register stations from a CSV file: name,location,max_kw,status")
    parser.add_argument("file", type=Path, metavar="FILE", help="the CSV file; its first line names the columns")
    parser.add_argument("--url", metavar="URL", help="of the gateway that runs, such as http://localhost:8080")
    parser.add_argument(
        "--token-file", type=Path, metavar="F", help=f"an operator's token for --url (or the variable {_TOKEN})"
    )
    parser.add_argument("--ca-file", type=Path, metavar="F", help="who signed the gateway's certificate, in PEM")
    parser.add_argument("--config", type=Path, metavar="F", help="without --url: the site whose database is written")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="where its enlace.db is instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Register them. 1: there were bad rows. Raises ``ConfigError``, ``Unavailable`` and ``StoreError``."""
    rows, bad = read_rows(_lines(arguments.file), str(arguments.file))
    new, there = _by_api(arguments, rows) if arguments.url else _by_database(arguments, rows)
    for text in bad:
        print(f"{arguments.file}:{text}", file=sys.stderr)
    print(f"{new} stations were registered, {there} were there already, {len(bad)} rows are bad")
    return EXIT_BAD_ROWS if bad else 0


def read_rows(lines: Iterable[str], name: str) -> tuple[list[Row], list[str]]:
    """The stations, and what is wrong with each other row: ``LINE: …``. Raises ``ConfigError`` for a bad first line.

    Columns are separated by commas, or by semicolons where the first line has them; then numbers may have a comma.
    """
    source = iter(lines)
    head = next(source, "")
    comma = ";" not in head
    columns = [one.strip().casefold() for one in next(csv.reader([head], delimiter="," if comma else ";"), [])]
    if "name" not in columns or not set(columns) <= set(COLUMNS) or len(columns) > len(set(columns)):
        raise ConfigError(
            f"read {name}", f"its first line is no list of {','.join(COLUMNS)}", "only name must be there"
        )
    rows: list[Row] = []
    bad: list[str] = []
    reader = csv.reader(source, delimiter="," if comma else ";", strict=True)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            bad.append(f"{reader.line_num + 1}: {error}")
            continue
        if fields is None:
            return rows, bad
        line = reader.line_num + 1
        texts = [one.strip() for one in fields]
        if not any(texts):
            continue
        if len(texts) > len(columns):
            bad.append(f"{line}: {len(texts)} fields, the first line has {len(columns)}")
            continue
        try:
            rows.append(_row(line, dict(zip(columns, texts, strict=False)), comma=comma))
        except ValueError as error:
            bad.append(f"{line}: {error}")


def _row(line: int, fields: Mapping[str, str], *, comma: bool) -> Row:
    """Raises ``ValueError`` with what is wrong."""
    from pydantic import ValidationError  # noqa: PLC0415 - see the package's docstring

    from agent.api.bodies import NewStation  # noqa: PLC0415
    from agent.api.wrong_inputs import wrong_input  # noqa: PLC0415

    power = fields.get("max_kw", "")
    try:
        max_kw = float(power if comma else power.replace(",", ".")) if power else None
    except ValueError:
        raise ValueError(f"max_kw: {power!r} is no number") from None
    sent: dict[str, object] = {"name": fields.get("name", ""), "location": fields.get("location", ""), "max_kw": max_kw}
    if fields.get("status"):
        sent["status"] = fields["status"].casefold()
    try:
        found = NewStation.model_validate(sent)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {wrong_input(one)}" for one in error.errors()]
        raise ValueError("; ".join(wrong)) from None
    return Row(line, found.name, found.location, found.max_kw, found.switch)


def _lines(path: Path) -> list[str]:
    try:
        return [*io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")]  # csv has its own idea of lines
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"read {path}", str(error), "a CSV file in UTF-8 is wanted") from error


def _unknown(rows: Sequence[Row], known: set[tuple[str, str]]) -> list[Row]:
    """Those that are not there yet, each once."""
    new: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.key not in known:
            new.setdefault(row.key, row)
    return [*new.values()]


# Through the API


def _by_api(arguments: argparse.Namespace, rows: Sequence[Row]) -> tuple[int, int]:
    gateway = _Gateway(arguments.url.rstrip("/"), _token(arguments), arguments.ca_file)
    known: set[tuple[str, str]] = set()
    page, total = 1, 1
    while (page - 1) * _PAGE < total:
        found = gateway.ask("GET", f"/api/stations?page={page}&page_size={_PAGE}")
        known |= {(one["name"], one["location"]) for one in found["items"] if one["registered"]}
        page, total = page + 1, found["total"]
    new = _unknown(rows, known)
    for row in new:
        body = {"name": row.name, "location": row.location, "max_kw": row.max_kw, "status": row.status}
        gateway.ask("POST", "/api/stations", body)
    return len(new), len(rows) - len(new)


def _token(arguments: argparse.Namespace) -> str:
    if arguments.token_file is None:
        token = os.environ.get(_TOKEN, "")
    else:
        try:
            token = arguments.token_file.read_text().strip()
        except OSError as error:
            raise ConfigError(f"read {arguments.token_file}", error.strerror or str(error)) from error
    if not token:
        raise ConfigError(
            "log in", "there is no token", f"enlace user token NAME > F, then --token-file F (or {_TOKEN})"
        )
    return token


class _Gateway:
    def __init__(self, url: str, token: str, ca_file: Path | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"ask {url}", "that is no URL", "write http://localhost:8080")
        self._url = url
        self._token = token
        try:
            self._context = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None
        except OSError as error:
            raise ConfigError(f"read {ca_file}", str(error), "a certificate in PEM is wanted") from error

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        """The answer. Raises ``Unavailable``."""
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310 - checked
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._context) as answer:  # noqa: S310
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self._refused(path, error)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"ask {self._url}{path}", str(reason), "does the gateway run there?") from error

    def _refused(self, path: str, error: urllib.error.HTTPError) -> NoReturn:
        try:
            said = json.loads(error.read(1 << 16))
            detail = f"{error.code}: {said['detail']}"
        except (ValueError, KeyError, TypeError):
            detail = f"{error.code} {error.reason}"
        hint = "what was registered before stays; the same command goes on from there"
        raise Unavailable(f"ask {self._url}{path}", detail, hint) from error


# On the database


def _by_database(arguments: argparse.Namespace, rows: Sequence[Row]) -> tuple[int, int]:
    from agent.config import load_config  # noqa: PLC0415 - see the package's docstring

    config = load_config(arguments.config)
    if arguments.data_dir:
        config = config.model_copy(update={"data_dir": arguments.data_dir})
    return asyncio.run(_write(config, rows))


async def _write(config: "Config", rows: Sequence[Row]) -> tuple[int, int]:
    from agent.app import open_store  # noqa: PLC0415 - see the package's docstring
    from agent.control.memory import Memory  # noqa: PLC0415
    from agent.control.model import Origin, Wish  # noqa: PLC0415
    from agent.control.registered import REGISTRATION, Registered, RegisteredStations  # noqa: PLC0415
    from agent.control.wishes import Wishes  # noqa: PLC0415
    from agent.core.clock import SystemClock  # noqa: PLC0415
    from agent.core.errors import CommandRejected, StoreError  # noqa: PLC0415

    clock = SystemClock()
    try:
        store = open_store(config, clock)
    except StoreError as error:
        hint = "while the gateway runs: enlace seed FILE --url http://localhost:8080 --token-file F"
        raise StoreError(error.op, error.reason, f"{error.hint}; {hint}") from error
    try:
        stations = RegisteredStations(clock, store)
        new = _unknown(rows, {(one.name, one.location) for one in stations.all()})
        for row in new:
            max_w = None if row.max_kw is None else round(row.max_kw * _W_PER_KW, 3)
            (made,) = await stations.add([Registered(0, row.name, row.location, max_w)], _ISSUER)
            # Nothing acts while the gateway is stopped: the wish is what it finds when it starts.
            wishes = Wishes(made.id, Memory(store), clock)
            reason, on = "from the list of stations", row.status == "on"
            wishes.put(Wish(made.id, REGISTRATION, Origin.SCHEDULE, on, None, reason, clock.now_us()), None)
            await wishes.keep()
    except CommandRejected as error:
        raise Unavailable(error.op, error.hint, "") from error
    finally:
        await asyncio.to_thread(store.close)
    return len(new), len(rows) - len(new)
