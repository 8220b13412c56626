"""The decoder's C code on other processors gives the same picture: baseline x86-64, 32 bits, and ARM under QEMU.

They need Debian's qemu-user-static and the cross compilers gcc-aarch64-linux-gnu and gcc-i686-linux-gnu.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.arithmetic import grid
from pixelcnn.codec.container import payload_of, unpack
from pixelcnn.codec.entropy import Decoder
from pixelcnn.exact import prepare
from pixelcnn.sampling import native
from pixelcnn.sampling.native.layout import Plan
from pixelcnn.sampling.native.packing import packed
from pixelcnn.sampling.native.structures import PlanStruct

SOURCE = Path(__file__).parents[1] / "helpers" / "decode.c"
PROCESSORS = {
    "x86-64 without AVX": (["gcc", "-march=x86-64"], []),
    "32 bits": (["i686-linux-gnu-gcc", "-msse2", "-mfpmath=sse", "-static"], ["qemu-i386-static"]),
    "ARM": (["aarch64-linux-gnu-gcc", "-static"], ["qemu-aarch64-static"]),
}
PANEL = 4  # columns of a panel with vectors of 16 bytes


def pieces_of(prepared, data):
    """What decode.c reads."""
    network = packed(prepared, PANEL)
    plan = Plan(network, 1)
    names = [name for name, _ in PlanStruct._fields_]
    integers = [getattr(plan.struct, name) for name in names[names.index("slot_count") :]]
    _, [span] = unpack(data)
    decoder = Decoder(payload_of(data, span, "it is"))
    state = decoder.state()
    yield np.array(integers, dtype=np.int64)
    yield from plan._arrays
    yield from (table.numpy() for table in grid.tables())
    yield np.array([plan.arena().size], dtype=np.int64)
    yield np.array([network.schedule.wavefront.steps], dtype=np.int64)
    yield np.array([state.x, state.count], dtype=np.uint64)
    yield decoder._words


def pictures():
    photo = pixelcnn.PhotoPixelCNN((3, 17, 14), filters=12, blocks=2, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.meshgrid(torch.arange(17), torch.arange(14), indexing="ij")
    smooth = (7 * rows + 5 * columns) % 256 + torch.randint(9, (3, 17, 14), generator=torch.Generator().manual_seed(0))
    yield photo, smooth.clamp(max=255).to(torch.uint8)[None]
    yield pixelcnn.load("mnist-gray"), pixelcnn.datasets.mnist("test", 256)[0][:1]
    digit = pixelcnn.load("mnist")
    yield digit, pixelcnn.datasets.mnist("test")[0][:1]


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_same_picture(processor, tmp_path):
    compiler, emulator = PROCESSORS[processor]
    missing = [name for name in (compiler[0], *emulator) if shutil.which(name) is None]
    if missing:
        pytest.skip(f"there is no {missing[0]}")
    flags = ["-O3", "-ffp-contract=fast", "-DREAL=double", "-DEXACT", "-DLEVEL=uint8_t", "-DVECTOR_BYTES=16"]
    program, source = tmp_path / "decode", Path(native.__file__).parent
    subprocess.run([*compiler, *flags, "-I", source, "-o", program, SOURCE, "-lm"], check=True)
    for model, image in pictures():
        prepared = prepare(model)
        data = pixelcnn.compress(prepared, image)
        with (tmp_path / "data").open("wb") as file:
            for piece in pieces_of(prepared, data):
                content = np.ascontiguousarray(piece).tobytes()
                file.write(struct.pack("<q", len(content)) + content)
        done = subprocess.run([*emulator, program, tmp_path / "data"], capture_output=True, check=True)
        assert done.stdout == image.numpy().tobytes()
