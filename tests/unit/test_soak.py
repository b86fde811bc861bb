"""How ``make soak`` judges memory: what grows, what only filled its caches, and what cannot be told."""

import pytest

from bench._soak import Look, _judge, _slope


def looks(*rss_mb: float) -> list[Look]:
    """A look an hour."""
    return [Look(hour + 1.0, one, 37, 12, 35, 19.0) for hour, one in enumerate(rss_mb)]


def noisy(a_day_mb: float, hours: int = 36) -> list[Look]:
    return looks(*(150 + a_day_mb * hour / 24 + (0.3 if hour % 2 else -0.3) for hour in range(hours)))


@pytest.mark.parametrize(("a_day_mb", "flat"), [(-2.0, True), (0.0, True), (0.5, True), (1.5, False), (20.0, False)])
def test_memory_may_grow_by_less_than_a_megabyte_a_day(a_day_mb: float, flat: bool) -> None:  # noqa: FBT001
    found = _slope(noisy(a_day_mb), "the site")
    assert found == ([] if flat else ["rss_mb of the site"])


def test_what_cannot_be_told_is_not_flat() -> None:
    for few in (noisy(0.0, 4), noisy(0.5, 8), noisy(0.0, 2), []):
        (told,) = _slope(few, "the site")
        assert "too" in told


def test_the_figures_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    _slope(looks(*(150 + 2 * hour / 24 for hour in range(36))), "the site")
    assert "+2.00 MB a day, ± 0.00, from hour 1.00 to 36.00" in capsys.readouterr().out


def test_descriptors_that_grow_are_named() -> None:
    grown = [Look(float(hour), 150.0, 37 + hour, 12, 35, 19.0) for hour in range(9)]
    assert _judge(grown, "the site") == ["fds of the site"]
    assert _judge(looks(*range(150, 160)), "the process", {"rss_mb": 3.0}) == ["rss_mb of the process"]
    assert _judge(looks(*range(150, 160)), "the site") == []
