"""The page as a hosted Space: the shipped models, at the address and port that a Space expects."""

import torch

from pixelcnn.app import Limits, load_models
from pixelcnn.app.server import serve
from pixelcnn.models.folder import shipped_models

if __name__ == "__main__":
    serve(load_models(shipped_models(), torch.device("cpu")), Limits(), host="0.0.0.0", port=7860)
