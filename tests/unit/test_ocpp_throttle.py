"""What a charger may send, over all its connections."""

import pytest

from agent.core.clock import FakeClock
from drivers.ocpp.throttle import Budget, network


def test_a_burst_and_then_the_rate() -> None:
    clock = FakeClock()
    budget = Budget(clock, 5, 10)
    assert [budget.spend(1) for _ in range(5)] == [0.0] * 5
    assert budget.spend(1) == pytest.approx(0.2)
    assert budget.debt_s() == pytest.approx(0.2)
    clock.advance(0.2)
    assert budget.debt_s() == 0.0
    assert [budget.spend(1), budget.spend(1)] == pytest.approx([0.0, 0.2])
    clock.advance(3600)
    assert [budget.spend(1) for _ in range(5)] == [0.0] * 5  # not more than the burst
    assert budget.spend(1) > 0


def test_what_is_taken_from_the_burst_alone_makes_no_debt() -> None:
    budget = Budget(FakeClock(), 50, 10)
    assert [budget.spend(1, 20) for _ in range(3)] == [0.0] * 3  # 20, 20 and the 10 that are left
    assert budget.spend(1, 20) == pytest.approx(0.2)  # the frame itself
    assert budget.spend(1, 20) == pytest.approx(0.3)


def test_what_is_longer_than_that_costs_what_it_costs() -> None:
    budget = Budget(FakeClock(), 50, 10)
    assert budget.spend(100, 20) == pytest.approx(5.1)


@pytest.mark.parametrize(
    ("address", "whom"),
    [
        ("10.0.0.21:40312", "10.0.0.21"),
        ("[2001:db8::2]:9", "2001:db8::/64"),
        ("[fe80::1%eth0]:9", "fe80::/64"),
        ("somewhere:7", "somewhere"),
        ("somewhere", "somewhere"),
    ],
)
def test_whom_something_is_counted_for(address: str, whom: str) -> None:
    assert network(address) == whom
