"""Models as ONNX graphs: the whole forward pass, and one step of the sampler.

Both are made from the recorded program (`pixelcnn.sampling.program`), so no network is written twice. `full.full_graph`
and `step.step_graph` make them; `examples/sample_onnx.py` samples with the second, without torch.
"""
