"""From configured CAN devices to signals: what becomes of each DBC signal, and every mistake named."""

from dataclasses import fields, replace

import pytest

from agent.api.models import label_of
from agent.core.clock import FakeClock
from agent.core.errors import ConfigError
from agent.core.model import Encoding, Kind, Signal, SignalSpec
from drivers.can.devices import CanDevice, PointMap, resolve
from drivers.can.plan import needs_fd, plan
from drivers.can.socketcan import id_filter, pgn_filter
from drivers.codec.can_j1939 import pgn_of
from drivers.codec.dbc import Dbc, MessageDef, SignalDef

VOLTAGE = SignalDef("Voltage", 0, 16, signed=True, scale=0.01, unit="V")
CURRENT = SignalDef("Current", 16, 16, signed=True, scale=0.1, offset=-5, unit="A")
STATE = SignalDef("State", 32, 4, choices={0: "idle", 1: "run"})
FLAG = SignalDef("Flag", 36, 1)
ALIVE = SignalDef("Alive", 40, 8)
PACK = MessageDef(0x356, extended=False, name="Pack", length=8, signals=(VOLTAGE, CURRENT, STATE, FLAG, ALIVE))
WIDE = MessageDef(
    0x357,
    extended=False,
    name="Wide",
    length=16,
    signals=(SignalDef("Total", 0, 64), SignalDef("Ratio", 64, 32, is_float=True)),
    fd=True,
)
DBC = Dbc("pack.dbc", (PACK, WIDE))
J1939 = Dbc(
    "j.dbc",
    (MessageDef(0x18FEF1FE, extended=True, name="Pgn", length=8, signals=(VOLTAGE,), j1939=True),),
)


def _device(**changes: object) -> CanDevice:
    return replace(CanDevice("battery1", "can0", (DBC,)), **changes)  # type: ignore[arg-type]


def test_unmapped_signals_keep_the_names_and_meaning_of_the_dbc() -> None:
    specs = {spec.name: spec for spec in plan([_device()]).specs}
    assert list(specs) == [
        "Pack.Voltage",
        "Pack.Current",
        "Pack.State",
        "Pack.Flag",
        "Pack.Alive",
        "Wide.Total",
        "Wide.Ratio",
    ]
    assert specs["Pack.Current"].physical(100) == pytest.approx(5.0)
    assert specs["Pack.Voltage"].unit == "V"
    assert specs["Pack.State"].kind is Kind.STATE
    assert specs["Pack.State"].labels == {0: "idle", 1: "run"}
    assert specs["Pack.Flag"].kind is Kind.STATE
    assert specs["Pack.Voltage"].kind is Kind.GAUGE
    assert specs["Wide.Total"].encoding is Encoding.UINT
    assert specs["Wide.Ratio"].encoding is Encoding.FLOAT
    assert specs["Pack.Voltage"].encoding is Encoding.INT
    assert specs["Pack.Voltage"].source == "0x356 Pack.Voltage"


def test_a_mapped_signal_has_the_point_s_unit_and_kind_and_both_scales() -> None:
    rows = (PointMap("current_a", "Pack.Current", scale=-1, offset=2), PointMap("alive_counter", "Pack.Alive"))
    current, alive = plan([_device(points=rows, keep_unmapped=False)]).specs
    assert (current.device, current.name, current.unit, current.kind) == ("battery1", "current_a", "A", Kind.GAUGE)
    assert current.physical(100) == pytest.approx(-(100 * 0.1 - 5) + 2)
    assert alive.kind is Kind.STATE


def test_sentinels_of_signed_signals_may_be_written_as_bits() -> None:
    highest = 0xFFFF_FFFF_FFFF_FFFF
    rows = (
        PointMap("voltage_v", "Pack.Voltage", missing=((0xFFFF, 0xFFFF), (0x7F00, 0x7FFF))),
        PointMap("soc_pct", "Wide.Total", missing=((highest, highest),)),
    )
    planned = resolve(_device(points=rows, keep_unmapped=False))
    assert [item.missing for item in planned.wanted] == [((-1, -1), (0x7F00, 0x7FFF)), ((-1, -1),)]


def test_alive_counters_are_read_even_where_nothing_maps_them() -> None:
    planned = resolve(
        _device(points=(PointMap("voltage_v", "Pack.Voltage"),), keep_unmapped=False, alive=("Pack.Alive",))
    )
    assert [item.spec.name for item in planned.wanted] == ["voltage_v", "Pack.Alive"]
    assert planned.alive == (1,)


def test_only_messages_that_are_read_are_listened_to() -> None:
    planned = resolve(_device(points=(PointMap("voltage_v", "Pack.Voltage"),), keep_unmapped=False))
    assert [message.name for message in planned.messages] == ["Pack"]
    assert list(planned.filters()) == [id_filter(0x356, extended=False)]
    assert not needs_fd([planned])
    assert needs_fd([resolve(_device())])


def test_j1939_messages_are_filtered_by_group_and_source() -> None:
    planned = resolve(_device(dbc=(J1939,), source_address=0xF3))
    assert list(planned.filters()) == [pgn_filter(0x18FEF1FE, 0xF3)]


def test_a_later_dbc_replaces_equal_identifiers_and_equal_names_stay_apart() -> None:
    newer = Dbc("new.dbc", (replace(PACK, signals=(VOLTAGE,)), replace(PACK, frame_id=0x400, signals=(FLAG,))))
    names = [spec.name for spec in plan([_device(dbc=(DBC, newer))]).specs]
    assert names == ["Pack_356.Voltage", "Wide.Total", "Wide.Ratio", "Pack_400.Flag"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"points": (PointMap("voltage", "Pack.Voltage"),)}, ["battery1", "point voltage", "vocabulary"]),
        ({"points": (PointMap("cell_voltage_v", "Pack.Voltage"),)}, ["cell_voltage_v", "name.1"]),
        ({"points": (PointMap("voltage_v", "Pack.Volts"),)}, ["battery1", "voltage_v", "'Pack.Volts'"]),
        ({"points": (PointMap("voltage_v", "pack.voltage"),)}, ["write one of: Pack.Voltage"]),
        ({"points": (PointMap("voltage_v", "Pck.Voltage"),)}, ["write one of: Pack.Voltage"]),
        ({"alive": ("Pack.Counter",)}, ["battery1", "alive", "'Pack.Counter'"]),
        (
            {"points": (PointMap("voltage_v", "Pack.Voltage"), PointMap("voltage_v", "Pack.Current"))},
            ["voltage_v is mapped twice", "Pack.Current"],
        ),
        (
            {"points": (PointMap("voltage_v", "Pack.Voltage"), PointMap("voltage_l1_v", "Pack.Voltage"))},
            ["voltage_l1_v", "Pack.Voltage is mapped to voltage_v already"],
        ),
        ({"keep_unmapped": False}, ["battery1", "nothing", "keep_unmapped: true"]),
        ({"dbc": ()}, ["battery1", "nothing"]),
    ],
)
def test_mistakes_name_device_and_point_and_say_what_to_write(change: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan([_device(**change)])
    for part in parts:
        assert part in str(caught.value)


def test_a_range_of_sentinels_over_the_sign_bit_is_no_range_over_all_values() -> None:
    points = (
        PointMap("voltage_v", "Pack.Voltage", missing=((0x7FFE, 0x8001), (-3, -2))),
        PointMap("soc_pct", "Wide.Total", missing=(((1 << 63) - 1, (1 << 63) + 1),)),
    )
    planned = resolve(_device(points=points, keep_unmapped=False))
    least = -(1 << 63)
    assert [item.missing for item in planned.wanted] == [
        ((0x7FFE, 0x7FFF), (-0x8000, -0x7FFF), (-3, -2)),
        (((1 << 63) - 1, (1 << 63) - 1), (least, least + 1)),
    ]


def test_names_of_a_scaled_choice_are_names_of_its_values() -> None:
    """Of a mapped alarm that is 0, the name of the raw value 0 was told: not supported, and it is ok."""
    alarm = SignalDef("Alarm", 0, 2, choices={0: "not supported", 1: "active", 2: "ok"})
    level = SignalDef("Level", 8, 8, scale=0.5, offset=-40, unit="degC", choices={255: "no sensor", 254: "error"})
    message = MessageDef(0x35A, extended=False, name="Alarms", length=8, signals=(alarm, level))
    turned = PointMap("fault", "Alarms.Alarm", scale=-1, offset=2, missing=((0, 0),))
    specs = {spec.name: spec for spec in plan([_device(dbc=(Dbc("a.dbc", (message,)),), points=(turned,))]).specs}
    assert specs["fault"].physical(2) == 0
    assert specs["fault"].labels == {0: "ok", 1: "active", 2: "not supported"}
    assert specs["Alarms.Level"].physical(254) == 87
    assert specs["Alarms.Level"].labels == {87: "error"}
    named = Signal(**{field.name: getattr(specs["fault"], field.name) for field in fields(SignalSpec)}, id=1)
    assert [label_of(named, value) for value in (0, 1.0, 0.5, float("nan"), None)] == ["ok", "active", None, None, None]


def test_two_devices_cannot_claim_one_identifier_on_one_wire() -> None:
    with pytest.raises(ConfigError, match="0x356 Pack on can0 is also claimed by device battery1"):
        plan([_device(), _device(id="battery2")])
    assert len(plan([_device(), _device(id="battery2", channel="can1")]).wires) == 2


@pytest.mark.parametrize(("addresses", "fits"), [((1, 2), True), ((1, 1), False), ((1, None), False)])
def test_j1939_devices_are_told_apart_by_source_address(addresses: tuple[int | None, ...], *, fits: bool) -> None:
    devices = [
        _device(id=f"battery{index}", dbc=(J1939,), source_address=address) for index, address in enumerate(addresses)
    ]
    if fits:
        assert len(plan(devices).wires) == 1
    else:
        with pytest.raises(ConfigError, match="source_address"):
            plan(devices)


def test_a_plain_identifier_inside_a_claimed_group_is_a_conflict() -> None:
    exact = Dbc("exact.dbc", (MessageDef(0x18FEF105, extended=True, name="Exact", length=8, signals=(VOLTAGE,)),))
    with pytest.raises(ConfigError, match="Exact"):
        plan([_device(dbc=(J1939,)), _device(id="other", dbc=(exact,))])
    plan([_device(dbc=(J1939,), source_address=4), _device(id="other", dbc=(exact,))])


def test_claims_of_large_packs_are_looked_up_not_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packs of 5,000 messages each took ten seconds."""
    looked = 0

    def counted(frame_id: int) -> int:
        nonlocal looked
        looked += 1
        return pgn_of(frame_id)

    def looked_up(messages: int) -> int:
        nonlocal looked
        looked = 0
        ids = [0x18F000FE | index << 8 for index in range(messages)]
        groups = tuple(MessageDef(id_, True, f"M{id_:X}", 8, (VOLTAGE,), j1939=True) for id_ in ids)
        plan([_device(id=f"p{address}", dbc=(Dbc("p.dbc", groups),), source_address=address) for address in (1, 2)])
        return looked

    monkeypatch.setattr("drivers.can.devices.pgn_of", counted)
    assert looked_up(200) <= 3 * looked_up(100)


@pytest.mark.parametrize("change", [{"bitrate": 250_000}, {"options": {"port": 2}}])
def test_devices_on_one_wire_must_agree_about_it(change: dict[str, object]) -> None:
    first = _device(bitrate=500_000, options={"port": 1})
    with pytest.raises(ConfigError, match="battery1"):
        plan([first, _device(id="other", dbc=(J1939,), **change)])


def test_one_listener_for_each_wire_with_all_its_devices() -> None:
    devices = [
        _device(),
        _device(id="other", dbc=(J1939,)),
        _device(id="third", channel="239.74.163.9", interface="udp_multicast"),
    ]
    planned = plan(devices)
    ids = {(spec.device, spec.name): number for number, spec in enumerate(planned.specs, 1)}
    listeners = planned.listeners(ids, FakeClock())
    assert [(listener.name, tuple(listener.devices)) for listener in listeners] == [
        ("socketcan:can0", ("battery1", "other")),
        ("udp_multicast:239.74.163.9", ("third",)),
    ]


def test_no_devices_are_no_wires() -> None:
    assert plan([]).specs == []
    assert plan([]).listeners({}, FakeClock()) == []
