"""``enlace rehearse``: alarms and rules over stored history or a recording. Nothing is written, no device is opened."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from agent.cli.audit import time_us
from agent.cli.output import BATCH_LINES, Progress, write_out
from agent.core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from agent.config import Config
    from agent.control.alarm_model import RuleSpec
    from agent.control.rehearsal import Summary
    from agent.control.stations import Target
    from agent.core.model import Event, Signal
    from agent.store.recording import Recording

#: So much before the beginning is run through without a word, so that it begins as it stood then: a value that does not
#: change is stored once in ``report.max_interval_s``, a minute unless that is configured otherwise.
WARM_UP_US = 3_600_000_000
_ON_OFF = "charging_enabled"
_LIMIT = "current_limit_a"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("rehearse", help="what alarms and rules would have told and done, over history")
    parser.add_argument("--config", type=Path, metavar="F", help="the configuration, as it is or as you think of it")
    parser.add_argument("--rule", type=Path, metavar="F", help="only the `alarms:` and `rules:` of this YAML file")
    parser.add_argument("--from", dest="from_us", type=time_us, metavar="ISO", help="from this time on")
    parser.add_argument("--to", dest="to_us", type=time_us, metavar="ISO", help="before this time")
    parser.add_argument("--log", type=Path, metavar="LOG", help="over a CAN log instead, read through the CAN devices")
    parser.add_argument("--data-dir", type=Path, metavar="D", help="where enlace.db is instead")
    parser.add_argument("--format", choices=("text", "jsonl"), default="text", help="default: text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Rehearse. Raises ``ConfigError`` for what can't be rehearsed, ``StoreError`` for a store that can't be read."""
    from agent.config import load_config  # noqa: PLC0415
    from agent.store.recording import open_recording  # noqa: PLC0415
    from agent.store.settings import DATABASE  # noqa: PLC0415 - see the package's docstring

    config = load_config(arguments.config)
    base = arguments.config.resolve().parent
    folder: Path = arguments.data_dir or config.data_dir
    with ExitStack() as stack:
        if arguments.log:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="enlace-rehearse-")))
            end_us = _record(config, arguments, folder)
        recording = stack.enter_context(open_recording(folder / DATABASE))
        span = _span(recording, arguments)
        if arguments.log and recording.span_us is not None and recording.span_us[0] < end_us:
            span = span[0], min(span[1], end_us)
        show = _show_json if arguments.format == "jsonl" else _show_text
        lines = _rehearse(config, base, recording, span, arguments, show)
        write_out(lines, "the rehearsal", lambda: None, 1 if sys.stdout.isatty() else BATCH_LINES)
        if recording.damaged:
            print(f"blocks that can't be read, left out: {recording.damaged}", file=sys.stderr)
    return 0


def _record(config: "Config", arguments: argparse.Namespace, folder: Path) -> int:
    """Decode the log into a store in that folder. The time before which the log's own rows lie, in µs.

    What comes later the pipeline has said of itself: that nobody is heard any more.
    """
    from agent.cli.replay import record  # noqa: PLC0415 - see the package's docstring
    from agent.core.clock import SystemClock  # noqa: PLC0415

    now_us = SystemClock().now_us()
    alone = config.model_copy(update={"data_dir": folder, "uplink": None})
    record(alone, arguments.config.resolve(), arguments.log)
    return now_us


def _span(recording: "Recording", arguments: argparse.Namespace) -> tuple[int, int]:
    """From when and up to when. Raises ``StoreError`` where there is nothing."""
    if recording.span_us is None:
        raise StoreError("rehearse", "there are no readings", "let the gateway run for a while, or name a --log")
    first_us, last_us = recording.span_us
    from_us = max(first_us, arguments.from_us or first_us)
    if recording.raw_from_us > from_us:
        from_us = recording.raw_from_us
        text = f"before {_iso(from_us)} only averages and extremes are left: they can't be rehearsed over"
        print(text, file=sys.stderr)
    to_us = min(last_us + 1, arguments.to_us or last_us + 1)
    if from_us >= to_us:
        reason = f"there are no readings in that time: they go from {_iso(first_us)} to {_iso(last_us)}"
        raise StoreError("rehearse", reason, "choose --from and --to within")
    return from_us, to_us


def _specs(config: "Config", base: Path, rules: Path | None, signals: Sequence["Signal"]) -> list["RuleSpec"]:
    from pydantic import model_validator  # noqa: PLC0415 - see the package's docstring

    from agent.config import watched_once  # noqa: PLC0415
    from agent.config_control import Alarm, Rule  # noqa: PLC0415
    from agent.watching import alarm_sets, rule_specs  # noqa: PLC0415
    from agent.yamlfile import Section, load_yaml  # noqa: PLC0415

    class RuleFile(Section):
        alarms: tuple[Alarm, ...] = ()
        rules: tuple[Rule, ...] = ()

        @model_validator(mode="after")
        def _unique_ids(self) -> "RuleFile":
            watched_once(self.alarms, self.rules)
            return self

    if rules is not None:
        found = load_yaml(rules, RuleFile)
        config = config.model_copy(update={"alarms": found.alarms, "rules": found.rules, "alarm_sets": ()})
    configured = {device.id for device in config.devices}
    specs = rule_specs(config, [one for one in signals if one.device in configured], alarm_sets(base))
    if not specs:
        where = rules or "the configuration"
        raise ConfigError(
            "rehearse", f"there is neither an alarm nor a rule in {where}", "write one, see docs/alarms.md"
        )
    return specs


def _targets(config: "Config", base: Path) -> list["Target"]:
    """The stations of the configuration, of whose devices only the settings count: none is opened."""
    from agent.acting import targets  # noqa: PLC0415 - see the package's docstring
    from agent.config import OcppDevice  # noqa: PLC0415
    from agent.control.rehearsal import ObedientDevice  # noqa: PLC0415
    from agent.core.clock import SystemClock  # noqa: PLC0415
    from agent.core.ports import Setting  # noqa: PLC0415
    from agent.devices import Preparer, plan_all  # noqa: PLC0415

    def charger(device: "OcppDevice") -> ObedientDevice:
        several = [f".{number}" for number in range(1, device.connectors + 1)] if device.connectors > 1 else []
        limit = (device.min_current_a, device.max_current_a)
        settings = {}
        for suffix in ("", *several):
            settings[_LIMIT + suffix] = Setting(device.id, _LIMIT + suffix, "A", *limit, zero=True)
            settings[_ON_OFF + suffix] = Setting(device.id, _ON_OFF + suffix, "", 0, 1)
        return ObedientDevice(settings)

    wired = [device for device in config.devices if not isinstance(device, OcppDevice)]
    plans = plan_all(Preparer(base).all(wired))
    numbers = {(spec.device, spec.name): number for number, spec in enumerate(plans.specs, 1)}
    listeners = [listener for listener, _ in plans.wires(numbers, SystemClock())]
    chargers = {device.id: charger(device) for device in config.devices if isinstance(device, OcppDevice)}
    return targets(config, [*listeners, _Chargers(chargers)])


class _Chargers:
    """The chargers on OCPP as a ``Listener`` that nobody runs."""

    name = "ocpp"
    max_retry_s = 1.0

    def __init__(self, commandables: Mapping[str, object]) -> None:
        self.commandables = commandables
        self.devices = list(commandables)

    async def run(self, sink: object) -> None:
        """Nobody does."""


def _rehearse(
    config: "Config",
    base: Path,
    recording: "Recording",
    span: tuple[int, int],
    arguments: argparse.Namespace,
    show: Callable[["Event | Summary", tzinfo], Iterator[str]],
) -> Iterator[str]:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - see the package's docstring

    from agent.control.rehearsal import Rehearsal, newest  # noqa: PLC0415

    (from_us, to_us), zone = span, ZoneInfo(config.site.timezone)
    specs = _specs(config, base, arguments.rule, newest(recording.catalogue))
    stations = _targets(config, base)
    told: list[Event] = []
    first_us = max(recording.raw_from_us, recording.span_us[0] if recording.span_us else from_us)
    start_us = max(from_us - WARM_UP_US, first_us)
    rehearsal = Rehearsal(
        specs, recording.catalogue, stations, zone, start_us, told.append, every=arguments.log is not None
    )
    with asyncio.Runner() as runner, Progress("", quiet=True, alone=True) as progress:
        _warn(specs, stations, runner.run(rehearsal.open()))
        for part_from_us, part_to_us in ((start_us, from_us), (from_us, to_us)):
            for piece in recording.pieces(rehearsal.signal_ids, part_from_us, part_to_us):
                runner.run(rehearsal.piece(piece))
                progress.tell("rehearsed", int(piece.rows.times_us[-1]) - start_us, to_us - start_us)
                yield from _shown(told, show, zone)
            if part_to_us == from_us:
                runner.run(rehearsal.begin(from_us))
        summary = runner.run(rehearsal.close(to_us))
        progress.tell("rehearsed", to_us - start_us, to_us - start_us)
    yield from _shown(told, show, zone)
    yield from show(summary, zone)


def _warn(specs: Sequence["RuleSpec"], stations: Sequence["Target"], nobody: Sequence[str]) -> None:
    """What is named and is not there."""
    from agent.control.alarm_model import ALL  # noqa: PLC0415 - see the package's docstring

    if nobody:
        print(f"nobody has, or had: {', '.join(nobody)}", file=sys.stderr)
    known = {ALL, *(one.id for one in stations)}
    strange = sorted({act.station for spec in specs for act in spec.acts} - known)
    if strange:
        print(f"no stations of the configuration, nothing is done with them: {', '.join(strange)}", file=sys.stderr)


def _shown(
    told: list["Event"], show: Callable[["Event | Summary", tzinfo], Iterator[str]], zone: tzinfo
) -> Iterator[str]:
    events = told.copy()
    told.clear()
    for event in events:
        yield from show(event, zone)


# -- text


def _show_text(one: "Event | Summary", zone: tzinfo) -> Iterator[str]:
    from agent.core.model import Event  # noqa: PLC0415 - see the package's docstring

    if isinstance(one, Event):
        time = datetime.fromtimestamp(one.t_us / 1e6, zone).strftime("%Y-%m-%d %H:%M:%S")
        yield f"{time}  {_words(one)}\n"
        return
    yield f"-- over {_length(one.seconds)} of history, {one.instants} moments with readings that say something new\n"
    for name, rule in one.rules.items():
        still = ", and still at the end" if rule.active else ""
        times = "once" if rule.raised == 1 else f"{rule.raised} times"
        yield f"{name}: raised {times}, active for {_length(rule.active_s)}{still}\n"
    for name, station in one.stations.items():
        if not station.switched_off and not station.off_s:
            continue
        still = ", and still at the end" if station.off else ""
        energy = station.not_delivered_wh
        lost = "its power is not known" if energy is None else f"it drew {energy / 1000:.3f} kWh meanwhile"
        yield f"station {name}: off for {_length(station.off_s)}{still}; {lost}\n"


def _words(event: "Event") -> str:
    """What an event says, for people."""
    from agent.control.rehearsal import ORDER  # noqa: PLC0415 - see the package's docstring

    data, (family, _, word) = event.data, event.kind.partition(".")
    if word == "not_done":
        return f"{family} {event.subject} not done: {data['action']} of {data['station']}: {data['reason']}"
    if family in {"alarm", "rule"}:
        severity = f" ({data['severity']})" if data.get("severity") else ""
        acts = data.get("done") or data.get("would")
        does = f"; {'would do' if data.get('shadow') else 'does'}: {', '.join(acts)}" if isinstance(acts, list) else ""
        left_out = f"; {data['left_out']} changes in between" if data.get("left_out") else ""
        return f"{family} {event.subject} {word}{severity}: {data.get('why')}{does}{left_out}"
    if event.kind == ORDER:
        return f"station {event.subject}: {data['action']} is ordered by {data['by']}"
    if event.kind == "station.decided":
        return f"station {event.subject}: {data['reason']} -> {data['result']}"
    return f"{event.kind} {event.subject}: {json.dumps(dict(data), ensure_ascii=False)}"


def _length(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


# -- JSON lines


def _show_json(one: "Event | Summary", zone: tzinfo) -> Iterator[str]:
    from dataclasses import asdict  # noqa: PLC0415 - see the package's docstring

    from agent.core.model import Event  # noqa: PLC0415

    del zone  # machines read UTC
    if isinstance(one, Event):
        document = {"time": _iso(one.t_us), "kind": one.kind, "subject": one.subject, "data": dict(one.data)}
    else:
        document = {"summary": asdict(one)}
    yield json.dumps(document, ensure_ascii=False) + "\n"


def _iso(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
