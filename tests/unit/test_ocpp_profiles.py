"""Charger models as data: what is shipped loads, what is wrong is named with its place, and who matches gets it."""

from dataclasses import fields
from pathlib import Path

import pytest

from agent.core.errors import ConfigError
from agent.ocpp_profiles import OcppProfileFile, load_ocpp_profile, load_ocpp_profiles
from agent.profiles import profile_folders
from drivers.codec.ocpp_model import Boot
from drivers.ocpp.quirks import STANDARD, Quirks, choose

HEAD = "maker: Acme\nmodel: Box\nsource: a log\n"


def _write(folder: Path, name: str, text: str) -> Path:
    (folder / "ocpp").mkdir(exist_ok=True, parents=True)
    path = folder / "ocpp" / f"{name}.yaml"
    path.write_text(f"name: {name}\n{HEAD}{text}")
    return path


def test_what_is_shipped_loads_and_says_where_it_is_from() -> None:
    profiles = load_ocpp_profiles(profile_folders())
    assert len(profiles) >= 20
    assert all(one.notes and one.notes[0].startswith("source: ") for one in profiles)
    assert all(one.vendor or one.model or any("no match" in note for note in one.notes) for one in profiles)


@pytest.mark.parametrize(
    ("vendor", "model", "firmware", "name"),
    [
        ("ABB", "CDT_TACW22::NET_WIFI", "TAC3Z9119006710273::V1.8.21", "abb_terra_ac_v1_8_21"),
        ("ABB", "CDT_TACW11::NET_WIFI", "TAC3Z9119006710273::V1.6.6", "abb_terra_ac_v1_8_21"),
        ("ABB", "CDT_TACW11::NET_WIFI", "TAC3Z9119006710273::V1.8.32", "abb_terra_ac"),
        ("EN+", "37", "1.1.805", "en_plus"),
        ("", "ACChargePoint", "", "huawei_scharger"),
        ("Etrel", "G-HB1V5CY20-A14", "5.4:5.0.5", "etrel_inch"),
        ("United Chargers", "GRS-*", "05.43", "grizzl_e_05"),
        ("United Chargers", "GRS-*", "03.09", "grizzl_e_03_09"),
        ("Wall Box Chargers", "PUP1-U-1-6", "6.6.15", "wallbox"),
        ("wallbe\0", "Pro", "", "wallbe_pro"),
        ("VESTEL", "EVC04", "", "vestel_evc04"),
        ("Schneider Electric", "EVlink Smart Wallbox", "3.4.0.2", "schneider_evlink"),
        ("Nobody", "Knows", "", "standard"),
    ],
)
def test_a_charger_gets_its_profile(vendor: str, model: str, firmware: str, name: str) -> None:
    profiles = load_ocpp_profiles(profile_folders())
    assert choose(profiles, Boot(vendor, model, firmware=firmware)).name == name


def test_a_file_says_all_that_quirks_can_hold() -> None:
    other = {"vendor", "firmware", "name", "model", "notes"}
    assert {one.name for one in fields(Quirks)} - other == set(OcppProfileFile.model_fields) - other - {
        "maker",
        "source",
        "match",
    }


def test_a_file_that_says_nothing_is_the_standard(tmp_path: Path) -> None:
    quirks = load_ocpp_profile(_write(tmp_path, "box", ""))
    for one in fields(Quirks):
        if one.name not in {"name", "notes"}:
            assert getattr(quirks, one.name) == getattr(STANDARD, one.name), one.name


def test_a_site_s_own_file_comes_first(tmp_path: Path) -> None:
    _write(tmp_path, "abb_terra_ac", "match: {vendor: ABB}\nstack_level: 7\n")
    _write(tmp_path, "mine", "match: {vendor: EN}\n")
    profiles = load_ocpp_profiles(profile_folders(tmp_path))
    assert [one.stack_level for one in profiles if one.name == "abb_terra_ac"] == [7]
    assert choose(profiles, Boot("EN+", "37")).name == "mine"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("colour: red\n", "5:1", "colour"),
        ("stack_level: -1\n", "5:14", "stack_level"),
        ("match: {vendor: '['}\n", "5:17", "no regular expression"),
        ("match: {}\n", "5:8", "every charger"),
        ("rate_unit: kW\n", "5:12", "rate_unit"),
        ("steps_a: [0, 6]\n", "5:10", "steps_a"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    path = _write(tmp_path, "box", text)
    with pytest.raises(ConfigError) as caught:
        load_ocpp_profile(path)
    assert f"{path}:{place}" in str(caught.value)
    assert words in str(caught.value)


def test_the_name_is_the_file_s(tmp_path: Path) -> None:
    path = _write(tmp_path, "box", "")
    other = path.rename(path.with_name("crate.yaml"))
    with pytest.raises(ConfigError, match="not the file's name"):
        load_ocpp_profile(other)


def test_no_folder_is_no_profiles(tmp_path: Path) -> None:
    assert load_ocpp_profiles([tmp_path, tmp_path / "nothing"]) == ()
