"""Small models of every kind, with weights that matter, and images for them."""

import torch

import pixelcnn


def photo():
    """Its distributions begin narrow, as for photographs; these are for images of noise."""
    model = pixelcnn.PhotoPixelCNN((3, 4, 5), levels=256, filters=4, blocks=1, mixtures=2)
    with torch.no_grad():
        model.linear.bias[8:14] = -1.0
    return model


MODELS = {
    "pixelcnn": lambda: pixelcnn.PixelCNN((1, 6, 5), filters=8, blocks=2),
    "pixelcnn-colour": lambda: pixelcnn.PixelCNN((3, 4, 5), levels=4, filters=9, blocks=1),
    "gated": lambda: pixelcnn.GatedPixelCNN((1, 5, 6), levels=4, filters=6, layers=3, num_classes=3),
    "vector": lambda: pixelcnn.GatedPixelCNN((1, 4, 4), filters=6, layers=2, condition_dim=2),
    "attention": lambda: pixelcnn.GatedPixelCNN((2, 5, 4), levels=3, filters=6, layers=3, attention=1),
    "plusplus": lambda: pixelcnn.PixelCNNPlusPlus((3, 4, 5), levels=7, filters=6, blocks=1, mixtures=3),
    "context": lambda: pixelcnn.GatedPixelCNN(
        (1, 7, 6), levels=4, filters=4, layers=2, first_kernel=5, places=True, context=(4, 2), num_classes=3
    ),
    "plusplus-context": lambda: pixelcnn.PixelCNNPlusPlus(
        (2, 5, 4), levels=7, filters=4, blocks=1, mixtures=2, kernel_size=(5, 3), context=(3,), attention=1
    ),
    "photo": photo,
    "plusplus-attention": lambda: pixelcnn.PixelCNNPlusPlus(
        (1, 5, 5), levels=256, filters=6, blocks=1, mixtures=3, attention=1
    ),
}


def built(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for layer in model.masked_layers:
            layer.weight.mul_(2)
            layer.bias.uniform_(-0.5, 0.5)
    return model


def inputs(model, n):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(model.levels, (n, *model.image_shape), generator=generator).to(torch.uint8)
    if getattr(model.config, "num_classes", None):
        return images, torch.arange(n) % 3
    return images, torch.randn(n, 2, generator=generator) if getattr(model.config, "condition_dim", None) else None
