"""What happens around the start of a gateway, in this process."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.alarm_sets import ReadyMade
from agent.app import Gateway
from agent.config import load_config
from agent.config_control import Alarm
from agent.control.alarm_model import RuleSpec
from agent.control.alarms import AlarmBook
from agent.core.clock import SystemClock
from agent.core.errors import ConfigError


def test_a_change_of_the_file_while_the_site_starts_is_applied(tmp_path: Path) -> None:
    text = f'data_dir: {tmp_path}/data\nsite: {{id: test, name: old}}\napi: {{listen: "127.0.0.1:0"}}\n'
    path = tmp_path / "site.yaml"
    path.write_text(text)
    gateway = Gateway(load_config(path, {}), SystemClock(), path)
    path.write_text(text.replace("old", "a newer one"))

    async def check() -> None:
        async with gateway.running():
            assert gateway.overview is not None
            for _ in range(2400):
                if gateway.overview.site().name == "a newer one":
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("the change was missed")

    asyncio.run(check())


@pytest.mark.announced_warnings
def test_a_ready_made_alarm_that_can_not_be_made_takes_none_of_the_sites_own_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[set[str]] = []
    apply = AlarmBook.apply

    def remember(self: AlarmBook, specs: Sequence[RuleSpec], *rest: Any) -> list[str]:  # noqa: ANN401 - handed on
        judged.append({one.id for one in specs})
        return apply(self, specs, *rest)

    def refuse(_self: ReadyMade, configured: object, *_: object) -> list[Alarm]:
        if configured is None:
            raise ConfigError("alarm_sets, odd", "it can't be made")
        return []

    monkeypatch.setattr(AlarmBook, "apply", remember)
    monkeypatch.setattr(ReadyMade, "alarms", refuse)
    path = tmp_path / "site.yaml"
    path.write_text(f'data_dir: {tmp_path}/data\nsite: {{id: test}}\nalarms: [{{id: mine, when: "a.soc_pct < 10"}}]\n')
    gateway = Gateway(load_config(path, {}), SystemClock(), path)

    async def check() -> None:
        async with gateway.running():
            for _ in range(2400):
                if judged:
                    return
                await asyncio.sleep(0.05)

    asyncio.run(check())
    assert judged[-1] == {"mine"}
