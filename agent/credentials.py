"""Files that the configuration names (``password_file:``), which may be credentials of the service.

``credential:NAME`` is the file of that name that systemd hands to the service (``LoadCredential=``, systemd.exec(5)):
in memory, for this service alone. Any other text is a path, which counts from the configuration's folder.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

_PREFIX = "credential:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
#: Where the service's credentials are while it runs: commands by hand find them there, as its user or as root.
SERVICE = Path("/run/credentials/enlace.service")
#: The unit loads each file of a folder, under this name and the file's.
_FOLDER = "enlace_"


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where credentials are."""
    return Path((os.environ if environ is None else environ).get("CREDENTIALS_DIRECTORY") or SERVICE)


def resolve(path: Path) -> Path:
    """The file behind a name of the configuration; it may be missing. Raises ``ValueError`` for a bad name."""
    text = str(path)
    if not text.startswith(_PREFIX):
        return path
    name = text.removeprefix(_PREFIX)
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"`{name}` is no name of a credential: letters, digits, - _ and .")
    of_folder = folder() / f"{_FOLDER}{name}"
    return of_folder if of_folder.exists() else folder() / name


#: A file that the configuration names.
NamedFile = Annotated[Path, AfterValidator(resolve)]
