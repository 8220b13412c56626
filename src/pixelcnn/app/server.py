"""The server of the page: what stands in front of it, and the page on a host and port until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fastapi
import gradio as gr
import uvicorn
from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelcnn.app import Limits, Served, page, theme
from pixelcnn.processes import handling

__all__ = ["Guard", "serve"]

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

    Of Gradio's interface it lets through what the page and `gradio_client` need to run events, and refuses the rest
    (403), uploads and downloads of files above all: pictures travel within messages, and nothing is written to a disk.

    Args:
        app: The guarded application.
        max_body: Bytes of one message's body. A body that is declared longer is refused; one that turns out longer is
            cut off there. A refused body of less than 16 times as much is first read to its end and thrown away:
            otherwise its sender would see a broken connection instead of the answer.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        received, refused, begun = 0, False, False
        too_long = f"a message may have at most {self._max_body} bytes"

        async def refuse(status: int, words: str) -> None:
            nonlocal refused, begun
            refused = begun = True
            headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": words.encode()})

        async def refuse_after_body(status: int, words: str) -> None:
            left = int(declared) if declared.isdigit() else 0
            while 0 < left <= _PATIENCE * self._max_body:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await refuse(status, words)

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received <= self._max_body:
                return message
            if not begun:
                await refuse(413, too_long)
            return {"type": "http.disconnect"}

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if refused:
                return
            begun = True
            if message["type"] == "http.response.start":
                others = [(name, value) for name, value in message.get("headers", []) if name not in _HEADERS]
                message = {**message, "headers": [*others, *_HEADERS.items()]}
            await send(message)

        path = scope["path"]
        if path.startswith(_API) and path.removeprefix(_API).split("/")[0] not in _OPEN:
            await refuse_after_body(403, "the page does not use this address")
        elif not declared.isdigit() or int(declared) > self._max_body:
            await refuse_after_body(413, too_long)
        else:
            await self._app(scope, receive_bounded, send_with_headers)


def serve(
    models: Sequence[Served],
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    ready: Callable[[str], object] = print,
) -> None:
    """Serves the page; returns after Ctrl-C or SIGTERM.

    Args:
        models: At least one.
        limits: What a visitor may ask for.
        host: The address to listen on; only this machine can reach the default one.
        port: 0 takes a free one.
        ready: Called with the page's address as soon as it can be visited.

    Raises:
        ValueError: If the host or port cannot be listened on.
    """
    with _listening(host, port) as sock:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        _run(models, limits, sock, ready)


def _run(models: Sequence[Served], limits: Limits, sock: socket.socket, ready: Callable[[str], object]) -> None:
    app = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page(models, limits),
        path="",
        allowed_paths=[],
        max_file_size=limits.body,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css_paths=Path(__file__).parent / "style.css",
    )
    config = uvicorn.Config(
        Guard(app, limits.body),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=16 * (limits.queue + limits.concurrency),
    )

    class Server(uvicorn.Server):  # type: ignore[misc]  # typed only where it is installed
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            name, port = sock.getsockname()[:2]
            ready(f"http://{f'[{name}]' if ':' in name else name}:{port}")

    # After either signal uvicorn shuts down in peace, and then raises the signal that it got once more.
    as_ctrl_c = handling(signal.default_int_handler, signal.SIGTERM)
    with contextlib.suppress(KeyboardInterrupt), as_ctrl_c, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the effective sample size fell below")  # the page itself says so
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # becomes a message to the visitor
        Server(config).run([sock])


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound before the page is built, so that a taken port is reported at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):  # the second of labels that no host name has
        raise ValueError(f"host must be an address of this machine, got {host!r}") from None
    with socket.socket(family, kind, protocol) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            raise ValueError(
                f"cannot listen on {host}, port {port}: {(error.strerror or str(error)).lower()}"
            ) from None
        yield sock
