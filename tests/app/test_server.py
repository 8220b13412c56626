"""The server: its guard, its end, its errors, and the hosted Space that runs the same page."""

import asyncio
import re
import runpy
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import pixelcnn
from pixelcnn.app import Limits
from pixelcnn.app.server import Guard
from pixelcnn.cli import main
from running import running

ROOT = Path(__file__).parent.parent.parent


def ask(address, path, data=None):
    """Status, headers and body of an answer."""
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.browser  # for it takes as long
def test_a_server_from_start_to_end(tmp_path):
    """It answers on loopback alone, gives out no file, keeps none, takes no long message, and ends by Ctrl-C."""
    own = tmp_path / "temporary"
    own.mkdir()
    elsewhere = {"TMPDIR": str(own), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch")}  # PyTorch makes one of its own
    with running(cwd=tmp_path, env=elsewhere) as server:
        status, headers, body = ask(server.address, "/")
        assert status == 200
        assert "default-src 'self'" in headers["content-security-policy"]
        page = body.decode()
        assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?:", page)
        assert '"analytics_enabled":false' in page.replace(" ", "")
        secret = tmp_path / "secret.txt"
        secret.write_text("not for you")
        for path in (secret, ROOT / "README.md", Path("/etc/hostname")):
            status, _, body = ask(server.address, f"/gradio_api/file={path}")
            assert status == 403, path
            assert b"not for you" not in body
        for path in ("upload", "upload?upload_id=1", "process_recording", "component_server", "vibe-edit", "deep_link"):
            status, _, body = ask(server.address, f"/gradio_api/{path}", b"left here")
            assert (status, body) == (403, b"the page does not use this address"), path
        status, _, _ = ask(server.address, "/upload", b"left here")
        assert status in (404, 405)
        (folder,) = own.iterdir()
        assert not [path for path in folder.rglob("*") if path.is_file()]
        status, _, body = ask(server.address, "/gradio_api/queue/join", b"[" + b"0," * 2**20)
        assert status == 413
        assert body == b"a message may have at most 1048576 bytes"
        status, _, body = ask(server.address, "/gradio_api/queue/join", b"{}")
        assert status == 422
        port = int(server.address.rpartition(":")[2])
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", port))  # this machine by another name
        assert [folder.name.startswith("pixelcnn-") for folder in own.iterdir()] == [True]
        assert server.stop(signal.SIGINT) == (0, "")
        assert list(own.iterdir()) == []


def guarded(messages, headers=()):
    """What a guard of 10 bytes sends for messages of a request's body, and what the application behind it read."""
    sent, read = [], []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            read.append(message)
            if message["type"] == "http.disconnect":
                return
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"referrer-policy", b"unsafe-url")]})
        await send({"type": "http.response.body", "body": b"fine"})

    waiting = iter(messages)

    async def receive():
        return next(waiting)

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app, 10)({"type": "http", "path": "/", "headers": list(headers)}, receive, send))
    return sent, read


def body(content, more=False):
    return {"type": "http.request", "body": content, "more_body": more}


def test_the_guard_ends_messages():
    (start, end), _ = guarded([body(b"12345", more=True), body(b"67890")])
    assert (start["status"], end["body"]) == (200, b"fine")
    assert dict(start["headers"])[b"referrer-policy"] == b"no-referrer"
    (start, _), read = guarded([body(b"12345", more=True), body(b"678901", more=True)])
    assert start["status"] == 413
    assert [message.get("body") for message in read] == [b"12345", None]
    for declared in (b"11", b"-1", b"many"):
        (start, _), read = guarded([body(b"")], [(b"content-length", declared)])
        assert start["status"] == 413
        assert read == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nothing"],
            "no model 'nothing': neither a shipped model (mnist, mnist-gray, mnist-seed, photos) nor a folder; one "
            "on the Hub is user/name",
        ),
        (["mnist-seed", "mnist-seed"], "each MODEL may be given once, got mnist-seed twice"),
        (["--queue", "0"], "queue must be an integer in 1..1024, got 0"),
        (["--images", "5000"], "images must be an integer in 1..1024, got 5000"),
        (["--concurrency", "0"], "concurrency must be an integer in 1..1024, got 0"),
        (["--host", "no such host"], "host must be an address of this machine, got 'no such host'"),
        (["--host", "a..b"], "host must be an address of this machine, got 'a..b'"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1, port 7860: cannot assign requested address"),
        (["--port", "TAKEN"], "cannot listen on 127.0.0.1, port TAKEN: address already in use"),
        (["--port", "70000"], "--port must be in 0..65535, got 70000"),
        (["--device", "tpu"], "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", *(port if a == "TAKEN" else a for a in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"pixelcnn: {message.replace('TAKEN', port)}\n"


def test_the_space_serves_the_shipped_models(monkeypatch):
    served = []
    monkeypatch.setattr(
        "pixelcnn.app.server.serve", lambda models, limits, **rest: served.append((models, limits, rest))
    )
    runpy.run_path(str(ROOT / "apps" / "space" / "app.py"), run_name="__main__")
    ((models, limits, rest),) = served
    assert [model.name for model in models] == ["mnist", "mnist-gray", "mnist-seed", "photos"]
    assert limits == Limits()
    assert rest == {"host": "0.0.0.0", "port": 7860}


def test_the_space_is_pinned_to_what_was_tested():
    import gradio

    def pins_of(path):
        lines = path.read_text(encoding="utf-8").splitlines()
        pinned = (line.split("==") for line in lines if not line.startswith(("#", "--")))
        return {re.sub(r"[-_.]+", "-", name).lower(): version.removesuffix("+cpu") for name, version in pinned}

    requirements = ROOT / "apps" / "space" / "requirements.txt"
    pins = pins_of(requirements)
    assert re.search(r"^torch==.*\+cpu$", requirements.read_text(encoding="utf-8"), re.MULTILINE)  # a Space has no GPU
    assert pins["pixelcnn[app,native]"] == pixelcnn.__version__
    assert pins["gradio"] == gradio.__version__
    readme = (ROOT / "apps" / "space" / "README.md").read_text(encoding="utf-8")
    front = dict(line.split(": ", 1) for line in readme.split("---\n")[1].splitlines())
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == pins["gradio"]
    assert (ROOT / "apps" / "space" / front["app_file"]).is_file()
    common = pins_of(ROOT / "constraints.txt")
    assert not {name for name, version in common.items() if pins.get(name, version) != version}
    assert sys.version_info[:2] >= tuple(map(int, front["python_version"].strip('"').split(".")))
