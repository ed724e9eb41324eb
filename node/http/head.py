"""HEAD for everything that answers GET: the same answer, without its body.

Not for the API below `/v1`, whose table of routes says what each path takes.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/v1"


class HeadAsGet:
    """Around the application. Whatever answers does not know that nobody wants the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["type"] == "http" and (scope["path"] == API or scope["path"].startswith(f"{API}/"))
        if scope["type"] != "http" or scope["method"] != "HEAD" or is_api:
            return await self._app(scope, receive, send)
        inner = {**scope, "method": "GET"}
        is_answered = False

        async def send_head(message: Message) -> None:
            nonlocal is_answered
            if message["type"] != "http.response.start":
                return
            is_answered = True
            if "route" in inner:
                # Whoever counts requests by their routes looks for it there.
                scope["route"] = inner["route"]
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_until_answered() -> Message:
            # A stream of events would go on for ever, for a reader who has what he wanted.
            return {"type": "http.disconnect"} if is_answered else await receive()

        return await self._app(inner, receive_until_answered, send_head)
