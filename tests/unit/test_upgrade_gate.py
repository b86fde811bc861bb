"""What a new version must be to pass: it runs, and the site is no worse than before."""

from collections.abc import Mapping

import pytest

from agent.upgrade.gate import Seen, faults
from agent.upgrade.letters import Answer, DeviceHealth


def seen(
    devices: Mapping[str, str] | None = None,
    parts: Mapping[str, bool] | None = None,
    *,
    version: str = "2.0",
    api: bool = True,
) -> Seen:
    """Devices are ``driver/name``."""
    found = {
        name.partition("/")[2]: DeviceHealth(driver=name.partition("/")[0], state=state)
        for name, state in (devices or {}).items()
    }
    return Seen(Answer(nonce="n", version=version, boot="b", parts={"db": True, **(parts or {})}, devices=found), api)


NOBODY = Seen(None, api=False)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (seen(), seen(), []),
        (NOBODY, seen({"can/b": "offline"}, {"uplink": False}), []),
        (seen(), NOBODY, ["the gateway does not answer"]),
        (seen(), seen(version="1.0"), ["version 1.0 runs"]),
        (NOBODY, seen(parts={"db": False}), ["its store is not well"]),
        (seen(parts={"db": False}), seen(parts={"db": False}), ["its store is not well"]),
        (seen(), seen(api=False), ["the API does not answer"]),
        (seen(api=False), seen(api=False), []),
        (seen(parts={"uplink": True}), seen(parts={"uplink": False}), ["uplink is not well"]),
        (seen(), seen(parts={"api": False}), ["api is not well"]),
        (seen(parts={"uplink": False}), seen(parts={"uplink": False}), []),
        (seen({"can/b": "online"}), seen({"can/b": "starting"}), ["device b is not online"]),
        (seen({"can/b": "online"}), seen(), ["device b is not online"]),
        (seen({"can/b": "offline"}), seen({"can/b": "offline"}), []),
        (seen({"ocpp/a": "online", "ocpp/b": "online"}), seen({"ocpp/b": "online", "ocpp/a": "offline"}), []),
        (seen({"ocpp/a": "online"}), seen({"ocpp/a": "offline"}), ["none of 1 devices with driver ocpp is back"]),
        (seen({"can/b": "offline"}), seen({"can/b": "online", "can/c": "offline"}), []),
    ],
)
def test_a_site_that_is_no_worse_than_before_passes(before: Seen, now: Seen, told: list[str]) -> None:
    assert faults(before, now, "2.0") == told
