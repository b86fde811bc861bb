"""What the API makes for people who help: a bundle for support, a backup, and log lines without secrets.

All of it blocks, and runs in threads; ``agent/api/support_routes.py`` has the routes.
"""

import io
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from agent.api.times import iso
from agent.api.view import LogPage, MadeBackup
from agent.backup import Site, back_up
from agent.backup_drafts import DRAFT
from agent.config import Config, dotenv
from agent.core.clock import Clock
from agent.core.errors import StoreError
from agent.doctor import Bundle, Finding, Section, make_bundle
from agent.doctor_known import known_of
from agent.doctor_redact import Redactor
from agent.doctor_site import Place, check_findings, site_sections
from agent.log_ring import LogLine, LogRing


class Support:
    """``SupportDesk`` of ``agent/api/view.py``. ``config``: the present one, whose file is ``path``."""

    def __init__(self, config: Callable[[], Config], path: Path, clock: Clock, ring: LogRing) -> None:
        self._config = config
        self._path = path
        self._clock = clock
        self._ring = ring
        self._salt = secrets.token_bytes(32)  # of this process: lines shown one after the other name the same people

    def logs(self, level: int, text: str, limit: int) -> LogPage:
        """The newest lines of at least that level in which that text stands, as they may be shown."""
        redactor = Redactor(known_of(self._place()), self._salt)
        found = [_shown(one, redactor) for one in reversed(self._ring.lines()) if one.level >= level]
        wanted = text.casefold()
        # Looked for in what may be shown: nobody finds out a secret by asking for it.
        found = [one for one in found if wanted in f"{one.logger}: {one.text}".casefold()]
        return LogPage(len(found), self._ring.dropped, found[:limit])

    def doctor(self, live: Mapping[str, object], findings: Sequence[tuple[str, str, str]]) -> Bundle:
        """A bundle. ``live``: sections that the gateway itself knows better; ``findings``: what is wrong now."""
        place = self._place()
        sections = [one for one in site_sections(place, self._clock) if one.name not in {*live, "gateway/log.txt"}]
        sections += [Section(name, partial(_told, told)) for name, told in live.items()]
        sections.append(Section("gateway/log.txt", self._log))

        def found() -> Sequence[Finding]:
            return [*(Finding(*one) for one in findings), *check_findings(place, running=True)]

        return make_bundle(self._config().site.id, sections, found, known_of(place), self._clock)

    def backup(self, stop: threading.Event, *, with_secrets: bool) -> MadeBackup:
        """Make a backup. Raises ``StoreError``, also when ``stop`` is set meanwhile."""
        config = self._config()
        site = Site(config, self._path.absolute(), config.data_dir.absolute())
        # Under the name of a draft: what a kill leaves, the next backup takes away.
        target = site.data_dir / f"{DRAFT}{secrets.token_hex(16)}-made"

        def tell(_what: str, _done: int, _size: int) -> None:
            if stop.is_set():
                raise StoreError("back up", "nobody waits for it any more")

        try:
            made = back_up(site, target, self._clock, tell, io.BytesIO(), secrets=with_secrets)
            tell("made", 0, 0)
            return MadeBackup(target.open("rb"), target.stat().st_size, made.manifest.id, made.missing)
        except OSError as error:
            raise StoreError("back up", error.strerror or str(error)) from error
        finally:
            target.unlink(missing_ok=True)

    def _place(self) -> Place:
        config = self._config()
        environ = dotenv(Path(".env")) | dict(os.environ)
        return Place(self._path.absolute(), config.data_dir.absolute(), config, environ)

    def _log(self) -> str:
        lines = [f"(older lines that made room: {self._ring.dropped})"]
        lines += [
            f"{iso(one.t_us)} {logging.getLevelName(one.level)} {one.logger}: {one.text}" for one in self._ring.lines()
        ]
        return "\n".join(lines) + "\n"


def _told(what: object) -> object:
    """It is known already."""
    return what


def _shown(line: LogLine, redactor: Redactor) -> LogLine:
    return LogLine(line.t_us, line.level, redactor.text(line.logger), redactor.text(line.text))
