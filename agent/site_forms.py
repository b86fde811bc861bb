"""What forms need that edit a site: a device's entry, the device models there are, and the keys of the models.

No secret leaves here: values of keys that smell of one are left out, and such an entry is not edited here.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from agent.api.setup_view import DeviceEntryNow, ProfileInfo
from agent.config import DEVICES, SUNSPEC, Site
from agent.core.errors import ConfigError
from agent.doctor_redact import is_secret
from agent.profiles import profile_folders
from agent.site_editor import one_line, read_only
from agent.yamlfile import Json, parse, read_text, yaml_files

_SECRETS = "it holds a secret: edit the file by hand"
_NEEDS: Mapping[str, tuple[str, ...]] = {"can": ("channel",), "modbus": ("url",)}
#: Who has this point is a battery: profiles on CAN do not say what they are.
_STATE_OF_CHARGE = re.compile(r"\bsoc_pct:")
#: What a profile says of its model stands in lines of its own; all of a hundred files takes seconds to parse.
_HEAD = re.compile(r"^(?:driver|kind|maker|model|unit_id|bitrate):.*$", re.MULTILINE)

Stamp = tuple[tuple[Path, int], ...]


class SiteForms:
    """Reads the configuration's file and the profiles. All block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[Stamp, list[ProfileInfo]] | None = None

    def entry(self, device: str) -> DeviceEntryNow | None:
        """A device as the file has it; None when it has none of that id. Raises ``ConfigError``."""
        document, problems = parse(read_text(self._path), str(self._path))
        if document is None:
            raise ConfigError(f"read {self._path}", "\n" + "\n".join(map(str, problems)), "mend the file first")
        devices = document.data.get("devices") if isinstance(document.data, dict) else None
        for row in devices if isinstance(devices, list) else ():
            if isinstance(row, dict) and row.get("id") == device:
                shown = without_secrets(row)
                assert isinstance(shown, dict)  # noqa: S101 - as what it was made of
                locked = read_only(self._path) or ("" if shown == row else _SECRETS)
                return DeviceEntryNow(shown, f"- {one_line(shown)}", locked)
        return None

    def profiles(self) -> list[ProfileInfo]:
        """The device models that there are, those beside the configuration first. Unusable files are left out."""
        own = self._path.resolve().parent
        folders = profile_folders(own / "profiles")
        files = [path for folder in folders for path in yaml_files(folder)]
        stamp = tuple((path, _changed_ns(path)) for path in files)
        if self._known is None or self._known[0] != stamp:
            found: dict[str, ProfileInfo] = {SUNSPEC: _sunspec()}
            for path in files:
                for info in _profile(path, own=path.parent != folders[-1]):
                    found.setdefault(info.name, info)
            self._known = stamp, sorted(found.values(), key=lambda one: (not one.own, one.name))
        return self._known[1]

    def schema(self) -> Mapping[str, object]:
        """JSON schemas of the site's section and of the entries of each driver."""
        return {"site": Site.model_json_schema(), "devices": dict(_entries())}


def without_secrets(value: Json) -> Json:
    """A value without the keys that smell of a secret; names of files that hold one stay."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items() if not is_secret(key)}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it was just taken away, or is a link to nowhere
        return 0


def _entries() -> Iterator[tuple[str, dict[str, Any]]]:
    for model in DEVICES:
        (driver,) = get_args(model.model_fields["driver"].annotation)
        yield driver, model.model_json_schema()


def _profile(path: Path, *, own: bool) -> Iterator[ProfileInfo]:
    """What a file says of its model, without looking at its points; nothing where it is none."""
    try:
        text = read_text(path)
    except ConfigError:
        return
    document, _ = parse("\n".join(_HEAD.findall(text)), str(path))
    data = document.data if document is not None else None
    if not isinstance(data, dict) or data.get("driver") not in _NEEDS:
        return
    driver = str(data["driver"])
    battery = driver == "can" and _STATE_OF_CHARGE.search(text)
    unit_id, bitrate = data.get("unit_id", 1), data.get("bitrate")
    yield ProfileInfo(
        path.stem,
        "can" if driver == "can" else "modbus",
        str(data.get("kind") or ("battery" if battery else "other")),
        str(data.get("maker") or ""),
        str(data.get("model") or path.stem),
        _NEEDS[driver],
        unit_id if driver == "modbus" and isinstance(unit_id, int) else None,
        bitrate if isinstance(bitrate, int) else None,
        own,
    )


def _sunspec() -> ProfileInfo:
    return ProfileInfo(SUNSPEC, "modbus", "other", "", "any device that speaks SunSpec", _NEEDS["modbus"], 1)
