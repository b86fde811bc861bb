"""What happens around the start of a gateway, in this process."""

import asyncio
from pathlib import Path

from agent.app import Gateway
from agent.config import load_config
from agent.core.clock import SystemClock


def test_a_change_of_the_file_while_the_site_starts_is_applied(tmp_path: Path) -> None:
    text = f'data_dir: {tmp_path}/data\nsite: {{id: test, name: old}}\napi: {{listen: "127.0.0.1:0"}}\n'
    path = tmp_path / "site.yaml"
    path.write_text(text)
    gateway = Gateway(load_config(path, {}), SystemClock(), path)
    path.write_text(text.replace("old", "a newer one"))

    async def check() -> None:
        async with gateway.running():
            assert gateway.overview is not None
            for _ in range(600):
                if gateway.overview.site().name == "a newer one":
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("the change was missed")

    asyncio.run(check())
