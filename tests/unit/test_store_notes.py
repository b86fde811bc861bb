"""The notes in memory: what a reader was given stays as it is, and what nobody was given is not copied."""

from typing import cast

from agent.store.notes import Notes
from agent.store.writer import Writer

KIND = "ocpp.tag"


def notes_of(count: int) -> Notes:
    return Notes(
        {KIND: {str(number): {"n": number} for number in range(count)}}, cast("Writer", None), 1, lambda _: None
    )


def test_what_a_reader_was_given_stays_as_it_is() -> None:
    notes = notes_of(3)
    given = notes.notes(KIND)
    walk = iter(given)
    next(walk)
    notes._put(KIND, "new", {"n": 9})
    notes._put(KIND, "1", None)
    notes._put(KIND, "2", {"n": 7})
    assert list(walk) == ["1", "2"]
    assert dict(given) == {"0": {"n": 0}, "1": {"n": 1}, "2": {"n": 2}}
    assert dict(notes.notes(KIND)) == {"0": {"n": 0}, "new": {"n": 9}, "2": {"n": 7}}
    assert (notes.note(KIND, "1"), notes.note(KIND, "2"), notes.note("other", "2")) == (None, {"n": 7}, None)
    assert not notes.notes("other")


def test_a_thousand_notes_are_not_copied_for_each_one_more() -> None:
    notes = notes_of(1000)
    assert len(notes.notes(KIND)) == 1000
    kept: set[int] = set()
    for number in range(100):
        notes._put(KIND, f"new {number}", {})
        kept.add(id(notes._notes[KIND]))
    assert len(kept) == 1, "one copy, for the reader of before"
    assert len(notes.notes(KIND)) == 1100
