"""What a new configuration changes, for the audit: which sections and entries, and the hashes of both. No values."""

import hashlib
from collections.abc import Callable, Collection, Iterable

from agent.config import Config
from agent.core.clock import Clock

_LOOK_S = 0.2


def changes_of(old: Config, new: Config) -> dict[str, object]:
    """``sections`` that are not as they were; of lists of named entries ``{section: {added, removed, changed}}``.

    ``old`` and ``new`` are SHA-256 of the configurations as they are understood: overrides from the environment are in
    them, comments are not. Secrets are not either, for they stand in files of their own.
    """
    sections = [name for name in Config.model_fields if getattr(old, name) != getattr(new, name)]
    entries = {name: _entries(getattr(old, name), getattr(new, name)) for name in sections}
    return {
        "sections": sections,
        **{name: found for name, found in entries.items() if found},
        "old": hash_of(old),
        "new": hash_of(new),
    }


def hash_of(config: Config) -> str:
    """Of a configuration as it is understood, as 64 hex digits."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()


async def comes_to_run(
    running: Callable[[], Config],
    wanted: Config,
    clock: Clock,
    within_s: float,
    since: Callable[[str], Collection[str]] = lambda _: (),
) -> bool:
    """Wait until a configuration that was written is what runs; whether it came to that in time.

    ``since`` tells the hashes of those that include it and will do as well: it may be written over before it runs.
    """
    until_s, hashed = clock.monotonic_s() + within_s, hash_of(wanted)
    while (now := hash_of(running())) != hashed and now not in since(hashed):
        if clock.monotonic_s() >= until_s:
            return False
        await clock.sleep_s(_LOOK_S)
    return True


def _entries(old: object, new: object) -> dict[str, list[str]]:
    """Which of a list's entries came, went and changed, by id; nothing for what is no list of entries with ids."""
    before, after = _by_id(old), _by_id(new)
    if before is None or after is None:
        return {}
    found = {
        "added": [one for one in after if one not in before],
        "removed": [one for one in before if one not in after],
        "changed": [one for one in after if one in before and after[one] != before[one]],
    }
    return {word: ids for word, ids in found.items() if ids}


def _by_id(value: object) -> dict[str, object] | None:
    if not isinstance(value, Iterable) or isinstance(value, str):
        return None
    entries = list(value)
    if not all(isinstance(getattr(one, "id", None), str) for one in entries):
        return None
    return {one.id: one for one in entries}
