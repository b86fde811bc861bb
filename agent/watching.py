"""From the configuration to what is watched and who is told: alarms, ready-made ones, rules, channels, the gateway."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from agent import config as cfg
from agent.acting import acts
from agent.alarm_sets import FOLDER, AlarmSetFile, ReadyMade, load_alarm_sets
from agent.config_control import Alarm, Rule
from agent.control.alarm_model import RuleSpec, Severity
from agent.control.model import Origin
from agent.control.when import Condition
from agent.core.clock import Clock
from agent.core.model import Number, SignalSpec
from agent.overview import Overview
from agent.pipeline.supervisor import Supervisor
from agent.selfwatch import SelfWatch, machine_probes
from agent.share import share_path
from agent.store.db import Store
from cloud_sync.notify.notifier import ChannelSettings, Notifier

#: What a rule wants is weaker than a person's wish; what an alarm wants is stronger than everybody's.
_RULE, _ALARM, _INTERLOCK = Origin.RULE, Origin.SAFETY, Origin.INTERLOCK


def alarm_sets(base: Path) -> tuple[AlarmSetFile, ...]:
    """The ready-made sets: those of ``alarms/`` beside the configuration, and those that travel with the program.

    Raises ``ConfigError``.
    """
    return load_alarm_sets((base / FOLDER, share_path(f"config/{FOLDER}")))


def rule_specs(config: cfg.Config, signals: Iterable[SignalSpec], sets: Sequence[AlarmSetFile] = ()) -> list[RuleSpec]:
    """All alarms and rules that are not switched off, once: see ``Watched``."""
    return Watched(sets).specs(config, signals)


class Watched:
    """The alarms and rules of a site, with the ready-made ones of these sets. What has not changed is not made anew."""

    def __init__(self, sets: Sequence[AlarmSetFile] = ()) -> None:
        self._ready = ReadyMade(sets)
        self._made: dict[str, tuple[Alarm | Rule, RuleSpec]] = {}

    def specs(self, config: cfg.Config, signals: Iterable[SignalSpec]) -> list[RuleSpec]:
        """All that are not switched off. ``signals`` say which of the ready-made ones fit.

        One of the site's own takes the place of a ready-made one that is called the same. Raises ``ConfigError`` for
        an entry of ``alarm_sets:`` that can't be used.
        """
        taken = {*(one.id for one in config.alarms), *(one.id for one in config.rules)}
        ready = self._ready.alarms(config.alarm_sets, config.devices, signals)
        alarms: list[Alarm | Rule] = [*config.alarms, *(one for one in ready if one.id not in taken), *config.rules]
        before, self._made = self._made, {}
        for one in alarms:
            if one.enabled:
                old = before.get(one.id)
                same = old is not None and old[0] is one
                self._made[one.id] = old if old is not None and same else (one, rule_spec(one))
        return [spec for _, spec in self._made.values()]


def rule_spec(one: Alarm | Rule) -> RuleSpec:
    """One alarm or rule of the configuration."""
    return _alarm(one) if isinstance(one, Alarm) else _rule(one)


def _alarm(one: Alarm) -> RuleSpec:
    when, clear = one.conditions()
    return RuleSpec(
        id=one.id,
        when=when,
        clear=clear,
        for_s=one.for_s,
        clear_for_s=one.clear_for_s,
        severity=Severity(one.severity),
        latch=one.latch,
        text=one.text,
        acts=acts(one.then),
        hold_s=one.hold_s,
        origin=_INTERLOCK if one.interlock else _ALARM,
        unknown=one.unknown,
        suppressed_by=one.suppressed_by,
        notify=one.notify,
        shadow=one.mode == "shadow",
        device=_device(when),
    )


def _rule(one: Rule) -> RuleSpec:
    when, clear = one.conditions()
    return RuleSpec(
        id=one.id,
        when=when,
        clear=clear,
        for_s=one.for_s,
        clear_for_s=one.clear_for_s,
        severity=None,
        acts=acts(one.then),
        hold_s=one.hold_s,
        origin=_RULE,
        unknown=one.unknown,
        shadow=one.mode == "shadow",
        device=_device(when),
    )


def _device(when: Condition) -> str:
    """Whom a condition is about: the device that it reads; of several none."""
    devices = {name.partition(".")[0] for name in when.signals} | set(when.devices)
    return next(iter(devices)) if len(devices) == 1 else ""


def channels(config: cfg.Config, base: Path) -> list[ChannelSettings]:
    """Who is told of alarms. ``base`` is the folder from which relative paths count."""
    return [
        ChannelSettings(one.id, base / one.url_file, one.severity, one.every_s, one.returns) for one in config.notify
    ]


def self_watch(
    config: cfg.Config,
    base: Path,
    clock: Clock,
    store: Store,
    overview: Overview,
    supervisor: Supervisor,
    notifier: Notifier,
) -> SelfWatch:
    """The gateway as a device: its disk, clock, store and parts, and where there are any its uplink and channels."""

    def backlog() -> Number:
        uplink = overview.uplink
        return 0 if uplink is None else sum(stream.backlog for stream in uplink.status().streams.values())

    def connected() -> Number:
        return int(overview.uplink is not None and overview.uplink.status().connected)

    def duplicate() -> Number:
        return int(overview.uplink is not None and overview.uplink.status().duplicate)

    probes = machine_probes(config.data_dir, clock)
    probes["store_ok"] = lambda: int(store.stats().error is None)
    probes["store_full"] = lambda: int(store.stats().full)
    probes["written_bytes"] = lambda: store.stats().written_bytes
    probes["written_day_bytes"] = lambda: store.stats().written_a_day
    probes["lost_rows"] = lambda: store.stats().lost_rows
    probes["ledger_pct"] = lambda: 100 * store.stats().ledger_bytes / store.stats().max_bytes
    probes["evidence_bytes"] = lambda: (
        store.stats().evidence_bytes - store.stats().copy_bytes
    )  # that one goes by itself
    probes["restarts"] = lambda: sum(part.restarts for part in (*supervisor.parts(), *supervisor.states()))
    if config.uplink is not None:
        probes["uplink_connected"] = connected
        probes["uplink_duplicate"] = duplicate
        probes["uplink_backlog"] = backlog
        probes["commands_refused"] = lambda: int(overview.gate is not None and overview.gate.refusing)
    if certificates(config, base):
        probes["certificate_days"] = lambda: certificate_days(certificates(config, base), clock)
    if config.notify:
        probes["notify_failing"] = lambda: sum(bool(one.last_error) for one in notifier.status())
    return SelfWatch(probes, clock, later=("certificate_days", "written_day_bytes"))


def certificates(config: cfg.Config, base: Path) -> list[Path]:
    """The gateway's certificates, whose end somebody should know of; ``base`` is the configuration's folder."""
    own = config.data_dir / "api-tls" / "server.pem"
    found = [base / (config.api.cert_file or own.absolute())] if config.api.encrypted else []
    if config.uplink is not None and config.uplink.cert_file is not None:
        found.append(base / config.uplink.cert_file)
    if config.ocpp is not None:
        found += [one.cert_file for one in config.ocpp.certificates]
    return found


def certificate_days(paths: Sequence[Path], clock: Clock) -> float | None:
    """Days until the first of them ends; None: none can be read."""
    from agent.api.tls import days_left  # noqa: PLC0415 - its library is loaded by who needs it only

    return days_left(paths, clock)
