"""Models as ONNX graphs: the whole forward, and one step of the sampler.

Both come from the recorded program (`pixelcnn.sampling.program`); no network is written again. `full.full_graph` and
`step.step_graph` make them, `examples/sample_onnx.py` draws with the second and without torch.
"""
