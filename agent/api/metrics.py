"""``/metrics`` in the Prometheus text format, version 0.0.4. ``FAMILIES`` is the closed list of what there is."""

import asyncio
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from agent.api.request_figures import BOUNDS_S, RequestFigures
from agent.api.tally import Tally
from agent.api.view import GatewayView, SitePorts
from agent.core.clock import Clock
from agent.core.model import Number
from agent.pipeline.supervisor import Health

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROC = Path("/proc/self")
#: The gateway's own device measures it, see ``agent/selfwatch.py``.
_LAG = "gateway.loop_lag_s"
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")
_OF_A_STREAM = re.compile(r"(event|telemetry)_(acked|backlog|draining|waiting_seconds|resent_total|set_aside_total)")

#: Family -> (labels, what it says). The name says the kind: ``_total`` counts, since the start; all others are gauges.
FAMILIES: Mapping[str, tuple[str, str]] = {
    "enlace_info": ("version, boot, site", "1, who this gateway is"),
    "enlace_uptime_seconds": ("", "seconds since the API was made"),
    "enlace_healthy": ("part", "1 when the part is well"),
    "enlace_wire_online": ("wire", "1 when the wire is online"),
    "enlace_wire_restarts_total": ("wire", "restarts of the wire"),
    "enlace_wire_last_put_age_seconds": ("wire", "seconds since the wire delivered anything"),
    "enlace_wire_events_total": ("wire, name", "what the wire's driver counts, by name"),
    "enlace_device_online": ("device", "1 when the device is online"),
    "enlace_store_rows": ("", "raw rows in the store"),
    "enlace_store_rows_total": ("", "rows that were stored"),
    "enlace_store_pending_rows": ("", "rows that wait for their commit"),
    "enlace_store_dropped_rows_total": ("", "rows that were dropped, whatever the reason"),
    "enlace_store_bytes": ("", "size of the store"),
    "enlace_store_db_bytes": ("", "size of the database's file"),
    "enlace_store_wal_bytes": ("", "size of its write-ahead log"),
    "enlace_store_commits_total": ("", "commits"),
    "enlace_store_lost_rows_total": ("", "rows given up unconfirmed, since the file was made"),
    "enlace_store_ledger_bytes": ("", "events and sessions, which are never dropped"),
    "enlace_store_evidence_bytes": ("", "unusable databases that stand aside, and the copy of before an upgrade"),
    "enlace_store_quota_bytes": ("", "size above which data is given up"),
    "enlace_store_written_day_bytes": ("", "bytes written to the flash a day, mean of seven"),
    "enlace_written_bytes_total": ("component", "bytes written to the flash, by what wrote them"),
    "enlace_store_written_bytes_total": ("", "bytes that this process wrote to the flash; a day's: increase over 1d"),
    "enlace_clock_set": ("", "1 when the wall clock is believed; missing: nobody watches over it"),
    "enlace_clock_jumps_total": ("", "jumps of the wall clock by two seconds or more, since it is believed"),
    "enlace_hub_subscribers": ("", "who follows the live values"),
    "enlace_hub_dropped_batches_total": ("", "batches that slow followers missed"),
    "enlace_uplink_connected": ("", "1 while the central server's broker is connected"),
    "enlace_uplink_connections_total": ("", "connections that were made"),
    "enlace_uplink_failures_total": ("", "tries to connect that failed"),
    "enlace_uplink_published_total": ("", "messages that were published"),
    "enlace_uplink_published_bytes_total": ("", "bytes of their payloads"),
    "enlace_uplink_by_word": ("", "1 where the central server confirms, 0 where the broker does"),
    "enlace_uplink_duplicate": ("", "1 while another client seems to use this gateway's client id"),
    "enlace_uplink_certificate_days": ("", "days until the certificate ends that the broker is shown"),
    "enlace_uplink_acks_total": ("", "acknowledgements of the central server that were taken"),
    "enlace_uplink_acks_older_total": ("", "of them those that were older than what was confirmed"),
    "enlace_uplink_acks_refused_total": ("", "and those that were refused"),
    "enlace_uplink_commands_total": ("", "commands that came from the broker"),
    "enlace_uplink_commands_answered_total": ("", "of them those whose result the broker has"),
    "enlace_uplink_commands_repeated_total": ("", "those that came again while the first one was open"),
    "enlace_uplink_commands_malformed_total": ("", "those that are no command, and have no id to answer to"),
    "enlace_uplink_commands_unanswered_total": ("", "those whose result the broker does not take"),
    "enlace_uplink_commands_not_authorized_total": ("", "those that nobody signed who may command"),
    "enlace_uplink_commands_open": ("", "commands that are being done, or whose result is on its way"),
    "enlace_uplink_sparkplug_births_total": ("", "NBIRTHs that were sent"),
    "enlace_uplink_sparkplug_device_births_total": ("", "DBIRTHs that were sent"),
    "enlace_uplink_sparkplug_device_deaths_total": ("", "DDEATHs that were sent"),
    "enlace_uplink_sparkplug_rebirths_asked_total": ("", "rebirths that a Sparkplug host asked for"),
    "enlace_uplink_sparkplug_commands_refused_total": ("", "metrics of Sparkplug commands that were refused"),
    "enlace_uplink_sparkplug_malformed_total": ("", "Sparkplug commands and STATE messages that can't be read"),
    "enlace_uplink_acked": ("stream", "number of the last record that is confirmed"),
    "enlace_uplink_backlog": ("stream", "records that are not confirmed"),
    "enlace_uplink_draining": ("stream", "records of the backlog that were not sent on this connection yet"),
    "enlace_uplink_waiting_seconds": ("stream", "for how long nothing was confirmed, while something waits"),
    "enlace_uplink_resent_total": ("stream", "records that were sent again"),
    "enlace_uplink_set_aside_total": ("stream", "records that can't be sent and were set aside"),
    "enlace_events_total": ("kind", "events on the ledger: switches, sessions, alarms, changes of the configuration …"),
    "enlace_decisions_total": ("station", "decisions about a station"),
    "enlace_commands_total": ("outcome", "commands that came to an end: done, rejected, failed, expired, superseded"),
    "enlace_station_on": ("station", "1 when it was decided that it is on, 0 off; missing: nothing was decided"),
    "enlace_station_limit_amperes": ("station", "what it may draw per phase"),
    "enlace_station_following": ("station", "1 when it does as decided; missing: can't be told"),
    "enlace_alarms": ("severity, state", "alarms as they stand, rules apart"),
    "enlace_load_meter_silent": ("", "1 while the grid meter is silent and stations have their fail-safe"),
    "enlace_load_meter_age_seconds": ("", "seconds since the grid meter was heard"),
    "enlace_load_limit_amperes": ("phase", "the limit of the grid connection"),
    "enlace_load_measured_amperes": ("phase", "what the grid meter measures"),
    "enlace_load_left_amperes": ("phase", "what is left for all stations"),
    "enlace_load_stations_amperes": ("phase", "what stations may draw together by their limits"),
    "enlace_sessions_running": ("", "charging sessions that run"),
    "enlace_notify_waiting": ("channel", "news that wait"),
    "enlace_notify_sent_total": ("channel", "messages that were taken"),
    "enlace_notify_failures_total": ("channel", "tries that failed"),
    "enlace_notify_dropped_total": ("channel", "news that were never told"),
    "enlace_api_requests_total": ("method, route, status", "requests by what was answered"),
    "enlace_api_request_duration_seconds": ("route, le", "histogram: how long requests waited for their answer"),
    "enlace_event_loop_lag_seconds": ("", "the longest that the event loop was late in the last ten seconds"),
    "enlace_tasks": ("", "asyncio tasks"),
    "process_resident_memory_bytes": ("", "resident memory"),
    "process_open_fds": ("", "open file descriptors"),
    "process_threads": ("", "threads"),
    "process_cpu_seconds_total": ("", "user and system CPU time"),
}
_HISTOGRAM = "enlace_api_request_duration_seconds"
#: What parts call otherwise than Prometheus would.
_RENAMED = {"enlace_hub_dropped_batches": "enlace_hub_dropped_batches_total"}

_Labels = tuple[tuple[str, str], ...]
_Sample = tuple[str, _Labels, Number]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the figures come from. ``running`` is how many sessions run, ``tally`` what happened; None: not known."""

    view: GatewayView
    ports: SitePorts
    requests: RequestFigures
    tally: Tally | None = None
    running: int | None = None


def render(sources: Sources, clock: Clock, started_s: float) -> str:
    """All metrics as text. The samples of one family stand together, as the format asks."""
    families: dict[str, list[tuple[_Labels, Number]]] = defaultdict(list)
    for name, labels, value in _samples(sources, clock, started_s):
        families[name].append((labels, value))
    lines: list[str] = []
    for name, samples in families.items():
        lines += _head(name, kind_of(name))
        lines.extend(f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples)
    lines.extend(_histogram(sources.requests))
    return "\n".join(lines) + "\n"


def kind_of(name: str) -> str:
    """The kind of a family."""
    return "histogram" if name == _HISTOGRAM else "counter" if name.endswith("_total") else "gauge"


def _head(name: str, kind: str) -> list[str]:
    says = [f"# HELP {name} {FAMILIES[name][1]}"] if name in FAMILIES else []
    return [*says, f"# TYPE {name} {kind}"]


def _samples(sources: Sources, clock: Clock, started_s: float) -> Iterator[_Sample]:
    view, ports = sources.view, sources.ports
    site = view.site()
    yield "enlace_info", (("version", site.version), ("boot", site.boot), ("site", site.id)), 1
    yield "enlace_uptime_seconds", (), clock.monotonic_s() - started_s
    for part in view.health():
        yield "enlace_healthy", (("part", part.name),), int(part.ok)
    yield from _wires(view)
    for device in view.devices():
        yield "enlace_device_online", (("device", device.id),), int(device.state is Health.ONLINE)
    for part_name, figures in view.counters().items():
        for name, figure in figures.items():
            yield _of_part(part_name, name, figure)
    if sources.tally is not None:
        yield from _counted("enlace_events_total", "kind", sources.tally.kinds)
        yield from _counted("enlace_decisions_total", "station", sources.tally.decisions)
        yield from _counted("enlace_commands_total", "outcome", sources.tally.commands)
    yield from _stations(ports)
    yield from _load(ports)
    if sources.running is not None:
        yield "enlace_sessions_running", (), sources.running
    for channel in ports.notify.status() if ports.notify is not None else ():
        labels = (("channel", channel.id),)
        yield "enlace_notify_waiting", labels, channel.waiting
        yield "enlace_notify_sent_total", labels, channel.sent
        yield "enlace_notify_failures_total", labels, channel.failures
        yield "enlace_notify_dropped_total", labels, channel.dropped
    for (method, route, status), count in sorted(sources.requests.answers.items()):
        yield "enlace_api_requests_total", (("method", method), ("route", route), ("status", str(status))), count
    yield from _process(view)


def _wires(view: GatewayView) -> Iterator[_Sample]:
    wires = {device.wire.name: device.wire for device in view.devices() if device.wire}
    for wire in wires.values():
        labels = (("wire", wire.name),)
        yield "enlace_wire_online", labels, int(wire.state is Health.ONLINE)
        yield "enlace_wire_restarts_total", labels, wire.restarts
        if wire.last_put_age_s is not None:
            yield "enlace_wire_last_put_age_seconds", labels, wire.last_put_age_s
        for name, count in sorted(wire.counters.items()):
            yield "enlace_wire_events_total", (*labels, ("name", name)), count


def _of_part(part: str, name: str, figure: Number) -> _Sample:
    stream = _OF_A_STREAM.fullmatch(name) if part == "uplink" else None
    if stream:
        return f"enlace_uplink_{stream[2]}", (("stream", stream[1]),), figure
    if part == "wear":
        return "enlace_written_bytes_total", (("component", name),), figure
    family = _NOT_IN_A_NAME.sub("_", f"enlace_{part}_{name}")
    return _RENAMED.get(family, family), (), figure


def _counted(family: str, label: str, counts: Counter[str]) -> Iterator[_Sample]:
    for name, count in sorted(counts.items()):
        yield family, ((label, name),), count


def _stations(ports: SitePorts) -> Iterator[_Sample]:
    for station in ports.control.stations() if ports.control is not None else ():
        labels = (("station", station.id),)
        if station.on is not None:
            yield "enlace_station_on", labels, int(station.on)
        if station.limit_a is not None:
            yield "enlace_station_limit_amperes", labels, station.limit_a
        if station.following is not None:
            yield "enlace_station_following", labels, int(station.following)
    if ports.alarms is not None:
        stand = Counter(
            (status.spec.severity.value, status.state.value)
            for status in ports.alarms.alarms()
            if status.spec.severity is not None
        )
        for (severity, state), count in sorted(stand.items()):
            yield "enlace_alarms", (("severity", severity), ("state", state)), count


def _load(ports: SitePorts) -> Iterator[_Sample]:
    status = ports.load() if ports.load is not None else None
    if status is None:
        return
    yield "enlace_load_meter_silent", (), int(status.silent)
    if status.meter_age_s is not None:
        yield "enlace_load_meter_age_seconds", (), status.meter_age_s
    for number, phase in enumerate(status.phases, 1):
        labels = (("phase", f"L{number}"),)
        yield "enlace_load_limit_amperes", labels, phase.limit_a
        yield "enlace_load_measured_amperes", labels, phase.measured_a
        yield "enlace_load_left_amperes", labels, phase.left_a
        yield "enlace_load_stations_amperes", labels, phase.stations_a


def _process(view: GatewayView) -> Iterator[_Sample]:
    signal = view.signal(_LAG)
    lag_s = None if signal is None else view.latest([signal])[0].value
    if lag_s is not None:
        yield "enlace_event_loop_lag_seconds", (), lag_s
    yield "enlace_tasks", (), len(asyncio.all_tasks())
    for name, figure in process_figures().items():
        yield name, (), figure


def _histogram(requests: RequestFigures) -> Iterator[str]:
    if requests.durations:
        yield from _head(_HISTOGRAM, "histogram")
    bounds: Sequence[str] = [*map(repr, BOUNDS_S), "+Inf"]
    for route, counts in sorted(requests.durations.items()):
        for bound, count in zip(bounds, accumulate(counts), strict=True):
            yield f"{_HISTOGRAM}_bucket{_labels((('route', route), ('le', bound)))} {count}"
        labels = _labels((("route", route),))
        yield f"{_HISTOGRAM}_sum{labels} {_number(requests.sums_s[route])}"
        yield f"{_HISTOGRAM}_count{labels} {sum(counts)}"


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
