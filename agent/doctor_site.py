"""What a bundle for support tells of a site without asking its gateway: from its configuration and its store."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agent import doctor_machine as machine
from agent.api.times import iso
from agent.backup import named_files
from agent.config import ENV_PREFIX, OWN_DEVICE, Config, dotenv, read_config
from agent.config_ocpp import OcppSection
from agent.control import notes
from agent.control.alarm_notes import ALARM
from agent.core.clock import Clock
from agent.core.errors import AgentError
from agent.doctor import Finding, Section
from agent.doctor_redact import ConfigText, Scalar
from agent.findings import findings, found_in
from agent.store.evidence import standing
from agent.store.look import Newest, StoreLook, open_look
from agent.store.settings import DATABASE
from agent.yamlfile import read_text
from agent.yamltree import Tree, parse_tree

EVENTS, BOOTS, DROPPED = 2000, 200, 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a site stands. ``config`` is None where the file can't be used; ``data_dir`` is then the best guess."""

    path: Path
    data_dir: Path
    config: Config | None
    environ: Mapping[str, str]

    @property
    def database(self) -> Path:
        """The store's file."""
        return self.data_dir / DATABASE


def place_of(path: Path, data_dir: Path | None, default: Path) -> Place:
    """The site of that configuration, also of a broken one. ``data_dir`` wins over what stands in it."""
    environ = dict(os.environ)
    with suppress(AgentError):  # one that can't be read is among the findings
        environ = dotenv(Path(".env")) | environ
    config: Config | None = None
    with suppress(AgentError):
        config = read_config(path, environ).config
    if config is not None:
        return Place(path.absolute(), (data_dir or config.data_dir).absolute(), config, environ)
    tree = tree_of(path)
    written = tree.data.get("data_dir") if tree is not None and isinstance(tree.data, dict) else None
    found = data_dir or (Path(written) if isinstance(written, str) else default)
    return Place(path.absolute(), found.absolute(), None, environ)


def is_running(place: Place, locks: Path = Path("/proc/locks")) -> bool:
    """Whether a gateway holds that site's store. Looks at the kernel's list: trying the lock might stop its start."""
    try:
        status = place.database.with_name(f"{DATABASE}.lock").stat()
        lines = locks.read_text().splitlines()
    except OSError:
        return False
    mine = f":{status.st_ino}"
    return any(" FLOCK " in line and " WRITE " in line and line.split()[-3].endswith(mine) for line in lines)


def tree_of(path: Path) -> Tree | None:
    """A YAML file as it is written; None where it is none, or can't be read."""
    try:
        found = parse_tree(read_text(path), str(path))
    except AgentError:
        return None
    return found if isinstance(found, Tree) else None


# -- sections


def site_sections(place: Place, clock: Clock) -> list[Section]:
    """What configuration, store and machine tell. A running gateway's own word takes the place of some of them."""

    def looked(look: Callable[[StoreLook], T]) -> Callable[[], T]:
        def make() -> T:
            with open_look(place.database) as store:
                return look(store)

        return make

    folders = {"data_dir": place.data_dir, "configuration": place.path.parent, "temporary": Path("/tmp")}  # noqa: S108 - its disk
    return [
        Section("config/site.yaml", lambda: config_text(place.path)),
        Section(
            "config/check.txt", lambda: "\n".join(f"{severity}: {text}" for severity, text in findings(place.path))
        ),
        Section("config/environment.txt", lambda: "\n".join(_own_variables(place))),
        Section("config/files.json", lambda: _named_files(place)),
        Section("gateway/devices.json", looked(lambda store: devices(place, store))),
        Section("gateway/signals.json", looked(lambda store: _newest(store.newest(), clock))),
        Section("gateway/alarms.json", looked(lambda store: store.notes(ALARM))),
        Section("gateway/stations.json", looked(_stations)),
        Section("gateway/log.txt", machine.journal),
        Section("gateway/service.txt", machine.service),
        Section("store/figures.json", looked(lambda store: store.figures())),
        Section("store/backlog.json", looked(lambda store: store.backlog())),
        Section("store/boots.json", looked(lambda store: store.boots(BOOTS))),
        Section("store/wear.json", looked(lambda store: _wear(store, clock))),
        Section("store/dropped.json", looked(lambda store: store.dropped(DROPPED))),
        Section("store/sessions.json", looked(lambda store: store.sessions())),
        Section("store/ledger.json", looked(_events)),
        Section("machine/versions.json", machine.versions),
        Section("machine/system.json", machine.system),
        Section("machine/memory.txt", machine.memory),
        Section("machine/disks.json", lambda: machine.disks(folders)),
        Section("machine/clock.json", lambda: machine.clock(clock)),
        Section("machine/network.json", machine.network),
        Section("machine/can.txt", machine.can),
        Section("machine/serial.json", machine.serial_ports),
        Section("machine/usb.json", machine.usb),
    ]


def config_text(path: Path) -> ConfigText | str:
    """A configuration with the place of each key and value. One that is no YAML is not shown."""
    text = read_text(path)
    if not isinstance(parse_tree(text, str(path)), Tree):
        return "it is no YAML, so nobody can tell what in it is secret: check.txt says where it goes wrong\n"
    return scalars_of(text)


def scalars_of(text: str) -> ConfigText:
    """A YAML text with the place of each key and value."""
    root = YAML(typ="safe", pure=True).compose(text)
    return ConfigText(text, list(dict.fromkeys(_scalars(root, "", set()))))


def _scalars(node: Node, key: str, seen: set[int]) -> Iterator[Scalar]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, ScalarNode):
        start, end = node.start_mark.index, node.end_mark.index
        if end > start:
            yield Scalar(start, end, str(node.value), key, is_block=node.style in {"|", ">"})
    elif isinstance(node, SequenceNode):
        for one in node.value:
            yield from _scalars(one, key, seen)
    elif isinstance(node, MappingNode):
        for name, one in node.value:
            word = str(name.value) if isinstance(name, ScalarNode) else ""
            if word:
                yield Scalar(name.start_mark.index, name.end_mark.index, word, "", is_key=True)
            yield from _scalars(one, word, seen)


def _own_variables(place: Place) -> list[str]:
    """Those of the environment that concern us, without their values."""
    return sorted(name for name in place.environ if name.startswith(ENV_PREFIX)) or ["none is set"]


def _named_files(place: Place) -> list[dict[str, object]]:
    if place.config is None:
        return []
    found: list[dict[str, object]] = []
    for text, path in named_files(place.config, place.path.parent):
        there = path.exists()
        status = path.stat() if there else None
        found.append(
            {
                "file": text,
                "there": there,
                "readable": os.access(path, os.R_OK),
                "bytes": None if status is None else status.st_size,
                "mode": None if status is None else oct(status.st_mode & 0o777),
            }
        )
    return found


def devices(place: Place, store: StoreLook) -> list[dict[str, object]]:
    """Each configured device, what the ledger said of it last, and its newest reading."""
    last = last_words(store)
    read: dict[str, int] = {}
    for one in store.newest():
        read[one.signal.device] = max(one.t_us, read.get(one.signal.device, 0))
    return [
        {
            "id": device.id,
            "driver": device.driver,
            "last_event": last.get(device.id),
            "last_read": iso(read[device.id]) if device.id in read else None,
        }
        for device in (place.config.devices if place.config else ())
    ]


def last_words(store: StoreLook) -> dict[str, dict[str, object]]:
    """The newest event about each device: whether it is there, and if not, why."""
    last: dict[str, dict[str, object]] = {}
    for event in store.events(EVENTS, "device."):
        if event["kind"] in {"device.online", "device.offline", "device.silent", "device.heard", "device.unsupported"}:
            last.setdefault(str(event["subject"]), _dated(event))
    return last


def _newest(found: Sequence[Newest], clock: Clock) -> list[dict[str, object]]:
    now_us = clock.now_us()
    return [
        {
            "signal": one.signal.full_name,
            "value": one.value,
            "unit": one.signal.unit,
            "time": iso(one.t_us),
            "age_s": round((now_us - one.t_us) / 1e6, 1),
            **({"within_s": one.within_us // 1_000_000} if one.within_us else {}),
        }
        for one in found
    ]


def _stations(store: StoreLook) -> dict[str, object]:
    decided = store.notes(notes.DECISION)
    newest = dict(sorted(decided.items(), key=lambda item: str(item[1].get("t_us")), reverse=True)[:50])
    return {"told": store.notes(notes.STATION), "wishes": store.notes(notes.WISH), "decisions": newest}


def _wear(store: StoreLook, clock: Clock) -> dict[str, object]:
    found = store.wear(clock.now_us())
    since = None if found.since_us is None else iso(found.since_us)
    return {"since": since, "bytes_a_day": found.bytes_a_day, "components": found.day_bytes, "days": found.days}


def _events(store: StoreLook) -> list[dict[str, object]]:
    return [_dated(event) for event in store.events(EVENTS)]


def _dated(event: Mapping[str, object]) -> dict[str, object]:
    time = event["t_us"]
    return {"time": iso(time) if isinstance(time, int) else time, **{k: v for k, v in event.items() if k != "t_us"}}


# -- what is wrong


def check_findings(place: Place, *, running: bool) -> Iterator[Finding]:
    """What ``enlace check`` finds; its hints stand in its words. Of a running gateway its own ports are no news."""
    config = place.config
    mine = [one.listen for one in (config.api, config.ocpp or OcppSection())] if running and config else []
    for severity, problem in found_in(place.path, mine=mine):
        yield Finding(severity, str(replace(problem, hint="")), problem.hint)


def aside_findings(place: Place) -> Iterator[Finding]:
    """Databases that could not be used and stand beside the one that is."""
    newer = (
        "a newer version's, from before it was undone. Ledger, sessions, notes and up to 256 MiB of readings were taken"
        " from it; averages and readings beyond that are in it alone"
    )
    back = (
        "it is not taken back by itself when that version is installed again: docs/durability.md says how to put it in"
        " the place of what was recorded since; or copy it away, then delete it here"
    )
    told = {"newer": (newer, back), "foreign": ("no database of Enlace", "give it back to whom it belongs")}
    usual = ("a damaged one; what could be read was taken from it", "copy it away, then delete it here")
    for kind, path, bytes_ in standing(place.database):
        what, hint = told.get(kind, usual)
        yield Finding("warning", f"{path.name} ({bytes_ / 1e6:.1f} MB) stands aside: {what}", hint)


def stored_findings(place: Place, *, running: bool) -> Iterator[Finding]:
    """What the store knows: devices that were lost, and alarms that stood when it was written last."""
    with open_look(place.database) as store:
        there = {OWN_DEVICE, *(one.id for one in place.config.devices)} if place.config else None
        for device, event in last_words(store).items():
            if there is not None and device not in there:
                continue  # it was taken out since
            kind = str(event["kind"]).removeprefix("device.")
            if kind in {"offline", "silent", "unsupported"} and (running or kind == "unsupported"):
                data = event["data"] if isinstance(event["data"], Mapping) else {}
                why = str(data.get("error") or data.get("reason") or "")
                text = f"{device}: {kind} since {event['time']}" + (f": {why}" if why else "")
                yield Finding("error" if kind == "unsupported" else "warning", text, str(data.get("hint") or ""))
        for name, note in store.notes(ALARM).items():
            if note.get("alarm") and note.get("active"):
                yield Finding("warning", f"alarm {name}: {note.get('why')}")
