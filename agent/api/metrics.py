"""``/metrics`` in the Prometheus text format, version 0.0.4."""

import math
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.api.view import GatewayView
from agent.core.clock import Clock
from agent.core.model import Number
from agent.pipeline.supervisor import Health

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROC = Path("/proc/self")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")
_HELP = {
    "enlace_info": "1, with the version and the boot as labels",
    "enlace_uptime_seconds": "seconds since the API was made",
    "enlace_healthy": "1 when the part is well",
    "enlace_wire_online": "1 when the wire is online",
    "enlace_wire_restarts_total": "restarts of the wire",
    "enlace_wire_last_put_age_seconds": "seconds since the wire delivered anything",
    "enlace_wire_events_total": "what the wire's driver counts, by name",
    "process_resident_memory_bytes": "resident memory",
    "process_open_fds": "open file descriptors",
    "process_threads": "threads",
    "process_cpu_seconds_total": "user and system CPU time",
}

_Labels = tuple[tuple[str, str], ...]
_Sample = tuple[str, _Labels, Number]


def render(view: GatewayView, clock: Clock, started_s: float) -> str:
    """All metrics as text. The samples of one family stand together, as the format asks."""
    families: dict[str, list[tuple[_Labels, Number]]] = defaultdict(list)
    for name, labels, value in _samples(view, clock, started_s):
        families[name].append((labels, value))
    lines: list[str] = []
    for name, samples in families.items():
        if name in _HELP:
            lines.append(f"# HELP {name} {_HELP[name]}")
        lines.append(f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}")
        lines.extend(f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples)
    return "\n".join(lines) + "\n"


def _samples(view: GatewayView, clock: Clock, started_s: float) -> Iterator[_Sample]:
    site = view.site()
    yield "enlace_info", (("version", site.version), ("boot", site.boot), ("site", site.id)), 1
    yield "enlace_uptime_seconds", (), clock.monotonic_s() - started_s
    for part in view.health():
        yield "enlace_healthy", (("part", part.name),), int(part.ok)
    wires = {device.wire.name: device.wire for device in view.devices() if device.wire}
    for wire in wires.values():
        labels = (("wire", wire.name),)
        yield "enlace_wire_online", labels, int(wire.state is Health.ONLINE)
        yield "enlace_wire_restarts_total", labels, wire.restarts
        if wire.last_put_age_s is not None:
            yield "enlace_wire_last_put_age_seconds", labels, wire.last_put_age_s
        for name, count in sorted(wire.counters.items()):
            yield "enlace_wire_events_total", (*labels, ("name", name)), count
    for device in view.devices():
        yield "enlace_device_online", (("device", device.id),), int(device.state is Health.ONLINE)
    for part_name, figures in view.counters().items():
        for name, figure in figures.items():
            yield _NOT_IN_A_NAME.sub("_", f"enlace_{part_name}_{name}"), (), figure
    for name, figure in process_figures().items():
        yield name, (), figure


def process_figures() -> Mapping[str, Number]:
    """Memory, descriptors, threads and CPU time of this process; what the system does not tell is left out."""
    times = os.times()
    figures: dict[str, Number] = {"process_cpu_seconds_total": round(times.user + times.system, 3)}
    try:
        status = (_PROC / "status").read_text()
        figures["process_open_fds"] = sum(1 for _ in (_PROC / "fd").iterdir())
    except OSError:
        return figures
    for key, name, factor in (("VmRSS", "process_resident_memory_bytes", 1024), ("Threads", "process_threads", 1)):
        found = re.search(rf"^{key}:\s+(\d+)", status, re.MULTILINE)
        if found:
            figures[name] = int(found[1]) * factor
    return figures


def _labels(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: Number) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(value)
