"""Frames whose values their authors wrote down: our profiles must read the same. Skips where they are absent."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.profiles import load_profile, profile_folders
from drivers.codec.can_frame import FrameDecoder
from drivers.codec.dbc import load_dbc

DOCUMENTED = Path(__file__).resolve().parents[3] / "shared" / "data" / "can" / "documented"
PROFILES = {"pylontech": "pylontech_lv", "byd_lvs_victron": "victron_lv"}

#: The authors' names for values, as our points, with what turns our unit into theirs.
POINTS: dict[str, tuple[str, Callable[[float], float]]] = {
    "charge_voltage_V": ("charge_voltage_limit_v", float),
    "charge_current_limit_A": ("charge_current_limit_a", float),
    "discharge_current_limit_A": ("discharge_current_limit_a", float),
    "discharge_voltage_V": ("discharge_voltage_limit_v", float),
    "cvl_V": ("charge_voltage_limit_v", float),
    "ccl_A": ("charge_current_limit_a", float),
    "dcl_A": ("discharge_current_limit_a", float),
    "dvl_V": ("discharge_voltage_limit_v", float),
    "soc_pct": ("soc_pct", float),
    "soh_pct": ("soh_pct", float),
    "voltage_V": ("voltage_v", float),
    "current_A": ("current_a", float),
    "temperature_C": ("temperature_degc", float),
    "modules": ("modules", float),
    "charge_enable": ("charge_enabled", float),
    "discharge_enable": ("discharge_enabled", float),
    "batteries_online": ("modules", float),
    "batteries_offline": ("modules_offline", float),
    "min_cell_V": ("cell_voltage_min_v", float),
    "max_cell_V": ("cell_voltage_max_v", float),
    "min_temp_K": ("temperature_min_degc", lambda degc: degc + 273.15),
    "max_temp_K": ("temperature_max_degc", lambda degc: degc + 273.15),
    "charged_kWh": ("energy_import_wh", lambda wh: wh / 1000),
    "discharged_kWh": ("energy_export_wh", lambda wh: wh / 1000),
    "installed_Ah": ("capacity_ah", float),
}
#: Texts and what no point maps.
UNMAPPED = {"manufacturer", "product", "firmware", "capacity_Ah", "text"}


def paths() -> list[Path]:
    return sorted(DOCUMENTED.glob("*.json")) if DOCUMENTED.is_dir() else []


def test_the_documented_frames_are_there() -> None:
    if not paths():
        pytest.skip(f"no documented frames at {DOCUMENTED}")
    assert {path.stem for path in paths()} == set(PROFILES), "a new file needs a profile, or an entry in PROFILES"


@pytest.mark.parametrize("path", paths(), ids=lambda path: path.stem)
def test_our_profile_reads_what_the_author_wrote(path: Path) -> None:
    profile = load_profile(PROFILES[path.stem], profile_folders())
    rows = {row.signal: row for row in profile.points}
    decoder = FrameDecoder(message for dbc in profile.dbc for message in load_dbc(dbc.read_bytes(), dbc.name).messages)
    checked = 0
    for frame in json.loads(path.read_text())["frames"]:
        codec = decoder.find(int(frame["id"], 16), extended=False)
        if codec is None:
            raise AssertionError(f"{frame['id']} is not in the profile's DBC")
        decoded = codec.decode(bytes.fromhex(frame["data"]))
        assert isinstance(decoded, dict), (frame["id"], decoded)
        ours = {
            row.point: value * row.scale + row.offset
            for name, value in decoded.items()
            if (row := rows.get(f"{codec.message.name}.{name}"))
        }
        for name, theirs in frame["documented"].items():
            if name == "alarms":
                assert not any(value for point, value in ours.items() if point.startswith(("fault", "warning")))
            elif name not in UNMAPPED:
                point, convert = POINTS[name]
                assert convert(ours[point]) == pytest.approx(theirs, abs=1e-9), (frame["id"], name)
                checked += 1
    assert checked >= 8
