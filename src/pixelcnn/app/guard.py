"""What stands before the page: browsers load nothing from elsewhere, nobody leaves files, and a message has an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}
_API = "/gradio_api/"
_OPEN = {"app_id", "call", "cancel", "heartbeat", "info", "login_check", "queue", "reset", "run", "startup-events"}
_OPEN |= {"theme.css", "token", "user"}
_PATIENCE = 16


class Guard:
    """ASGI middleware: adds headers that keep the page to its own server, and refuses long messages (status 413).

    Of Gradio's interface it lets through what the page and `gradio_client` need to run its events, and refuses the rest
    (403), files that are left or fetched above all: a picture travels within a message, and the disk stays as it is.

    Args:
        app: What is guarded.
        most: Bytes of one message's body. What declares itself longer is refused, what turns out longer is cut off
            there. A body of less than 16 times as much is read to its end first, and thrown away: who sends it would
            otherwise find the connection broken, and not the answer.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received, refused, begun = 0, False, False

        too_long = f"a message may have {self._most} bytes"

        async def refuse(status: int, words: str) -> None:
            nonlocal refused, begun
            refused = begun = True
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": words.encode()})

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received <= self._most:
                return message
            if not begun:
                await refuse(413, too_long)
            return {"type": "http.disconnect"}

        async def answered(message: Message) -> None:
            nonlocal begun
            if refused:
                return
            begun = True
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message.get("headers", []) if name not in _HEADERS]
                message = {**message, "headers": [*kept, *_HEADERS.items()]}
            await send(message)

        async def refuse_after_body(status: int, words: str) -> None:
            left = int(declared) if declared.isdigit() else 0
            while 0 < left <= _PATIENCE * self._most:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await refuse(status, words)

        path = scope["path"]
        if path.startswith(_API) and path.removeprefix(_API).split("/")[0] not in _OPEN:
            await refuse_after_body(403, "the page has no use for this")
            return
        if not declared.isdigit() or int(declared) > self._most:
            await refuse_after_body(413, too_long)
            return
        await self._app(scope, counted, answered)
