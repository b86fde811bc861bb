"""Names to numbers: sites, boots, and which series a boot's signals are. Cached; the cache is thrown away at any error.

Runs inside the caller's transaction. Rule 2 of ``schema.py`` says what epochs are for.

Whoever may publish as a site can invent names. So a site has ``MAX_SERIES`` at most, of all its epochs, each of
``MAX_TEXT`` characters at most, and there are ``MAX_SITES`` sites: what goes beyond is refused, and counted as such.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.core.model import Encoding, Kind, Signal
from cloud_sync.central.parse import CatalogIn, clean, labels_text
from cloud_sync.central.rows import Meaning
from cloud_sync.central.schema import Connection
from cloud_sync.subscriber import PayloadError

#: Boots in memory; a site has a new one with each restart.
MAX_BOOTS = 20_000
MAX_SITES = 100_000
#: A large site has some thousand, and begins anew some ten times in its life.
MAX_SERIES = 100_000
MAX_TEXT = 16_384


class TooManyNamesError(PayloadError):
    """A catalogue is not taken: the site would have more names than are kept."""


@dataclass(frozen=True, slots=True)
class Boot:
    """A run of a gateway."""

    id: int
    epoch: int


class Names:
    """What the database calls things."""

    def __init__(self) -> None:
        self._sites: dict[str, int] = {}
        self._boots: dict[tuple[int, str], Boot] = {}
        self._meanings: dict[tuple[int, int], dict[int, Meaning]] = {}
        self._catalogs: dict[str, int] = {}  #: hashes of the payloads that were dealt with

    def forget(self) -> None:
        """A transaction failed: what was learnt in it may not be so."""
        self._sites.clear()
        self._boots.clear()
        self._meanings.clear()
        self._catalogs.clear()

    def sites(self, connection: Connection, names: Iterable[str]) -> Mapping[str, int]:
        """The numbers of these sites; new ones are given theirs, up to ``MAX_SITES``: those beyond have none."""
        missing = sorted(set(names) - self._sites.keys())
        if missing:
            missing = self._learn(connection, missing)
        if missing:
            row = connection.execute("SELECT count(*) FROM enlace.site").fetchone()
            missing = missing[: max(MAX_SITES - (_int(row[0]) if row else 0), 0)]
            connection.execute(
                """INSERT INTO enlace.site(name) SELECT name FROM unnest(%s::text[]) AS name
                    WHERE NOT EXISTS (SELECT FROM enlace.site WHERE site.name = name.name)
                    ORDER BY name ON CONFLICT DO NOTHING""",
                (missing,),
            )
            self._learn(connection, missing)
        return self._sites

    def _learn(self, connection: Connection, names: list[str]) -> list[str]:
        """Read the numbers of these sites; those that have none."""
        found = connection.execute("SELECT name, id FROM enlace.site WHERE name = ANY(%s)", (names,))
        self._sites.update({str(name): _int(number) for name, number in found})
        return [name for name in names if name not in self._sites]

    def boots(self, connection: Connection, wanted: Iterable[tuple[int, str]]) -> Mapping[tuple[int, str], Boot]:
        """Boots by (site, boot). A new one belongs to its site's epoch of now."""
        missing = sorted(set(wanted) - self._boots.keys())
        if missing:
            if len(self._boots) > MAX_BOOTS:
                self._boots.clear()
                missing = sorted(set(wanted))
            columns = [site for site, _ in missing], [boot for _, boot in missing]
            connection.execute(
                """INSERT INTO enlace.boot(site, boot, epoch) SELECT new.site, new.boot, site.epoch
                    FROM unnest(%s::int[], %s::text[]) AS new(site, boot) JOIN enlace.site ON site.id = new.site
                    WHERE NOT EXISTS (SELECT FROM enlace.boot WHERE boot.site = new.site AND boot.boot = new.boot)
                    ORDER BY 1, 2 ON CONFLICT DO NOTHING""",
                columns,
            )
            found = connection.execute(
                """SELECT boot.site, boot.boot, boot.id, boot.epoch FROM enlace.boot
                    JOIN unnest(%s::int[], %s::text[]) AS old(site, boot) USING (site, boot)""",
                columns,
            )
            for site, boot, number, epoch in found:
                self._boots[_int(site), str(boot)] = Boot(_int(number), _int(epoch))
        return self._boots

    def meanings(self, connection: Connection, site: int, epoch: int) -> Mapping[int, Meaning]:
        """The series of a site by signal; empty before its first catalogue."""
        known = self._meanings.get((site, epoch))
        if not known:
            known = self._meanings[site, epoch] = _read(connection, site, epoch)
        return known

    def take(self, connection: Connection, site: int, incoming: CatalogIn) -> bool:
        """Bring the series of a site up to its catalogue; False when this worker has done that already.

        Raises ``TooManyNamesError`` before anything is changed.
        """
        if self._catalogs.get(incoming.site) == hash(incoming.payload):
            return False
        row = connection.execute("SELECT epoch FROM enlace.site WHERE id = %s FOR UPDATE", (site,)).fetchone()
        epoch = _int(row[0]) if row else 1
        known = _read(connection, site, epoch)
        wanted = {number: _clean(signal) for number, signal in incoming.catalog.signals.items()}
        if any(number in wanted and not _same(meaning.signal, wanted[number]) for number, meaning in known.items()):
            epoch, known = epoch + 1, {}
        new = [signal for number, signal in wanted.items() if number not in known]
        other_words = [
            (known[number].series, signal)
            for number, signal in wanted.items()
            if number in known and _words(known[number].signal) != _words(signal)
        ]
        _check_texts([*new, *(signal for _, signal in other_words)])
        _check_room(connection, site, len(new))
        _insert(connection, site, epoch, new)
        _update(connection, other_words)
        connection.execute(
            "UPDATE enlace.site SET epoch = %s, catalog_version = %s WHERE id = %s",
            (epoch, incoming.catalog.version, site),
        )
        # Whoever waits for this catalogue belongs to it.
        connection.execute(
            """UPDATE enlace.boot SET epoch = %s
                WHERE site = %s AND epoch < %s AND id IN (SELECT boot FROM enlace.pending WHERE site = %s)""",
            (epoch, site, epoch, site),
        )
        self._boots = {key: boot for key, boot in self._boots.items() if key[0] != site}
        self._meanings.pop((site, epoch), None)
        self._catalogs[incoming.site] = hash(incoming.payload)
        return True


def _check_texts(signals: Iterable[Signal]) -> None:
    for signal in signals:
        size = sum(map(len, (signal.device, signal.name, signal.unit, *_words(signal))))
        if size > MAX_TEXT:
            raise TooManyNamesError(
                f"signal {signal.id} has names and labels of {size} characters: {MAX_TEXT} are kept"
            )


def _check_room(connection: Connection, site: int, new: int) -> None:
    if not new:
        return
    row = connection.execute("SELECT count(*) FROM enlace.series WHERE site = %s", (site,)).fetchone()
    there = _int(row[0]) if row else 0
    if there + new > MAX_SERIES:
        raise TooManyNamesError(f"the site has {there} names, with these {there + new}: {MAX_SERIES} are kept")


def _same(one: Signal, other: Signal) -> bool:
    """Whether two signals have one meaning."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("device", "name", "unit", "kind", "encoding", "scale", "offset")
    )


def _words(signal: Signal) -> tuple[str, str]:
    return labels_text(signal), signal.source


def _clean(signal: Signal) -> Signal:
    texts = (clean(text) for text in (signal.device, signal.name, signal.unit, signal.source))
    device, name, unit, source = texts
    return Signal(
        device, name, unit, signal.kind, signal.encoding, signal.scale, signal.offset, signal.labels, source, signal.id
    )


def _read(connection: Connection, site: int, epoch: int) -> dict[int, Meaning]:
    rows = connection.execute(
        """SELECT id, signal, device, point, unit, kind, encoding, scale, "offset", labels::text, source
            FROM enlace.series WHERE site = %s AND epoch = %s""",
        (site, epoch),
    )
    return {_int(row[1]): Meaning(_int(row[0]), _signal(row)) for row in rows}


def _signal(row: tuple[object, ...]) -> Signal:
    _, signal, device, point, unit, kind, encoding, scale, offset, labels, source = row
    return Signal(
        device=str(device),
        name=str(point),
        unit=str(unit),
        kind=Kind(str(kind)),
        encoding=Encoding[str(encoding).upper()],
        scale=json.loads(str(scale)),
        offset=json.loads(str(offset)),
        labels={int(word): text for word, text in json.loads(str(labels)).items()},
        source=str(source),
        id=_int(signal),
    )


def _insert(connection: Connection, site: int, epoch: int, signals: list[Signal]) -> None:
    if not signals:
        return
    rows = [
        (
            *(one.id, one.device, one.name, one.unit, one.kind.value, one.encoding.name.lower()),
            *(json.dumps(one.scale), json.dumps(one.offset), labels_text(one), one.source),
        )
        for one in signals
    ]
    connection.execute(
        """INSERT INTO enlace.series(site, epoch, signal, device, point, unit, kind, encoding, scale, "offset", labels,
                source)
            SELECT %s, %s, signal, device, point, unit, kind, encoding, scale, "offset", labels::jsonb, source
            FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                %s::text[], %s::text[], %s::text[])
                AS new(signal, device, point, unit, kind, encoding, scale, "offset", labels, source)""",
        (site, epoch, *(list(column) for column in zip(*rows, strict=True))),
    )


def _update(connection: Connection, changed: list[tuple[int, Signal]]) -> None:
    if not changed:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE enlace.series SET labels = %s::jsonb, source = %s WHERE id = %s",
            [(labels_text(signal), signal.source, series) for series, signal in changed],
        )


def _int(value: object) -> int:
    assert isinstance(value, int)  # noqa: S101 - the columns are whole numbers
    return value
