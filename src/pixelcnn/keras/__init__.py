"""Weights of the Keras example "PixelCNN", read from and written to Keras's files without Keras.

`reading.read_weights` reads every format that Keras has had, `conversion` makes a `pixelcnn.PixelCNN` of it and back,
`writing.write_weights` writes. Nothing here runs what a file says: no layer is built, nothing unpickled.
"""
