"""Fifty visitors at once, on loopback (`make test-browser`)."""

import asyncio
import json
import re

import httpx
import pytest

from running import running

pytestmark = pytest.mark.browser


@pytest.fixture
def server(tmp_path):
    with running("mnist-seed", cwd=tmp_path) as server:
        yield server


async def ask(client, number):
    """One request as a browser sends it: "served", or the message of the refusal."""
    session = f"visitor{number}"
    config = (await client.get("/config")).json()
    (draw,) = [event["id"] for event in config["dependencies"] if event["api_name"] == "draw"]
    body = {
        "data": ["mnist-seed", "any", 25, 1.0, 1.0, number, True, "none", None],
        "fn_index": draw,
        "session_hash": session,
    }
    answer = await client.post("/gradio_api/queue/join", json=body)
    if answer.status_code != 200:
        return answer.json()["detail"]
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            if not line.startswith("data:"):
                continue
            message = json.loads(line.removeprefix("data:"))
            if message["msg"] == "process_completed":
                assert message["success"], message
                return "served" if "25 images" in json.dumps(message["output"]) else message
    raise AssertionError("the stream ended without an answer")


def test_fifty_at_once_are_served_or_refused_in_bounded_memory(server):
    async def rush(first):
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)  # none that the server closes just then
        async with httpx.AsyncClient(base_url=server.address, timeout=300, limits=limits) as client:
            return await asyncio.gather(*(ask(client, first + k) for k in range(50)))

    asyncio.run(rush(0))  # threads, caches and libraries are there from now on
    before = server.memory()
    for first in (100, 200):
        answers = asyncio.run(rush(first))
        refused = [answer for answer in answers if answer != "served"]
        assert len(answers) == 50
        assert 32 <= answers.count("served") < 50
        assert all(re.match(r"Queue is full\. Max size is 32", answer) for answer in refused)
    assert server.memory() - before < 150 * 2**20
