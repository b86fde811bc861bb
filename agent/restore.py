"""Restoring a backup: the state that is there is moved aside, never deleted, and one of the two is always whole.

Rules of this file:

1. All of the new state is written beside the old one, checked, brought up to date and synced first. Until then nothing
   of the old one is touched.
2. Then the list of renames is written down (``restore_journal.py``) and done. Whoever starts the gateway, or restores
   again, does first what is left of it. A power cut or a kill leaves the old state (no journal) or the new one.
3. The configuration's files come first: they never are not there, and a configuration that names another folder for its
   data finds the journal there.
4. The lock of the database is held all along: a gateway that runs on that folder is not disturbed, it is refused.
5. What the backup holds from outside of the configuration's folder is put there only where asked for, and never over
   what is there.
"""

import grp
import hashlib
import os
import pwd
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent.backup import STATE
from agent.backup_file import Manifest, Member, Tell, checked, members, read_manifest
from agent.core.clock import Clock
from agent.core.disk import sync
from agent.core.errors import StoreError
from agent.restore_journal import Move, finish_held, held, note
from agent.store.backup import Numbers, check_store, go_on, numbers_of
from agent.store.schema import STEPS
from agent.store.settings import DATABASE

ASIDE = "before-restore"
_STAGE = ".enlace-restore-"
_SPARE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Places:
    """Where a backup is restored to; ``outside``: also files that stood elsewhere, where there is none now."""

    config: Path
    data_dir: Path
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it. ``aside``: where the former state is, by its places; ``left_out``: not put where it was."""

    manifest: Manifest
    above: Numbers
    aside: tuple[Path, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """A member, where it is written first and where it belongs."""

    member: Member
    stage: Path
    place: Path


def restore(source: Path, places: Places, clock: Clock, tell: Tell, *, support: bool = False) -> Restored:
    """Put the state of a backup in the place of what is there. ``support``: also one without secrets.

    Raises ``StoreError``; then nothing has changed.
    """
    op = f"restore {source}"
    manifest = read_manifest(source)
    _check(op, manifest, clock, support=support)
    try:
        fresh = not places.data_dir.exists()
        places.data_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        with held(places.data_dir / DATABASE) as lock:
            finish_held(places.data_dir)
            if fresh:
                _give(places.data_dir, lock, manifest)
            return _restore(source, manifest, places, clock, tell)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise StoreError(op, f"{where}{error.strerror or error}", "run it as a user that may write there") from error


def present(places: Places) -> bool:
    """Whether there is a state that would be moved aside."""
    return places.config.exists() or bool(_state(places.data_dir))


def _check(op: str, manifest: Manifest, clock: Clock, *, support: bool) -> None:
    if manifest.schema_version > len(STEPS):
        reason = (
            f"Enlace {manifest.program} made it, with schema {manifest.schema_version}; this one knows {len(STEPS)}"
        )
        raise StoreError(op, reason, "restore it with that version or a newer one")
    if clock.now_us() < manifest.made_us:
        reason = "by the clock of this machine it was made in the future: no safe numbers can be chosen"
        raise StoreError(op, reason, "set the clock first")
    if not manifest.secrets and not support:
        reason = "it was made for support, without secrets: nobody could log in and no charger come in"
        raise StoreError(op, reason, "take a whole one; to look into this one add --without-secrets")


def _restore(source: Path, manifest: Manifest, places: Places, clock: Clock, tell: Tell) -> Restored:
    data, config = stages = [one / _stage_name(places) for one in (places.data_dir, places.config.parent)]
    for stage in stages:
        shutil.rmtree(stage, ignore_errors=True)  # of a restore that was cut off before it counted
        stage.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as unless_ready:
        for stage in stages:
            unless_ready.callback(shutil.rmtree, stage, ignore_errors=True)
        steps, left_out = _steps(manifest, places, data, config)
        _check_room(source, places.data_dir, steps)
        _unpack(source, manifest, steps, tell)
        above = _bring_up(data / DATABASE, manifest, places, clock)
        for step in steps:
            _own(step.stage, step.member)
            if step.place.parent not in (places.data_dir, places.config.parent):
                _own(step.stage.parent, step.member, 0o700 if step.member.name.startswith("data/") else 0o750)
        _sync_all(stages)
        moves, aside = _moves(steps, places, clock)
        unless_ready.pop_all()
    note(places.data_dir, manifest.id, moves, stages)
    finish_held(places.data_dir)
    return Restored(manifest, above, tuple(aside), tuple(left_out))


def _stage_name(places: Places) -> str:
    """One for each folder of data: who holds that folder's lock may clear it."""
    return _STAGE + hashlib.sha256(str(places.data_dir).encode()).hexdigest()[:12]


def _bring_up(database: Path, manifest: Manifest, places: Places, clock: Clock) -> Numbers:
    """Check the database that was unpacked, and let it go on above what was given since."""
    check_store(database, clock)
    there = numbers_of(places.data_dir / DATABASE)
    told = {"backup": manifest.id, "made_us": manifest.made_us, "site": manifest.site, "program": manifest.program}
    return go_on(database, clock, manifest.made_us, there, told)


def _steps(manifest: Manifest, places: Places, data: Path, config: Path) -> tuple[list[_Step], list[str]]:
    """Each member's way; those that stay where they are (rule 5)."""
    steps: list[_Step] = []
    left_out: list[str] = []
    base = places.config.parent
    for member in manifest.members:
        room, _, name = member.name.partition("/")
        if member.name == manifest.config:
            steps.append(_Step(member, config / places.config.name, places.config))
        elif room == "data" and name.split("/")[0] in (DATABASE, *STATE):
            steps.append(_Step(member, data / name, places.data_dir / name))
        elif room == "config":
            steps.append(_Step(member, config / "files" / name, base / name))
        elif room == "outside" and places.outside and not Path(f"/{name}").exists():
            steps.append(_Step(member, config / "outside" / name, Path(f"/{name}")))
        else:
            left_out.append(name if room == "data" else f"/{name}")
    return steps, left_out


def _check_room(source: Path, folder: Path, steps: Sequence[_Step]) -> None:
    size = sum(step.member.size for step in steps)
    free = shutil.disk_usage(folder).free
    needed = size + size // 4 + _SPARE_BYTES  # bringing it up to date writes some of it once more
    if free < needed:
        reason = f"{folder} has {free >> 20} MiB left, {needed >> 20} MiB are needed"
        raise StoreError(f"restore {source}", reason, "free some space, or name another place with --data-dir")


def _unpack(source: Path, manifest: Manifest, steps: Sequence[_Step], tell: Tell) -> None:
    """Write all members beside their places; what is not wanted is read and checked too."""
    wanted = {step.member.name: step for step in steps}
    done, size = 0, sum(one.size for one in manifest.members)
    for member, content in members(source, manifest):
        step = wanted.get(member.name)
        target = Path(os.devnull) if step is None else step.stage
        if step is not None:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for chunk in checked(source, member, content):
                file.write(chunk)
                done += len(chunk)
                tell("unpacked", done, size)
    tell("unpacked", size, size)


def _own(path: Path, member: Member, mode: int | None = None) -> None:
    """Its mode, and where this is root its owner: by name, for numbers are others on another machine."""
    _give_to(path, member)
    path.chmod(member.mode if mode is None else mode)


def _give_to(path: Path | int, member: Member) -> None:
    if os.geteuid() != 0:
        return
    with suppress(KeyError):  # there is no such user here: it is root's, and the command tells
        os.chown(path, pwd.getpwnam(member.user).pw_uid, -1)
    with suppress(KeyError):
        os.chown(path, -1, grp.getgrnam(member.group).gr_gid)


def _give(data_dir: Path, lock: int, manifest: Manifest) -> None:
    """A folder that was made here, and its lock, belong to whom the database belonged to."""
    for member in manifest.members:
        if member.name == f"data/{DATABASE}":
            _give_to(data_dir, member)
            _give_to(lock, member)


def _sync_all(stages: Sequence[Path]) -> None:
    """Have all that was written on disk."""
    for stage in stages:
        for path in (stage, *stage.rglob("*")):
            sync(path)


def _moves(steps: Sequence[_Step], places: Places, clock: Clock) -> tuple[list[Move], list[Path]]:
    stamp = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    moves: list[Move] = []
    aside: list[Path] = []
    in_data = _state(places.data_dir)
    for step in (one for one in steps if not one.member.name.startswith("data/")):
        if step.place.exists():
            if step.place.read_bytes() == step.stage.read_bytes():
                continue
            kept = _free(step.place.with_name(f"{step.place.name}.{ASIDE}-{stamp}"))
            moves.append(("keep", str(step.place), str(kept)))
            aside.append(kept)
        moves.append(("in", str(step.stage), str(step.place)))
    if in_data:
        folder = _free(places.data_dir / f"{ASIDE}-{stamp}")
        aside.append(folder)
        moves += [("aside", str(places.data_dir / name), str(folder / name)) for name in sorted(in_data)]
    tops = {
        (step.stage.parents[depth], step.place.parents[depth]) if depth >= 0 else (step.stage, step.place)
        for step in steps
        if step.member.name.startswith("data/")
        for depth in (len(Path(step.member.name).parts) - 3,)
    }
    moves += [("in", str(stage), str(place)) for stage, place in sorted(tops)]
    return moves, aside


def _free(path: Path) -> Path:
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _state(data_dir: Path) -> list[str]:
    """The names of the state that stands in a folder."""
    names = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", *STATE)
    return [name for name in names if (data_dir / name).exists()]
