"""``enlace doctor``: one file for support that tells how a site is, and what is wrong first.

Rules of this file:

1. Nothing is changed: files are read, the store is opened for reading only, and a running gateway is asked only what
   it tells anybody on this machine.
2. Each section is a file of the bundle, made on its own. One that fails says why, and the others are made all the same:
   who needs this has a broken machine.
3. Everything passes the ``Redactor``, errors and the summary too.
"""

import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from agent import __version__
from agent.core.clock import Clock
from agent.doctor_redact import ConfigText, Known, Redactor

#: A file of the bundle is cut behind so many characters.
MAX_CHARACTERS = 8 << 20
SEVERITIES = ("error", "warning", "info")
SUMMARY, ABOUT = "summary.txt", "README.txt"

_ABOUT = """\
A bundle for support, made by `enlace doctor` {version} at {time}.

It tells how a gateway and its machine are: configuration, findings of `enlace check`, health, devices, newest values,
alarms, the store's figures, the newest events of the ledger, log lines, network, ports. Each section is a file.

Taken out: passwords, tokens, keys, codes, cookies, what stands in files that the configuration names, and comments of
the configuration. Users, id tags, e-mail addresses and vehicle identification numbers are hashes that mean nothing
outside of this file. Still in it: names of devices and stations, addresses in the site's network, serial numbers of
devices, readings. Look through it before you send it; docs/doctor.md says more.

Sections that could not be made: {failed}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A file of the bundle: its name, and what makes it: text, a ``ConfigText``, or what becomes JSON."""

    name: str
    make: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, or worth a look: how bad it is, what it is, and what to do."""

    severity: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What was made. ``findings`` are redacted, the worst first; ``failed``: sections that could not be made."""

    content: bytes
    name: str
    files: int
    findings: Sequence[Finding]
    failed: Sequence[str]


def make_bundle(
    site: str,
    sections: Sequence[Section],
    find: Callable[[], Iterable[Finding]],
    known: Known,
    clock: Clock,
    tell: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005 - told to nobody
) -> Bundle:
    """Make every section and put them together. ``tell``: how many are made, and of how many."""
    redactor = Redactor(known, secrets.token_bytes(32))
    failed: list[str] = []
    files: list[tuple[str, str]] = []
    for number, section in enumerate(sections):
        tell(number, len(sections))
        text, ok = _made(section, redactor)
        files.append((section.name, text))
        if not ok:
            failed.append(section.name)
    found: list[Finding] = []

    def look() -> object:
        found.extend(find())
        return ""

    text, ok = _made(Section(SUMMARY, look), redactor)
    if not ok:
        found.append(Finding("warning", text.strip()))
    findings = sorted(
        (Finding(one.severity, redactor.text(one.text), redactor.text(one.hint)) for one in found),
        key=lambda one: SEVERITIES.index(one.severity),
    )
    time = datetime.fromtimestamp(clock.now_us() / 1e6, UTC)
    about = _ABOUT.format(version=__version__, time=time.isoformat(timespec="seconds"), failed=", ".join(failed) or "-")
    files = [(SUMMARY, "\n".join(in_lines(findings)) + "\n"), (ABOUT, about), *files]
    content = _zip(files, time)
    tell(len(sections), len(sections))
    safe = "".join(one if one.isalnum() or one in "-_." else "_" for one in redactor.text(site)) or "site"
    return Bundle(content, f"enlace-doctor-{safe}-{time:%Y%m%dT%H%M%SZ}.zip", len(files), findings, failed)


def in_lines(findings: Sequence[Finding]) -> list[str]:
    """The findings for people, in the words of ``enlace check``: the worst first."""
    lines = [f"{one.severity}: {one.text}" + (f"; {one.hint}" if one.hint else "") for one in findings]
    return lines or ["nothing is wrong as far as this can tell"]


def write_file(path: Path, content: bytes) -> None:
    """Write a bundle for its owner alone. Raises ``OSError``, also where there is such a file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _made(section: Section, redactor: Redactor) -> tuple[str, bool]:
    """A section's text, and whether it could be made."""
    try:
        found = section.make()
        if isinstance(found, ConfigText):
            text = redactor.config(found)
        else:
            text = redactor.text(found) if isinstance(found, str) else redactor.json(found)
    except Exception as error:  # noqa: BLE001 - rule 2
        return redactor.text(f"this section could not be made: {type(error).__name__}: {error}\n"), False
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}\n(cut here, {len(text) - MAX_CHARACTERS} characters more)\n"
    return text, True


def _zip(files: Sequence[tuple[str, str]], time: datetime) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files:
            info = zipfile.ZipInfo(name, time.timetuple()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            archive.writestr(info, text.encode(errors="backslashreplace"))
    return content.getvalue()
