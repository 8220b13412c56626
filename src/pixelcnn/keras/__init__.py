"""Weights of the Keras example "PixelCNN", read from and written to Keras's files without Keras.

`reading.read_weights` reads every format that Keras has had, `network.from_keras` makes a `pixelcnn.PixelCNN` of the
weights and `network.to_keras` goes back, and `hdf5.write_weights` writes. Nothing that a file says is run: no layer is
built and nothing is unpickled.
"""
