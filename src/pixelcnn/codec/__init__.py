"""The lossless codec: images as about as many bytes as the model's likelihood implies, and back, bit for bit.

The probabilities are those of the model rounded to a fixed grid (`pixelcnn.exact`): integer frequencies that are the
same on every machine and for every batch, so a decoder never falls out of step with the encoder. Both follow the
wavefront, as sampling does; the encoder reads the levels, and the decoder writes those that the stream gives.

    >>> import pixelcnn
    >>> model = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    >>> images = model.sample(10)
    >>> data = pixelcnn.compress(model, images)
    >>> bool((pixelcnn.decompress(model, data) == images).all())
    True

The bytes are specified in docs/format.md.
"""

from pixelcnn.codec.container import Header, StreamError, joined, read_header, separated
from pixelcnn.codec.stream import Stream, compress, decompress, decompress_with_labels, find_model

__all__ = [
    "Header",
    "Stream",
    "StreamError",
    "compress",
    "decompress",
    "decompress_with_labels",
    "find_model",
    "joined",
    "read_header",
    "separated",
]
