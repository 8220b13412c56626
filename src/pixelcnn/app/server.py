"""Runs the page on a host and port until Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from pixelcnn.app import Served, page, require_gradio
from pixelcnn.app.guard import Guard
from pixelcnn.app.limits import Limits
from pixelcnn.app.theme import theme

__all__ = ["serve"]

_STYLE = Path(__file__).parent / "style.css"


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
        models: What is served.
        limits: What a visitor may ask for.
        host: The address to listen at: only this machine can reach the default one.
        port: 0 takes one that is free.
        ready: Told the page's address as soon as it can be visited.

    Raises:
        ValueError: If gradio is not installed, or the port is taken.
        OSError: If the host cannot be listened at.
    """
    require_gradio()
    with _listening(host, port) as sock, tempfile.TemporaryDirectory(prefix="pixelcnn-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # before gradio is imported: what it keeps goes with the server
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        _run(models, limits, sock, ready)


def _run(models: Sequence[Served], limits: Limits, sock: socket.socket, ready: Callable[[str], object]) -> None:
    import fastapi
    import gradio as gr
    import uvicorn

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
        css_paths=_STYLE,
    )
    config = uvicorn.Config(
        Guard(app, limits.body),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=16 * (limits.queue + limits.concurrency),
    )

    class Server(uvicorn.Server):  # type: ignore[misc]  # its types are there only where it is installed
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            name, port = sock.getsockname()[:2]
            ready(f"http://{f'[{name}]' if ':' in name else name}:{port}")

    with contextlib.suppress(KeyboardInterrupt), _terminated_like_interrupted(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the effective sample size fell below")  # the page says so itself
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # which the page tells the visitor
        Server(config).run([sock])


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Uvicorn ends in peace after both signals, and then sends itself the one that it got."""
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is bound before anything is loaded, so that a taken port is known at once."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise ValueError(f"host must be an address of this machine, got {host!r}") from None
    with socket.socket(family, kind, number) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError as error:
            raise ValueError(
                f"cannot listen at {host}, port {port}: {(error.strerror or str(error)).lower()}"
            ) from None
        yield sock
