"""Fuzzing of the decoder with atheris: `make fuzz`, or `python tests/codec/fuzz.py raw|repaired [libFuzzer's options]`.

In both modes the seeds are the golden streams and small ones of every model; coverage is that of `pixelcnn.codec`.

- raw: the bytes as they are. What decodes must decode to images of the header's shape.
- repaired: checksums, the model's identity and the images' shape are made right first, and digests are not looked at,
  so that what is mutated gets to the payloads, the coder and the notes. What decodes, in part as well, must have levels
  and classes of the model, and be what the encoder makes these payloads of; one input of sixteen is decoded without
  compiled code too, which must say the same.

Anything but StreamError is a finding, and so is more than a minute or 3 GiB.
"""

import math
import sys
import tempfile
from pathlib import Path

import torch

import pixelcnn
from pixelcnn.exact import prepare

sys.path.append(str(Path(__file__).parents[1] / "helpers"))  # run as a program
from streams import HEADER, any_digest, blocks_of, engine, groups_of, header_of, repaired, with_header
from twins import MODELS, built, inputs

GOLDEN = Path(__file__).parent / "golden"
MOST_BYTES = {"raw": 2**14, "repaired": 2**12}  # of images: most inputs do not get as far in the former
NAMES = [name for name in MODELS if name != "vector"]  # whose classes are vectors


class Target:
    """What is called with bytes."""

    def __init__(self, mode):
        assert mode in MOST_BYTES, mode
        import pixelcnn.codec  # not before `main` has it instrumented

        self.mode, self.codec = mode, pixelcnn.codec
        self.prepared = [prepare(built(name)) for name in NAMES]
        self.prepared += [
            prepare(pixelcnn.load(name)) for name in sorted({p.stem.partition("-groups")[0] for p in GOLDEN.iterdir()})
        ]
        self.of_identity = {bytes.fromhex(p.identity)[:16]: p for p in self.prepared}
        self.calls = self.decoded = self.twice = 0

    def seeds(self):
        """Streams, as bytes."""
        yield from (path.read_bytes() for path in sorted(GOLDEN.iterdir()))
        for prepared in self.prepared[: len(NAMES)]:
            images, labels = inputs(prepared.model, 5)
            for options in ({}, {"chunk": 2}, {"chunk": 3, "notes": {"names": ["a", "b"], "x": [1, None, 0.5]}}):
                with groups_of(2):
                    yield pixelcnn.compress(prepared, images, labels, **options)
            yield pixelcnn.compress(prepared, images[:1])

    def __call__(self, data):
        self.calls += 1
        if self.mode == "raw":
            self.check(self.of_identity.get(data[6:22], self.prepared[0]), data)
        elif len(data) >= HEADER.size + 4:
            self.check_repaired(data)

    def check_repaired(self, data):
        prepared = self.of_identity.get(data[6:22]) or self.prepared[data[6] % len(self.prepared)]
        model = prepared.model
        c, h, w = model.image_shape
        right = {"identity": bytes.fromhex(prepared.identity)[:16], "channels": c, "height": h, "width": w}
        data = repaired(with_header(data, **right, magic=b"PXCN", version=1, levels=model.levels))
        with any_digest():
            found = self.check(prepared, data)
            if found is not None:
                self.check_again(prepared, data, *found)
                first = data[52] % len(found[0])
                part = self.check(prepared, data, first=first, n=1 + data[53] % (len(found[0]) - first))
                assert torch.equal(part[0], found[0][first : first + len(part[0])])
            header = header_of(data)
            if self.calls % 16 == 0 and h * w <= 30 and header["count"] <= 8 * header["per_group"]:
                self.twice += 1
                with engine("eager"):
                    other = self.check(prepared, data)
                assert (found is None) == (other is None)
                assert found is None or torch.equal(found[0], other[0])

    def check(self, prepared, data, **options):
        """What it decodes to; None if it is refused."""
        try:
            images, labels = self.codec.decompress_with_labels(
                prepared, data, most_bytes=MOST_BYTES[self.mode], **options
            )
        except self.codec.StreamError:
            return None
        self.decoded += 1
        model = prepared.model
        assert images.dtype == torch.uint8
        assert images.shape[1:] == model.image_shape
        assert int(images.max()) < model.levels
        if labels is not None:
            assert labels.shape == images.shape[:1]
            assert labels.dtype == torch.int64
            assert 0 <= int(labels.min()) <= int(labels.max()) < model.config.num_classes
        return images, labels

    @staticmethod
    def check_again(prepared, data, images, labels):
        """No two payloads are the same images."""
        header = header_of(data)
        with groups_of(header["per_group"]):
            again = pixelcnn.compress(prepared, images, labels, chunk=header["per_chunk"])
        chunks = math.ceil(header["count"] / header["per_chunk"])
        payloads = [data[start:end] for start, end in blocks_of(data)[-chunks:]]
        assert [again[start:end] for start, end in blocks_of(again)] == payloads


def main(mode, *options):
    """Runs libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["pixelcnn.codec"]):
        import pixelcnn.codec  # noqa: F401
    torch.set_num_threads(1)
    torch.manual_seed(0)
    target = Target(mode)
    corpus = Path(tempfile.mkdtemp(prefix="pixelcnn-fuzz-"))
    for k, seed in enumerate(target.seeds()):
        (corpus / f"seed-{k}").write_bytes(seed)

    def call(data):
        target(data)
        if target.calls % 2000 == 0:
            print(f"{mode}: {target.calls} inputs, {target.decoded} decoded, {target.twice} by both", flush=True)

    limits = ["-timeout=60", "-rss_limit_mb=3072", "-max_len=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={corpus}/", *options, str(corpus)], call)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
