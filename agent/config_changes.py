"""What a new configuration changes, for the audit: which sections and entries, and the hashes of both. No values."""

import hashlib
from collections.abc import Iterable

from agent.config import Config


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
