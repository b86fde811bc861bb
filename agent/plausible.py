"""What a value of a known point can hardly be: what a device shows that is read with another model's registers. Pure.

Rules of this file:

1. The bounds are those of the quantity on any site, not of a device: what lies outside is a wrong profile, word order
   or scale, hardly ever a reading. Inside, a value may be wrong all the same.
2. Only points of the vocabulary that are quantities are judged; states, and what has no unit of ours, never are.
3. 0 says nothing. A number that is nearly 0 and is not says much: the words of a float in the wrong order give it.
"""

from collections.abc import Mapping

from agent.core.model import Kind, Number
from agent.core.points import find_point

#: The least and the largest, by the unit. Voltages: DC up to that of PV plants; mains frequencies of 50 and 60 Hz.
_BY_UNIT: Mapping[str, tuple[float, float]] = {
    "V": (-1500, 1500),
    "A": (-10_000, 10_000),
    "Hz": (40, 70),
    "W": (-1e8, 1e8),
    "var": (-1e8, 1e8),
    "VA": (-1e8, 1e8),
    "Wh": (0, 1e13),
    "varh": (0, 1e13),
    "°C": (-60, 250),
}
#: The same by how the point's name begins, where that says more.
_BY_NAME = {
    "cell_voltage_": (0.0, 5.0),
    "power_factor": (-1.0, 1.0),
    "soc_pct": (0.0, 100.0),
    "soh_pct": (0.0, 120.0),
    "humidity_pct": (0.0, 100.0),
}
#: Registers that are signed where the vocabulary is not, and rounding, are no reason to doubt a profile.
_SLACK = 0.01
_LEAST = 1e-12


def doubtful(name: str, value: Number) -> bool:
    """Whether a value can hardly be that of such a point."""
    point = find_point(name)
    if point is None or point.kind is Kind.STATE or not value:
        return False
    bounds = next((one for begin, one in _BY_NAME.items() if name.startswith(begin)), _BY_UNIT.get(point.unit))
    if bounds is None:
        return False
    low, high = bounds
    slack = _SLACK * (high - low)
    return abs(value) < _LEAST or not low - slack <= value <= high + slack
