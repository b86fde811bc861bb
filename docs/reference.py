"""Writes ``docs/configuration.md`` from the configuration's models: ``make docs``. A test holds the two together."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent.config import DEVICES, CommanderSection, Config, Report, env_names
from agent.config_control import AlarmAct, AlarmSet, LoadStation, StationAct
from agent.config_energy import TariffBand
from agent.config_ocpp import OcppCertificate
from agent.yamlfile import Section

PAGE = Path(__file__).with_name("configuration.md")

HEAD = """\
# Configuration

One YAML file, by default `/etc/enlace/site.yaml`; `enlace check --config FILE` validates it without starting. Unknown
keys are refused, and every complaint says `file:line:column`, what is wrong and what to write instead. An annotated
example is `config/site.yaml`. This page is written by `make docs` from the models that read the file.

A change of the file is applied while the gateway runs (at once on SIGHUP), and only to what changed; a bad file is
refused in words and the old one stays. `data_dir` and `store:` take effect at the next start; so do changes of profiles
and DBC files, unless SIGHUP is sent.

YAML 1.2 is read: `on`, `off`, `yes` and `no` are text, only `true` and `false` are truth values.

Ids are letters, digits, `-` and `_`, 64 at most, the first a letter or digit. No device is called `gateway` (this
gateway is) or `station-4` (stations that people register are).

The column *allowed* has the words, or the bounds of the number, that a key takes; where it is empty, the meaning says
it. Times are in seconds (86400 are a day, 31622400 are 366), currents in A per phase.
"""

ENVIRONMENT = """\
## Environment

Each of these variables, in the process's environment or in a file `.env` in its working directory (lines `NAME=value`,
also with `export` before), overrides one key.
`ENLACE_CONFIG` names the configuration file where `--config` is not given; `ENLACE_TOKEN` is for `enlace seed`;
`enlace demo` sets `ENLACE_DEMO_CONTROL` for its gateway. Any other variable that begins with `ENLACE_` is an error.

| variable | key |
|---|---|
"""


def render() -> str:
    """The page, as it must stand in ``docs/configuration.md``."""
    parts = [HEAD, table("The file", "", Config)]
    for name, field in Config.model_fields.items():
        section = _section(field)
        if section is not None and name != "devices":
            parts.append(table(f"`{name}:`", section.__doc__ or "", section))
    for device in DEVICES:
        (driver,) = get_args(device.model_fields["driver"].annotation)
        parts.append(table(f"`devices:` with `driver: {driver}`", device.__doc__ or "", device))
    parts.append(table("`report:` of a device", Report.__doc__ or "", Report))
    parts.append(table("One of `uplink.commanders:`", CommanderSection.__doc__ or "", CommanderSection))
    parts.append(table("One of `ocpp.certificates:`", OcppCertificate.__doc__ or "", OcppCertificate))
    parts.append(table("One of a schedule's `then:`", StationAct.__doc__ or "", StationAct))
    parts.append(table("One of the `then:` of an alarm, a rule or an event", AlarmAct.__doc__ or "", AlarmAct))
    parts.append(table("One of `alarm_sets:`", AlarmSet.__doc__ or "", AlarmSet))
    parts.append(table("One of `load_management.stations:`", LoadStation.__doc__ or "", LoadStation))
    parts.append(table("One of `tariff.bands:`", TariffBand.__doc__ or "", TariffBand))
    rows = [f"| `{variable}` | `{'.'.join(path)}` |" for variable, path in env_names().items()]
    parts.append(ENVIRONMENT + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def table(title: str, text: str, model: type[BaseModel]) -> str:
    """The keys of a model as a section of a page."""
    head = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    lines = [f"## {title}", "", *([text, ""] if text else []), *head]
    for name, field in model.model_fields.items():
        words = field.description or _section_words(field)
        lines.append(f"| `{field.alias or name}` | {_default(field)} | {_allowed(field)} | {words} |")
    return "\n".join(lines) + "\n"


def _section_words(field: FieldInfo) -> str:
    section = _section(field)
    assert section is not None, "a key without a description"  # noqa: S101 - the page is made by developers
    return section.__doc__ or ""


def _allowed(field: FieldInfo) -> str:
    """The words of which a key takes one, or the bounds of its number, where there are any."""
    kinds = list(_kinds(field.annotation))
    words = [f"`{word}`" for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    rules = [*field.metadata, *(rule for kind in kinds for rule in getattr(kind, "__metadata__", ()))]
    bounds = [bound for rule in rules for bound in (rule.metadata if isinstance(rule, FieldInfo) else (rule,))]
    least = next((f"{bound.ge}" for bound in bounds if isinstance(bound, Ge)), "")
    above = next((f"above {bound.gt}" for bound in bounds if isinstance(bound, Gt)), "")
    most = next((f"{bound.le}" for bound in bounds if isinstance(bound, Le)), "")
    if least and most:
        return f"{least} to {most}"
    parts = [above, f"at least {least}" if least else "", f"at most {most}" if most else ""]
    return ", ".join(filter(None, parts)) or (", ".join(words) if len(words) > 1 else "")


def _kinds(annotation: object) -> Iterator[object]:
    """A type and what it is made of; not what stands inside of a mapping, or of a pair whose parts differ."""
    yield annotation
    made, parts = get_origin(annotation), get_args(annotation)
    if made in (Literal, dict, Mapping) or (made is tuple and parts[-1] is not Ellipsis):
        return
    for part in parts:
        yield from _kinds(part)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or isinstance(value, Section) or value in ((), {}, ""):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(render())
