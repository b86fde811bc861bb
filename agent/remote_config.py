"""The configuration, changed and read by commands of the central server: ``configure`` and ``configuration``.

Rules of this file:

1. Off unless the configuration says ``uplink.configure: yes``: who may configure may do anything here.
2. A change is made for one configuration (``base``, its hash), held against the models and ``enlace check`` with their
   own words, written into the file's lines with its comments kept, and applied as any change of the file: only to what
   it is about.
3. Then it is on trial (``config_trial.py``). Within ``confirm_s`` all that was well before and is still configured must
   be well again, and stay so for ``STEADY_S``: the connection to the broker, and each device. Otherwise the former text
   is put back, and applied. The one outcome is told when the trial has ended.
4. Secrets stand in files of their own, which no command reads or writes. ``data_dir`` is not for a command either.
5. One at a time.
"""

import asyncio
import contextlib
import difflib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from agent import config_trial
from agent.api.view import DeviceInfo
from agent.config import Config, load_config, read_config
from agent.config_changes import changes_of, comes_to_run, hash_of
from agent.control.execution import Answer
from agent.control.model import Command, Outcome
from agent.core.clock import Clock
from agent.core.errors import ConfigError, Refusal
from agent.core.model import Event
from agent.core.ports import Action
from agent.json_patch import PatchError, patched
from agent.pipeline.health import Health
from agent.site_editor import read_only
from agent.yaml_edit import EditError, edited
from agent.yamltree import Tree, parse_tree

CONFIRM_S, MIN_CONFIRM_S, MAX_CONFIRM_S = 120, 30, 900
#: The gateway looks at its file once a second; new wires take some seconds at most.
APPLY_S = 30.0
LOOK_S = 0.5
STEADY_S = 10.0
MAX_FINDINGS = 20
MAX_DIFF_LINES = 60
_READ_BYTES = 6000
_READ_LINE = 250
#: Values of keys that smell of a secret are not told; names of files that hold one are.
_SECRET = re.compile(
    r"(?i)((?:passw|secret|token|credential|private|api_?key)[\w-]*(?<!_file)\"?\s*:\s*)[^\s,}{\[][^,}]*"
)

ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "configure": Action("change the configuration by a JSON Patch, on trial; see docs/remote-configuration.md"),
        "configuration": Action("read the configuration's lines and its hash"),
    }
)
_ARGS = {"configure": {"base", "patch", "dry_run", "confirm_s"}, "configuration": {"first_line"}}


class _Refused(Exception):  # noqa: N818 - it is an answer, told as such
    """Why nothing is changed."""

    def __init__(self, reason: str, refusal: Refusal = Refusal.OUT_OF_RANGE, **data: object) -> None:
        super().__init__(reason)
        self.answer = Answer(Outcome.REJECTED, reason, refusal, data)


@dataclass(frozen=True, slots=True)
class SiteView:
    """What the trial looks at: the configuration that is applied, the devices, and whether the broker is connected."""

    config: Callable[[], Config]
    devices: Callable[[], Sequence[DeviceInfo]]
    connected: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A change that can be made."""

    text: str
    config: Config
    confirm_s: float
    data: Mapping[str, object]


class RemoteConfig:
    """``agent.control.commands.Own`` of the target ``gateway``. ``record`` takes events."""

    def __init__(self, path: Path, clock: Clock, record: Callable[[Event], None], site: SiteView) -> None:
        self._path = path
        self._clock = clock
        self._record = record
        self._site = site
        self._busy = False

    @property
    def actions(self) -> Mapping[str, Action]:
        """What it can be told."""
        return ACTIONS

    def ended(self) -> Mapping[str, Answer]:
        """What the last change came to, for a command that was cut off."""
        note = config_trial.read(self._path)
        if note is None or note.state == "trial":
            return {}
        outcome = Outcome.DONE if note.state == "kept" else Outcome.FAILED
        return {note.command: Answer(outcome, note.reason)}

    async def begin(self) -> None:
        """Tell of a trial that was cut off and ended by this start."""
        note = await asyncio.to_thread(config_trial.read, self._path)
        if note is not None and note.state == "undone" and not note.told:
            self._tell("config.rolled_back", note.by, {"command": note.command, "reason": note.reason})
            with contextlib.suppress(OSError):  # it is told again then
                await asyncio.to_thread(config_trial.told, self._path)

    async def do(self, command: Command) -> Answer:
        """Carry it out; never raises."""
        try:
            return await self._do(command)
        except _Refused as refused:
            return refused.answer
        except ConfigError as error:
            return Answer(Outcome.REJECTED, str(error), Refusal.OUT_OF_RANGE)
        except OSError as error:
            return Answer(Outcome.FAILED, f"the file can't be read or written: {error.strerror or error}")

    async def _do(self, command: Command) -> Answer:
        section = self._site.config().uplink
        if section is None or section.configure != "yes":
            raise _Refused("it is off here: `configure: yes` under `uplink:` allows it", Refusal.NOT_CAPABLE)
        unknown = set(command.args) - _ARGS[command.action]
        if unknown:
            raise _Refused(f"{command.action} has no argument {', '.join(sorted(unknown))}")
        if command.action == "configuration":
            return await asyncio.to_thread(self._read, command.args)
        if self._busy:
            raise _Refused("another configuration is on trial: wait until that has ended", Refusal.INTERLOCKED)
        self._busy = True
        try:
            return await self._configure(command)
        finally:
            self._busy = False

    def _read(self, args: Mapping[str, object]) -> Answer:
        lines = self._path.read_text().splitlines()
        first = args.get("first_line", 1)
        if type(first) is not int or not 1 <= first <= max(len(lines), 1):
            raise _Refused(f"first_line is a whole number from 1 to {len(lines)}")
        shown: list[str] = []
        size = 0
        for line in lines[first - 1 :]:
            text = _SECRET.sub(r"\1***", line)[:_READ_LINE]
            size += len(text.encode()) + 4
            if size > _READ_BYTES:
                break
            shown.append(text)
        behind = first + len(shown)
        more = {"next_line": behind} if behind <= len(lines) else {}
        return Answer(Outcome.DONE, data={"hash": hash_of(self._site.config()), "lines": shown, **more})

    async def _configure(self, command: Command) -> Answer:
        plan = await asyncio.to_thread(self._plan, command.args)
        if plan is None:
            return Answer(Outcome.DONE, "it changes nothing", data={"hash": hash_of(self._site.config())})
        if command.args.get("dry_run") is True:
            return Answer(Outcome.DONE, "it can be done; nothing was changed", data=plan.data)
        await asyncio.to_thread(_check_writable, self._path)
        well, connected = self._well(), self._site.connected()
        former = self._site.config()
        self._tell("config.trial", command.issuer, {"command": command.id, "confirm_s": plan.confirm_s, **plan.data})
        await asyncio.to_thread(config_trial.begin, self._path, command.id, command.issuer, plan.text)
        reason = await self._wrong(plan, well, connected=connected)
        if reason is None:
            reason = await asyncio.to_thread(self._keep)
        if reason is None:
            return Answer(Outcome.DONE, data=plan.data)
        try:
            reason = await asyncio.to_thread(config_trial.undo, self._path, f"it was put back: {reason}")
        except OSError as error:
            # The note says ``trial`` still, and a start goes by the note.
            failed = f"putting the former text back failed ({error.strerror or error}): the next start does it"
            return Answer(Outcome.FAILED, f"{reason}; {failed}", data=plan.data)
        if reason != config_trial.EDITED and not await self._is_applied(former):
            reason += "; what runs could not be put back at once: see the log"
        self._tell("config.rolled_back", command.issuer, {"command": command.id, "reason": reason})
        with contextlib.suppress(OSError):  # it is told again at the next start
            await asyncio.to_thread(config_trial.told, self._path)
        return Answer(Outcome.FAILED, reason, data=plan.data)

    def _keep(self) -> str | None:
        """Have on disk that the new text stays; why that can't be, None: it is. Blocks."""
        try:
            config_trial.keep(self._path)
        except OSError as error:
            return f"that it stays could not be written down: {error.strerror or error}"
        return None

    def _plan(self, args: Mapping[str, object]) -> _Plan | None:
        """What is to be done; None: nothing. Blocks. Raises ``_Refused``, ``ConfigError``, ``OSError``."""
        now = self._site.config()
        patch, confirm_s, dry_run = args.get("patch"), args.get("confirm_s", CONFIRM_S), args.get("dry_run", False)
        if not isinstance(patch, list) or not isinstance(dry_run, bool):
            raise _Refused("patch is a list of operations (RFC 6902), dry_run true or false")
        if type(confirm_s) not in (int, float) or not MIN_CONFIRM_S <= confirm_s <= MAX_CONFIRM_S:  # type: ignore[operator] # a number
            raise _Refused(f"confirm_s is from {MIN_CONFIRM_S} to {MAX_CONFIRM_S}")
        if args.get("base") != hash_of(now):
            reason = "it was made for another configuration: read `configuration`, and make it for that one"
            raise _Refused(reason, hash=hash_of(now))
        text = self._path.read_bytes().decode("utf-8-sig")
        reading, tree = read_config(self._path), parse_tree(text, self._path.name)
        if reading.config is None or not isinstance(tree, Tree) or hash_of(reading.config) != hash_of(now):
            raise _Refused("the file was edited and is not what runs: apply it or mend it first", Refusal.INTERLOCKED)
        try:
            changed = edited(text, patched(tree.data, patch))
        except (PatchError, EditError) as error:
            raise _Refused(str(error)) from error
        if changed == text:
            return None
        config, warnings = self._checked(changed)
        if config.data_dir != now.data_dir:
            raise _Refused("data_dir can't be changed by a command: all data would be left behind")
        lines = list(difflib.unified_diff(text.splitlines(), changed.splitlines(), "old", "new", n=0, lineterm=""))
        data = {
            **changes_of(now, config),
            "hash": hash_of(config),
            "warnings": warnings,
            "diff": lines[:MAX_DIFF_LINES],
        }
        return _Plan(changed, config, float(confirm_s), data)  # type: ignore[arg-type] # a number

    def _checked(self, text: str) -> tuple[Config, list[str]]:
        """What a text comes to, and the warnings that the present one does not have. Raises ``_Refused``."""
        from agent.findings import findings, owned  # noqa: PLC0415 - few sites need it

        mine = owned(self._site.config())
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}-", suffix=".yaml", dir=self._path.parent)
        draft = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            found = [(kind, words.replace(name, self._path.name)) for kind, words in findings(draft, mine)]
            errors = [words for kind, words in found if kind == "error"]
            if errors:
                raise _Refused(f"it can't be used: {errors[0]}", errors=errors[:MAX_FINDINGS])
            config = load_config(draft)
        finally:
            draft.unlink(missing_ok=True)
        known = {_unplaced(words) for _, words in findings(self._path, mine)}
        warnings = [words for kind, words in found if kind == "warning" and _unplaced(words) not in known]
        return config, warnings[:MAX_FINDINGS]

    async def _wrong(self, plan: _Plan, well: frozenset[str], *, connected: bool) -> str | None:
        """Watch over the trial; what is wrong at its end, None: nothing."""
        if not await self._is_applied(plan.config):
            return "it was not applied: see config.refused on the ledger"
        well &= {one.id for one in plan.config.devices}
        began_s = well_since_s = self._clock.monotonic_s()
        while True:
            if await asyncio.to_thread(config_trial.is_edited, self._path):
                return "the file was edited"
            lost, now_s = self._lost(well, connected=connected), self._clock.monotonic_s()
            if lost:
                well_since_s = now_s
            if now_s - well_since_s > STEADY_S:
                return None
            if lost and now_s - began_s >= plan.confirm_s:
                return f"within {plan.confirm_s:g} s it was not well again: {', '.join(lost)}"
            await self._clock.sleep_s(LOOK_S)

    def _lost(self, well: frozenset[str], *, connected: bool) -> list[str]:
        """What was well and is not now."""
        lost = sorted(well - self._well())
        return ["the connection to the broker", *lost] if connected and not self._site.connected() else lost

    def _well(self) -> frozenset[str]:
        return frozenset(one.id for one in self._site.devices() if one.state is Health.ONLINE)

    async def _is_applied(self, config: Config) -> bool:
        return await comes_to_run(self._site.config, config, self._clock, APPLY_S)

    def _tell(self, kind: str, by: str, data: Mapping[str, object]) -> None:
        self._record(Event(kind, self._clock.now_us(), "config", {"by": by, **data}))


def _check_writable(path: Path) -> None:
    """Raises ``_Refused`` where the file is not this gateway's to write."""
    reason = read_only(path)
    if reason:
        raise _Refused(reason, Refusal.NOT_CAPABLE)


def _unplaced(words: str) -> str:
    """A finding without its place, which moves when lines come and go."""
    return re.sub(r"^.*?:\d+:\d+: ", "", words)
