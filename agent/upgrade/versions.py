"""Versions of the program as packages name them: ``1.2``, ``1.2.3``, ``1.2.3rc1``. Pure."""

import re
from functools import total_ordering
from typing import Self

_NUMBER = r"(0|[1-9][0-9]{0,5})"
_FORM = re.compile(rf"{_NUMBER}\.{_NUMBER}(?:\.{_NUMBER})?(?:\.{_NUMBER})?(?:(a|b|rc){_NUMBER})?", re.ASCII)
#: Behind every kind of pre-release: ``a`` < ``b`` < ``rc`` < the release itself (PEP 440).
_RELEASE = "z"


@total_ordering
class Version:
    """One version. Its text is safe as the name of a folder. Raises ``ValueError`` for what is none."""

    def __init__(self, text: str) -> None:
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no version like 1.2.3 or 1.2.3rc1")
        self.text = text
        numbers = tuple(int(part or 0) for part in found.groups()[:4])
        self._key = numbers, found[5] or _RELEASE, int(found[6] or 0)

    @classmethod
    def or_none(cls, text: str) -> Self | None:
        """The same, None for what is no version."""
        try:
            return cls(text)
        except ValueError:
            return None

    def __lt__(self, other: "Version") -> bool:
        return self._key < other._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.text
