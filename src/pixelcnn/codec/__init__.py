"""The lossless codec: images as about as many bytes as the model's likelihood says, and back, to the bit.

What is coded is the model's exact twin (`pixelcnn.exact`): its frequencies are integers that are the same on every
machine and for every batch, so a decoder is never out of step with the encoder. Both walk along the wavefront, as
sampling does, an encoder reading the levels and a decoder writing what the stream says.

    >>> import pixelcnn
    >>> model = pixelcnn.PixelCNN((1, 6, 6), filters=4, blocks=1)
    >>> images = model.sample(10)
    >>> data = pixelcnn.compress(model, images)
    >>> bool((pixelcnn.decompress(model, data) == images).all())
    True

The bytes are specified in docs/format.md.
"""

from pixelcnn.codec.container import Header, StreamError, read_header
from pixelcnn.codec.decoding import Stream, decompress, decompress_with_labels
from pixelcnn.codec.encoding import compress
from pixelcnn.codec.finding import find_model

__all__ = [
    "Header",
    "Stream",
    "StreamError",
    "compress",
    "decompress",
    "decompress_with_labels",
    "find_model",
    "read_header",
]
