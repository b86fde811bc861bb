"""A charger that is taken out of the configuration by the API, over the real gateway: it is served no more."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.site import answers
from tests.e2e.test_ocpp_site import SITE, Gateway, until
from tests.ports import free_port


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    found = Gateway(tmp_path, free_port(), free_port())
    found.config.write_text(SITE.format(folder=tmp_path, api=found.api_port, ocpp=found.ocpp_port))
    return found


def test_a_charger_that_is_taken_out_waits_and_comes_back_when_it_is_adopted_again(gateway: Gateway) -> None:
    entry = {"id": "cp3", "driver": "ocpp", "charge_point_id": "CP-0003"}

    async def main() -> None:
        async with gateway.charger("CP-0003", "2.0.1", None) as charger:

            async def waits() -> bool:
                pending = (await gateway.get("/api/chargers/pending"))["items"]
                return [one["reason"] for one in pending if one["connected"]] == ["unknown"]

            async def served() -> bool:
                return charger.registered == "Accepted"

            await until(waits, "it knocks")
            assert (await gateway.send("POST", "/api/devices", entry))["adoption"]["outcome"] == "set"
            await until(served, "it is served")
            await gateway.send("DELETE", "/api/devices/cp3", None)
            # No pause: taking it out has been applied when it is answered.
            assert (await gateway.get("/api/devices"))["total"] == 0
            await until(waits, "it is a stranger again")
            answer = await gateway.send("POST", "/api/devices", entry)
            assert answer["adoption"]["outcome"] == "pinned", "it presents the password that it was given"
            await until(served, "it is served again")

    with gateway.running():
        asyncio.run(main())
        assert answers(f"{gateway.url}/api/system/health")
