"""What must not get out of a site in a bundle for support: its secrets and its people, from wherever they stand."""

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agent import credentials
from agent.api.users import UserBook
from agent.config import ENV_PREFIX
from agent.core.errors import AgentError
from agent.doctor_redact import Known
from agent.doctor_site import EVENTS, Place, tree_of
from agent.store.look import open_look

#: A secret that is longer is none of ours.
_MAX_SECRET_BYTES = 64 << 10
#: Of the files that a configuration names, these hold nothing secret.
_PUBLIC_FILES = {"ca_file", "cert_file", "client_ca_file"}
_SECRET_SUFFIXES = {".password", ".passwd", ".pass", ".secret", ".token", ".key", ".url", ".pin"}
_MAX_BESIDE = 1000
_USER = re.compile(r"user:([^\s\"',}]+)")


def known_of(place: Place) -> Known:
    """The site's secrets and people, as far as they can be read; the rest is recognised by its looks."""
    known = Known()
    tree = tree_of(place.path)
    if tree is not None:
        known.document(tree.data)
        _files(tree.data, place.path.parent, known)
    for name, value in place.environ.items():
        if name.startswith(ENV_PREFIX):
            key = name.removeprefix(ENV_PREFIX).lower()
            known.document(value, key)
            _files({key: value}, place.path.parent, known)
    _beside(place, known)
    with suppress(AgentError, OSError):
        known.users |= {user.name for user in UserBook(place.data_dir).all()}
    with suppress(AgentError), open_look(place.database) as store:
        known.tags |= store.tags()
        for event in store.events(EVENTS, "audit"):
            known.users |= set(_USER.findall(str(event["data"])))
    return known


def _files(value: object, base: Path, known: Known, key: str = "") -> None:
    """What stands in the files of secrets that a configuration names."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            _files(one, base, known, str(name))
    elif isinstance(value, list):
        for one in value:
            _files(one, base, known, key)
    elif isinstance(value, str) and key.endswith("_file") and not key.endswith(tuple(_PUBLIC_FILES)):
        text = _secret_text(base / value)
        if text is None and "/" not in value and not value.startswith("credential:"):
            known.secret(value)  # rather the secret itself, in the place of its file
        for line in (text or "").splitlines():
            known.address(line.strip())
        known.secret(text or "")


def _beside(place: Place, known: Known) -> None:
    """What looks like a secret beside the configuration, or was handed over by systemd."""
    folders = [place.path.parent, credentials.folder(place.environ)]
    for path in [one for folder in folders for one in sorted(folder.glob("*"))[:_MAX_BESIDE]]:
        if path.suffix in _SECRET_SUFFIXES or path.parent != place.path.parent:
            for line in (text := _secret_text(path) or "").splitlines():
                known.address(line.strip())
            known.secret(text)


def _secret_text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SECRET_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return None
