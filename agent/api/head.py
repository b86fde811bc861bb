"""HEAD: what GET would answer, without the body (RFC 9110, 9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _EnoughError(Exception):
    """The answer has begun: nobody waits for the rest."""


def answering(app: ASGIApp) -> ASGIApp:
    """ASGI middleware: each route that is read with GET answers HEAD as well.

    What the route does is ended with the first part of its body, so that the head of a stream has an end too.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                if message.get("more_body"):
                    raise _EnoughError
                return
            scope["method"] = "HEAD"  # to who looks at it from outside
            await send(message)

        # Not a copy: who stands outside looks for the route in it.
        scope["method"] = "GET"
        try:
            await app(scope, receive, send_head)
        except _EnoughError:
            pass
        finally:
            scope["method"] = "HEAD"

    return call
