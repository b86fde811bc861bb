"""What one second of load management costs, and the allocation in it, for sites of 10 to 50 stations."""

import random
import time

from agent.control.load_model import LoadSettings, StationShare
from agent.control.sharing import Need, Seat, allocate
from tests.load_site import Charger, Site

STATIONS = (10, 50)
TARGET_ALLOCATE_MS = 5.0
ROUNDS = 300
PLACES = ((0, 1, 2), (0, 1, 2), (0,), (1,), (2,))


def _sites(count: int) -> list[tuple[list[float], list[Seat]]]:
    """Random sites: some of their stations fit, some rest, some have no vehicle."""
    rng = random.Random(1)  # noqa: S311 - no secret
    sites = []
    for _ in range(ROUNDS):
        left = [rng.uniform(0, 12 * count) for _ in range(3)]
        needs = rng.choices(tuple(Need), (6, 1, 1), k=count)
        seats = [
            Seat(f"cp{n:02}", rng.choice(PLACES), 6, rng.choice((16, 32)), 0.5, need, rng.choice((0, 0, 1)), 1, (n,))
            for n, need in enumerate(needs)
        ]
        sites.append((left, seats))
    return sites


def _allocate_ms(count: int) -> tuple[float, float]:
    """Median and worst of many random sites, each the best of three: the machine's other work only adds."""
    times = []
    for left, seats in _sites(count):
        best_s = float("inf")
        for _ in range(3):
            start_s = time.perf_counter()
            allocate(left, seats)
            best_s = min(best_s, time.perf_counter() - start_s)
        times.append(best_s * 1e3)
    times.sort()
    return times[len(times) // 2], times[-1]


def _tick_ms(count: int) -> float:
    """The median second of a busy site, with its readings, wishes and status."""
    chargers = [Charger(f"cp{n:02}", lag_s=2 + n % 4) for n in range(count)]
    shares = tuple(StationShare(one.id, phases=(1, 2, 3)) for one in chargers)
    settings = LoadSettings("grid", 12.0 * count, stations=shares)
    site = Site(chargers, lambda now_s, phase: 2.0 * count * (int(now_s / 20) % 2) + phase, settings)
    site.run(30)
    times: list[float] = []
    tick = site.manager.tick

    def timed() -> None:
        start_s = time.perf_counter()
        tick()
        times.append((time.perf_counter() - start_s) * 1e3)

    site.manager.tick = timed  # type: ignore[method-assign]
    site.run(120)
    return sorted(times)[len(times) // 2]


def main() -> None:
    """Print the figures."""
    for count in STATIONS:
        median_ms, worst_ms = _allocate_ms(count)
        print(f"allocate, {count} stations, {ROUNDS} random sites: median {median_ms:.2f} ms, worst {worst_ms:.2f} ms")
        if count == max(STATIONS):
            print(f"  target {TARGET_ALLOCATE_MS:g} ms, ratio {worst_ms / TARGET_ALLOCATE_MS:.2f}")
        print(f"a whole second of the manager, {count} stations: median {_tick_ms(count):.1f} ms")


if __name__ == "__main__":
    main()
