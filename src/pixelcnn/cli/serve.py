"""`pixelcnn serve`: the web page."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Annotated

import tyro

from pixelcnn.cli import options


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a web page that draws, completes, scores, compresses and explains (needs the extra `app`).

    It prints its address as soon as it can be visited; Ctrl-C ends it. Only this machine can reach it unless --host
    says otherwise. A request that exceeds the limits is refused with a message on the page.
    """

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL ...]")] = ()
    """Shipped models' names, models' folders, training runs' folders, or models on the Hugging Face Hub, user/name or
    user/name@revision; by default all shipped models."""
    host: str = "127.0.0.1"
    """The address to listen on; 0.0.0.0 lets every machine on the network in."""
    port: int = 7860
    """The port; 0 takes a free one."""
    images: int = 64
    """Most images that one request may ask for."""
    queue: int = 32
    """Most requests that may wait; the next is refused."""
    concurrency: int = 2
    """Most requests that are processed at the same time."""
    device: options.Device = "auto"
    threads: options.Threads = None

    def run(self) -> None:
        """Serves the page until it is stopped."""
        with tempfile.TemporaryDirectory(prefix="pixelcnn-", ignore_cleanup_errors=True) as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder  # whatever gradio keeps, from its import on, goes with the server
            self._serve()

    def _serve(self) -> None:
        try:
            from pixelcnn.app import Limits, load_models
            from pixelcnn.app.server import serve
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise ValueError("gradio is not installed: pip install 'pixelcnn[app]'") from None
        from pixelcnn.devices import device_of
        from pixelcnn.models.folder import shipped_models

        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port must be in 0..65535, got {self.port}")
        limits = Limits(images=self.images, queue=self.queue, concurrency=self.concurrency)
        models = load_models(self.models or shipped_models(), device_of(self.device))

        def ready(address: str) -> None:
            print(f"serving {', '.join(served.name for served in models)} at {address} (Ctrl-C ends it)", flush=True)

        serve(models, limits, host=self.host, port=self.port, ready=ready)


COMMANDS = {"serve": Serve}
