"""In the guest: why a trial failed is said at once, for whoever waits outside may give up before the end."""

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Each trial's duration, and its failure in full."""
    if report.failed or report.when == "call":
        print(f" {report.nodeid.rpartition('::')[2]}: {report.outcome} in {report.duration:.0f} s", flush=True)
    if report.failed:
        print(report.longreprtext, flush=True)
