"""How the sites are, as ``enlace central --status`` prints it."""

from collections.abc import Iterator, Sequence

from cloud_sync.central.database import Database

_SITES = """SELECT site, online, extract(epoch FROM now() - seen)::bigint, telemetry_upto, telemetry_behind, event_upto,
    event_behind, gaps_open, gaps_lost, pending, refused FROM enlace.sites ORDER BY site"""
_HEAD = ("site", "online", "seen", "telemetry", "behind", "events", "behind", "gaps", "lost", "waiting", "refused")


def table(dsn: str) -> Sequence[Sequence[str]]:
    """The sites, one in each row; the first row names the columns. Raises ``Unavailable``, ``ConfigError``."""
    database = Database(dsn)
    try:
        found = database.call(lambda connection: connection.execute(_SITES).fetchall())
    finally:
        database.close()
    return [_HEAD, *(_row(row) for row in found)]


def in_lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table as lines of text, and how many sites there are."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        first, *rest = zip(cells, widths, strict=True)
        yield "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()
    yield f"{len(rows) - 1} sites"


def _row(row: tuple[object, ...]) -> tuple[str, ...]:
    site, online, seen_s, *numbers = row
    state = {True: "yes", False: "no", None: "?"}[online] if online is None or isinstance(online, bool) else "?"
    return str(site), state, _ago(seen_s), *("-" if number is None else str(number) for number in numbers)


def _ago(seconds: object) -> str:
    if not isinstance(seconds, int):
        return "never"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{max(seconds, 0)} s ago"


def migrate(dsn: str) -> None:
    """Bring the tables up to date, which any connection does. Raises ``Unavailable``, ``ConfigError``."""
    database = Database(dsn)
    try:
        database.call(lambda _: None)
    finally:
        database.close()
