"""Writes ``docs/configuration.md`` from the configuration's models: ``make docs``. A test holds the two together."""

from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from agent.config import DEVICES, CommanderSection, Config, Report, env_names
from agent.config_control import AlarmAct, AlarmSet, LoadStation, StationAct
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
"""

ENVIRONMENT = """\
## Environment

Each of these variables, in the process's environment or in a file `.env` in its working directory, overrides one key.
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
    rows = [f"| `{variable}` | `{'.'.join(path)}` |" for variable, path in env_names().items()]
    parts.append(ENVIRONMENT + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)


def table(title: str, text: str, model: type[BaseModel]) -> str:
    """The keys of a model as a section of a page."""
    lines = [f"## {title}", "", *([text, ""] if text else []), "| key | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{field.alias or name}` | {_default(field)} | {field.description or _section_words(field)} |")
    return "\n".join(lines) + "\n"


def _section_words(field: FieldInfo) -> str:
    section = _section(field)
    assert section is not None, "a key without a description"  # noqa: S101 - the page is made by developers
    return section.__doc__ or ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or isinstance(value, Section) or value in ((), {}, ""):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    PAGE.write_text(render())
