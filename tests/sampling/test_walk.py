"""The front on the grid is what whole images are, to the bit, in PyTorch and in compiled code, alone or in a team."""

import threading

import numpy as np
import pytest
import torch

from pixelcnn.codec.entropy import Decoder
from pixelcnn.exact import prepare
from pixelcnn.sampling.native.coding import NativeCoder, encode
from pixelcnn.sampling.walk import Walk
from twins import MODELS, built, inputs


@pytest.mark.parametrize("name", MODELS)
def test_the_walk_sees_what_whole_images_say(name):
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 5)
    expected = prepared.cumulative(images, labels)  # (N, C, H, W, levels + 1)
    given = images.flatten(2).long()
    seen = torch.zeros_like(expected.flatten(2, 3))

    def choose(channel, pixels, params):
        seen[:, channel, pixels] = prepared.likelihood.cumulative(params).transpose(0, 1)
        return given[:, channel, pixels].t()

    made = torch.zeros_like(images)
    walk = Walk(prepared, 5, conditional=labels is not None)
    walk.start(prepared.condition_of(labels, 5))
    for step in walk.steps:
        walk.step(prepared, step, made, choose)
    assert torch.equal(made, images)
    assert torch.equal(seen.view_as(expected), expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_team_sees_what_one_alone_sees(name):
    prepared = prepare(built(name))
    images, labels = inputs(prepared.model, 7)
    condition = prepared.model.condition_of(labels, 7)
    found = []
    for threads in (1, 2, 3, 7, 9):
        native = NativeCoder(prepared, 7, conditional=labels is not None, threads=threads)
        for _ in range(2):  # what one group left does not reach the next
            edges = native.edges(images, condition)
            decoded = torch.zeros_like(images)
            decoder = Decoder(encode(edges))  # whose words the state points to
            native.decode(decoded, condition, decoder.state())
            found.append(edges)
            assert torch.equal(decoded, images)
    assert all(np.array_equal(edges, found[0]) for edges in found)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt("can't start new thread")])
def test_a_team_that_lacks_a_thread_is_an_error_and_no_hang(error, monkeypatch):
    prepared = prepare(built("pixelcnn"))
    images, _ = inputs(prepared.model, 4)
    native = NativeCoder(prepared, 4, conditional=False, threads=4)
    started = []

    class Scarce(threading.Thread):
        def start(self):
            if len(started) == 2:
                raise error
            started.append(self)
            super().start()

    monkeypatch.setattr("pixelcnn.sampling.native.coding.threading.Thread", Scarce)
    with pytest.raises(type(error), match="can't start new thread"):
        native.edges(images, None)
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
