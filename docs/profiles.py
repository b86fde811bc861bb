"""Writes ``docs/profiles.md`` from the profiles and their models: ``make docs``. A test holds the two together."""

from pathlib import Path

from agent import modbus_profiles as modbus
from agent import profiles as can
from agent.modbus_loader import LoadedModbusProfile
from agent.profiles import load_any_profile, profile_folders
from agent.share import share_path
from docs.reference import table

PAGE = Path(__file__).with_name("profiles.md")

HEAD = """\
# Device models

A device model is a file of `config/profiles`: data, no code. A site names it with `profile:`; a file of your own lies
beside the site's configuration, or in a folder `profiles` there, and is named the same way. `enlace check` holds it
against the rules below and says `file:line:column` of each mistake. This page is written by `make docs`.

None of the Modbus models was tried on the device itself by us: their registers come from the sources that each file
names, and each has a case with worked-out values in `tests/cases/modbus_profiles`.

A SunSpec device needs no model: `profile: sunspec` asks it what it has.

Many devices close a Modbus TCP connection that nobody used for some seconds. The next question opens it again, and no
reading is lost; `enlace_wire_events_total` with `name="reopened"` counts it ([metrics.md](metrics.md)). Where a gateway
closes it over a question to one unit, that unit has no answer, and the others behind it go on.
"""

MODELS = """\
## A model of your own

On Modbus, in short:

```yaml
name: my_meter
driver: modbus
kind: meter
maker: Acme
model: M1
source: Acme M1, Modbus register list of 2024, rev. B
table: input
points:
  power_w: {register: 12, type: int32, scale: 0.1}
  energy_import_wh: {register: 40, type: uint32, scale: 10, every_s: 30, missing: [0xFFFFFFFF]}
```

The names of points stand in `agent/core/points.py`.
"""

_SECTIONS = (
    ("The file, `driver: modbus`", modbus.ModbusProfileFile),
    ("A line of `points:`", modbus.PointRow),
    ("A line of `settings:`", modbus.SettingRow),
    ("A line of `identity:`", modbus.TextRow),
    ("A line of `match:`", modbus.MatchRow),
    ("A line of `setup:`", modbus.WriteRow),
    ("`heartbeat:`", modbus.HeartbeatRow),
    ("The file, `driver: can`", can.ProfileFile),
    ("A line of its `points:`", can.PointRow),
)


def render() -> str:
    """The page, as it must stand in ``docs/profiles.md``."""
    rows: dict[str, list[str]] = {}
    for path in sorted(share_path("config/profiles").glob("*.yaml")):
        profile = load_any_profile(path.stem, profile_folders())
        if isinstance(profile, LoadedModbusProfile):
            file = profile.file
            settings = ", ".join(f"`{name}`" for name in file.settings)
            rows.setdefault(file.kind, []).append(
                f"| `{file.name}` | {file.maker} | {file.model} | {len(file.points)} | {settings} |"
            )
    parts = [HEAD]
    for kind in ("charger", "meter", "inverter", "battery", "other"):
        if kind in rows:
            head = ["| profile | maker | model | points | can be set |", "|---|---|---|---|---|"]
            parts.append("\n".join([f"## Modbus: {_plural(kind)}", "", *head, *rows[kind]]) + "\n")
    parts.append(MODELS)
    parts += [table(title, model.__doc__ or "", model).replace("## ", "### ", 1) for title, model in _SECTIONS]
    return "\n".join(parts)


def _plural(kind: str) -> str:
    return {"battery": "batteries", "other": "others"}.get(kind, f"{kind}s")


if __name__ == "__main__":
    PAGE.write_text(render())
