"""What uvicorn is told otherwise than it would do by itself: its defaults wait for ever and believe everybody."""

from starlette.types import Receive, Scope, Send

from agent.api.server import _config


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Nobody calls it."""


def test_no_default_of_uvicorn_s_is_left_that_strangers_could_use() -> None:
    config = _config(app)
    assert config.ws == "none", "there are no WebSockets, so none can be hijacked or flooded"
    assert not config.server_header
    assert not config.proxy_headers, "who asks is who is connected, whatever X-Forwarded-For says"
    assert config.limit_concurrency is not None
    assert config.limit_concurrency <= 100
    assert config.timeout_graceful_shutdown is not None, "an open stream would hold up the stop for ever"
    assert config.timeout_graceful_shutdown <= 10
    assert config.timeout_keep_alive <= 30
    assert not config.access_log
