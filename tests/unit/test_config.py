"""The site's configuration: each kind of mistake gets a line that says where, what, and what to write."""

from pathlib import Path

import pytest

from agent.config import (
    CanDevice,
    Config,
    SerialMeterDevice,
    dotenv,
    env_names,
    load_config,
    read_config,
)
from agent.config_api import Api, split_address
from agent.core.errors import ConfigError
from agent.doctor_site import place_of
from agent.yamlfile import Section

GOOD = """\
site: {id: depot-7, name: Depot 7, timezone: America/Mexico_City, import_limit_a: 63}
api: {listen: "127.0.0.1:0"}
devices:
  - {id: battery1, driver: can, channel: can0, interface: socketcan, profile: pylontech_lv}
uplink: {broker: "mqtts://central.example:8883", payload: blocks}
"""


def read(tmp_path: Path, text: str, **environ: str) -> tuple[Config | None, list[str]]:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    reading = read_config(path, environ)
    return reading.config, [str(problem).replace(str(tmp_path) + "/", "") for problem in reading.problems]


def test_a_good_file(tmp_path: Path) -> None:
    config, problems = read(tmp_path, GOOD)
    assert not problems
    assert config is not None
    assert config.site.import_limit_a == 63
    assert isinstance(config.devices[0], CanDevice)
    assert config.devices[0].profile == "pylontech_lv"
    assert config.devices[0].report.max_interval_s == 60
    assert config.uplink is not None
    assert config.uplink.payload == "blocks"
    assert config.data_dir == Path("/var/lib/enlace")


@pytest.mark.parametrize(
    ("written", "read_as"), [("a.dbc", ("a.dbc",)), ("[a.dbc]", ("a.dbc",)), ("[a.dbc, b.dbc]", ("a.dbc", "b.dbc"))]
)
def test_dbc_files_are_one_or_a_list(tmp_path: Path, written: str, read_as: tuple[str, ...]) -> None:
    device = f"{{id: bms, driver: can, channel: can0, dbc: {written}}}"
    config, problems = read(tmp_path, f"site: {{id: a}}\ndevices: [{device}]\n")
    assert not problems
    assert config is not None
    assert isinstance(config.devices[0], CanDevice)
    assert config.devices[0].dbc == read_as


def test_an_empty_device_list_is_a_site(tmp_path: Path) -> None:
    config, problems = read(tmp_path, "site: {id: a}\n")
    assert not problems
    assert config is not None
    assert config.devices == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "driver: can",
            "driver: knx",
            "site.yaml:4:28: `driver` must be one of can, modbus, serial_meter, ocpp, not the text 'knx'",
        ),
        ("profile:", "profil:", "site.yaml:4:70: unknown key `profil`; did you mean `profile`?"),
        (", profile: pylontech_lv", "", "nothing says how to decode it; add `profile:`"),
        ("channel: can0, ", "", "channel"),
        ("id: battery1", "id: 'bat/tery'", "site.yaml:4:10:"),
        ("America/Mexico_City", "Mexico", "is no known time zone"),
        ("mqtts://central.example:8883", "http://central", "is no broker's address; write mqtt://host:1883"),
        ("mqtts://central", "mqtts://me:secret@central", "holds a user name or password; use username:"),
        ("127.0.0.1:0", "8080", "is no address; write address:port"),
        ("import_limit_a: 63", "import_limit_a: lots", "site.yaml:1:83:"),
        ("payload: blocks", "payload: xml", "payload"),
        (
            "pylontech_lv}",
            "x, report: {min_interval_s: 9, max_interval_s: 5}}",
            "max_interval_s is below min_interval_s",
        ),
        ("pylontech_lv}", "x, report: {every: true, deadband: 1}}", "every: true keeps all readings"),
        ("payload: blocks", "cert_file: x.pem", "site.yaml:5:9: "),
        ("payload: blocks", "root: 'a+b'", "site.yaml:5:"),
        ("site: {id: depot-7", "sites: {id: depot-7", "site"),
    ],
)
def test_each_kind_of_mistake_is_named_and_located(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    config, problems = read(tmp_path, GOOD.replace(old, new))
    assert config is None
    assert any(expected in problem for problem in problems), problems
    assert all(problem.startswith("site.yaml:") for problem in problems)
    assert "secret" not in "".join(problems)
    # The description of the list around it helps nobody.
    assert "may be empty" not in "".join(problems)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    _, problems = read(tmp_path, GOOD.replace("driver: can", "driver: x").replace("payload: blocks", "payload: xml"))
    assert len(problems) == 2


def test_two_devices_of_one_id(tmp_path: Path) -> None:
    line = GOOD.splitlines()[3]
    _, problems = read(tmp_path, GOOD.replace(line, f"{line}\n{line}"))
    assert problems[0].startswith("site.yaml:5:")
    assert "two devices are called `battery1`" in problems[0]


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ("devices:\n- {id: gateway, driver: ocpp, charge_point_id: a}", "4:8", "can be called `gateway`"),
        ("devices:\n- {id: station-5, driver: ocpp, charge_point_id: a}", "4:8", "can be called `station-5`"),
        (
            'rules:\n- {id: r, when: "a.b > 1", then: [{station: "*", limit_a: 11000}]}',
            "4:59",
            "must be at most 10000, not 11000",
        ),
        (
            'alarms:\n- {id: r, when: "a.b > 1", then: [{station: "*", limit_a: 11000}]}',
            "4:59",
            "must be at most 10000, not 11000",
        ),
        (
            'schedules:\n- {id: r, every_s: 60, then: [{station: "*", limit_a: 11000}]}',
            "4:55",
            "must be at most 10000, not 11000",
        ),
        (
            "devices:\n- {id: a, driver: ocpp, charge_point_id: x}\n- {id: b, driver: ocpp, charge_point_id: x}",
            "5:42",
            "same charge_point_id",
        ),
        ("load_management: {meter: grid}", "3:18", "needs the limit"),
        ("insight: {grid: nobody}", "3:17", "insight names `nobody`"),
        ('alarms:\n- {id: hot, when: "a.b > 1", notify: [ops]}', "4:38", "tells `ops`"),
        ('alarms:\n- {id: hot, when: "a.b > 1"}\n- {id: hot, when: "a.b > 2"}', "5:8", "are called `hot`"),
        ("stations:\n- {station: cp1}\n- {station: cp1}", "5:13", "`cp1` has an entry here already"),
        (
            "load_management:\n  meter: a\n  stations:\n  - {station: cp1}\n  - {station: cp1, max_a: 16}",
            "7:15",
            "`cp1` has an entry here already",
        ),
        (
            "load_management: {meter: a, stations: [{station: cp1, phases: [1, 1]}]}",
            "3:63",
            "a phase stands here twice",
        ),
    ],
)
def test_what_two_sections_say_together_is_found_at_one_of_them(
    tmp_path: Path, more: str, place: str, words: str
) -> None:
    _, (problem,) = read(tmp_path, f"data_dir: /tmp\nsite: {{id: depot-7}}\n{more}\n")
    assert problem.startswith(f"site.yaml:{place}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("more", "place", "words"),
    [
        ("schedules:\n- {id: a, every_s: .inf, then: [{station: cp1, set: on}]}", "4:20", "must be a finite number"),
        ("schedules:\n- {id: a, every_s: 1e300, then: [{station: cp1, set: on}]}", "4:20", "must be at most"),
        ('schedules:\n- {id: a, cron: "0 25 * * *", then: [{station: cp1, set: on}]}', "4:17", "maximum value (23)"),
        ('schedules:\n- {id: a, cron: "0 22 * *", then: [{station: cp1, set: on}]}', "4:17", "it has 4 fields"),
        ("schedules:\n- {id: a, every_s: 5, then: [{station: cp1, set: of}]}", "4:50", "did you mean `off`?"),
        ('alarms:\n- {id: hot, when: "a.b >"}', "4:19", "`when`: something is missing at the end"),
        ('alarms:\n- {id: hot, when: "a.b > 1", clear: "< x"}', "4:37", "`clear`: `x` is no signal"),
        ('alarms:\n- {id: hot, when: "a.b > 1", hold_s: .inf}', "4:38", "must be a finite number"),
        ('alarms:\n- {id: hot, when: "a.b > 1", hold_s: 1e15}', "4:38", "must be at most"),
    ],
)
def test_no_time_is_without_end_and_no_line_is_nonsense(tmp_path: Path, more: str, place: str, words: str) -> None:
    config, (problem,) = read(tmp_path, f"data_dir: /tmp\nsite: {{id: depot-7}}\n{more}\n")
    assert config is None
    assert problem.startswith(f"site.yaml:{place}: ")
    assert words in problem


def test_the_environment_overrides_scalars(tmp_path: Path) -> None:
    config, problems = read(
        tmp_path, GOOD, ENLACE_DATA_DIR="/srv/x", ENLACE_UPLINK_KEEPALIVE_S="45", ENLACE_STORE_COMMIT_S="2.5"
    )
    assert not problems
    assert config is not None
    assert config.data_dir == Path("/srv/x")
    assert config.uplink is not None
    assert config.uplink.keepalive_s == 45
    assert config.store.commit_s == 2.5


def test_the_environment_is_checked_like_the_file(tmp_path: Path) -> None:
    config, problems = read(tmp_path, GOOD, ENLACE_BROKER="x", ENLACE_UPLINK_KEEPALIVE_S="soon", PATH="/bin")
    assert config is None
    assert any("ENLACE_BROKER overrides no key" in problem for problem in problems)
    assert any("ENLACE_UPLINK_KEEPALIVE_S" in problem for problem in problems)


def test_each_variable_names_one_key() -> None:
    names = env_names()
    assert names["ENLACE_UPLINK_BROKER"] == ("uplink", "broker")
    assert len(set(names.values())) == len(names)
    assert not [path for path in names.values() if path[0] == "devices"]


def test_no_variable_overrides_a_key_of_a_list() -> None:
    """Commanders were a list where all others are tuples: two variables were documented that could not work."""
    models = [Section]
    for model in models:
        models += [one for one in model.__subclasses__() if one.__module__.startswith("agent.")]  # not of other tests
        for name, field in model.model_fields.items():
            assert "list[" not in str(field.annotation), f"{model.__name__}.{name}"


def test_dotenv_lines(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert dotenv(path) == {}
    path.write_text("# comment\nENLACE_SITE_ID='a b'\n\nnonsense\nX = 1\n")
    assert dotenv(path) == {"ENLACE_SITE_ID": "a b", "X": "1"}
    path.write_bytes("\N{BYTE ORDER MARK}export ENLACE_SITE_NAME=Caf\xe9\r\n".encode())
    assert dotenv(path) == {"ENLACE_SITE_NAME": "Caf\xe9"}


def test_a_dotenv_that_can_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.yaml").write_text(GOOD)
    (tmp_path / ".env").write_bytes(b"ENLACE_SITE_NAME=Caf\xe9\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"read \.env: \.env:1:21: byte 0xE9 is no UTF-8"):
        load_config(tmp_path / "site.yaml")
    assert place_of(tmp_path / "site.yaml", None, tmp_path).config is not None  # for the doctor it is one finding


def test_the_token_of_another_command_is_no_override(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD, ENLACE_TOKEN="enl_x")[1] == []  # noqa: S106 - no secret


@pytest.mark.parametrize("address", ["[::1]:8080", "10.0.0.1:0", "localhost:65535"])
def test_addresses(address: str) -> None:
    host, port = split_address(address)
    assert host in {"::1", "10.0.0.1", "localhost"}
    assert 0 <= port <= 65535


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "none.yaml", {})


def test_load_config_names_every_problem(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("site: {id: 'a b'}\nfoo: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert f"{path}:1:12" in str(caught.value)
    assert f"{path}:2:1" in str(caught.value)


SITE = "site: {id: a}\ndevices:\n"


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("{id: a, driver: modbus, profile: x, url: 10.0.0.1}", "this is no Modbus wire; write tcp://10.0.0.21:502"),
        ("{id: a, driver: modbus, profile: x, url: 'tcp://10.0.0.1?unit=1'}", "this is no Modbus wire"),
        ("{id: a, driver: modbus, profile: x, url: 'rtu:///dev/ttyS0?parity=X'}", "parity=X; write one of N, E, O"),
        ("{id: a, driver: modbus, profile: x, url: 'rtu:///dev/ttyS0?speed=9600'}", "`speed` is unknown"),
        ("{id: a, driver: modbus, url: 'tcp://10.0.0.1'}", "`profile` is missing here"),
        ("{id: a, driver: modbus, profile: x, url: 'tcp://10.0.0.1', unit_id: 256}", "must be at most 255"),
        (
            "{id: a, driver: serial_meter, protocol: dsmr, port: ttyUSB0}",
            "`ttyUSB0` is no port; write /dev/serial/by-id",
        ),
        ("{id: a, driver: serial_meter, protocol: smart, port: /dev/ttyS0}", "must be one of dsmr, sml, d0, mbus"),
        ("{id: a, driver: serial_meter, protocol: sml, port: /dev/ttyS0, every_s: 5}", "is for meters that are asked"),
        ("{id: a, driver: serial_meter, protocol: mbus, port: /dev/ttyS0, every_s: 1e308}", "must be at most 86400"),
        ('{id: a, driver: modbus, profile: p, url: "tcp://a:502", every_s: 1e308}', "must be at most 86400"),
        ('{id: a, driver: modbus, profile: p, url: "tcp://a:502", timeout_s: 1e308}', "must be at most 60"),
        ("{id: a, driver: serial_meter, protocol: mbus, port: /dev/ttyS0}", "`address:` is missing"),
        ("{id: a, driver: serial_meter, protocol: mbus, port: /dev/ttyS0, address: '251'}", "is no M-Bus address"),
        ("{id: a, driver: serial_meter, protocol: mbus, port: /dev/ttyS0, address: 251}", "is no M-Bus address"),
        ("{id: a, driver: serial_meter, protocol: mbus, port: /dev/ttyS0, address: 12345678}", "put it into quotes"),
        ("{id: a, driver: modubs, profile: x}", "did you mean `modbus`?"),
    ],
)
def test_a_device_that_can_not_be_is_refused_with_what_to_write(tmp_path: Path, device: str, complaint: str) -> None:
    config, problems = read(tmp_path, f"{SITE}  - {device}\n")
    assert config is None
    assert len(problems) == 1
    assert problems[0].startswith("site.yaml:3:")
    assert complaint in problems[0]


@pytest.mark.parametrize("written", ["5", "'5'"])
def test_a_primary_address_may_be_written_without_quotes(tmp_path: Path, written: str) -> None:
    device = f"{{id: a, driver: serial_meter, protocol: mbus, port: /dev/ttyS0, address: {written}}}"
    config, problems = read(tmp_path, f"{SITE}  - {device}\n")
    assert not problems
    assert config is not None
    (meter,) = config.devices
    assert isinstance(meter, SerialMeterDevice)
    assert meter.settings().address == "5"


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0:8080", "https://127.0.0.1:8080"),
        ("[::]:443", "https://[::1]:443"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("192.168.1.5:0", "https://192.168.1.5:0"),
    ],
)
def test_this_machine_knows_its_own_door(listen: str, url: str) -> None:
    assert Api.model_validate({"listen": listen}).own_url == url
