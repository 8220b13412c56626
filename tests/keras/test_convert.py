"""Every format that Keras wrote, converted: the probabilities are those that Keras computed."""

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.keras.network import check_network, from_keras, to_keras

FORMATS = {
    "keras3.weights.h5": "Keras 3 weights",
    "keras3.keras": "Keras archive",
    "keras3.h5": "whole model, legacy HDF5",
    "keras3-export": "SavedModel",
    "keras3-saved": "SavedModel",
    "keras2.weights.h5": "Keras 3 weights",
    "keras2.keras": "Keras archive",
    "keras2.h5": "whole model, legacy HDF5",
    "keras2.weights-only.h5": "weights, legacy HDF5",
    "keras2-saved": "SavedModel",
}


def probabilities(folder, written):
    images = torch.from_numpy(np.load(written / "images.npy"))
    return torch.sigmoid(pixelcnn.load(folder)(images))[..., 0].detach().numpy()


@pytest.mark.parametrize("name", FORMATS)
def test_probabilities(name, written, tmp_path, capsys):
    has_no_size = "weights" in name
    options = ["--size", "7", "6"] if has_no_size else []
    assert main(["convert-keras", str(written / name), str(tmp_path / "model"), *options]) == 0
    expected = np.load(written / f"{name[:6]}.npy")
    np.testing.assert_allclose(probabilities(tmp_path / "model", written), expected, rtol=0, atol=1e-5)
    out = capsys.readouterr().out
    assert f"{name}: {FORMATS[name]}\n" in out
    assert "filters: 4, residual blocks: 2, parameters: 457\n" in out
    assert f"images of 7 x 6: {'as --size says' if has_no_size else 'as the file says'}\n" in out
    assert " were not zero, the largest 0.0" in out
    assert ("no checksum: exchanged tensors of the same shape would go unnoticed; compare the loss\n" in out) == (
        name.endswith(".h5")
    )
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"the file `{name}`, {FORMATS[name]}" in card
    assert "masked entries: " in card.lower()


def test_masked_entries_are_counted(written, tmp_path, capsys):
    """Against the file itself, by the definition of the masks."""
    h5py = pytest.importorskip("h5py")
    count, largest = 0, 0.0
    with h5py.File(written / "keras3.weights.h5") as file:
        kernels = [(file["layers/pixel_conv_layer/conv/vars/0"][()], False)]
        kernels += [(file[f"layers/residual_block{k}/pixel_conv/conv/vars/0"][()], True) for k in ("", "_1")]
    for kernel, own in kernels:
        size = kernel.shape[0]
        later = kernel.reshape(size * size, -1)[size * size // 2 + own :]
        count += np.count_nonzero(later)
        largest = max(largest, np.abs(later).max())
    assert count > 50
    assert main(["convert-keras", str(written / "keras3.weights.h5"), str(tmp_path / "model")]) == 0
    assert f"masked entries: {count:,} were not zero, the largest {largest:.3g}; now" in capsys.readouterr().out
    for layer in pixelcnn.load(tmp_path / "model").masked_layers:
        assert not layer.weight[layer.mask == 0].any()


def test_the_size(written, tmp_path, capsys):
    out = str(tmp_path / "model")
    assert main(["convert-keras", str(written / "keras3.weights.h5"), out]) == 0
    assert "images of 28 x 28: the example's; the file does not say\n" in capsys.readouterr().out
    assert pixelcnn.load(out).image_shape == (1, 28, 28)
    assert main(["convert-keras", str(written / "keras3.keras"), out, "--size", "6", "7"]) == 2
    assert "--size must be left out or (7, 6), " in capsys.readouterr().err
    assert main(["convert-keras", str(written / "keras3.keras"), out, "--size", "7", "6"]) == 0


@pytest.mark.parametrize("blocks", [0, 12])
def test_there_and_back(blocks, tmp_path, capsys):
    """Also with two-digit layer numbers, whose order is not the alphabet's."""
    pytest.importorskip("h5py")
    model = pixelcnn.PixelCNN((1, 5, 4), filters=5, blocks=blocks)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))  # masked entries too
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "exported.weights.h5"
    assert main(["export-keras", str(tmp_path / "model"), str(file)]) == 0
    assert f"wrote {file}: {2 * (4 + 3 * blocks)} tensors; filters: 5, residual blocks: {blocks}\n" == (
        capsys.readouterr().out
    )
    assert main(["convert-keras", str(file), str(tmp_path / "back"), "--size", "5", "4"]) == 0
    assert "masked entries: all zero\n" in capsys.readouterr().out
    back = pixelcnn.load(tmp_path / "back")
    assert back.config == model.config
    for one, other in zip(model.masked_layers, back.masked_layers, strict=True):
        assert torch.equal(one.weight * one.mask, other.weight)
        assert torch.equal(one.bias, other.bias)
    again = tmp_path / "again.weights.h5"
    assert main(["export-keras", str(tmp_path / "back"), str(again)]) == 0
    assert again.read_bytes() == file.read_bytes()


def test_a_model_in_float64(tmp_path):
    pytest.importorskip("h5py")
    pixelcnn.PixelCNN((1, 28, 28), filters=4, blocks=1).double().save_pretrained(tmp_path / "model")
    assert main(["export-keras", str(tmp_path / "model"), str(tmp_path / "double.weights.h5")]) == 0
    assert main(["convert-keras", str(tmp_path / "double.weights.h5"), str(tmp_path / "back")]) == 0
    assert pixelcnn.load(tmp_path / "back").dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrower_weights_become_float32(dtype):
    model = pixelcnn.PixelCNN((1, 5, 4), filters=4, blocks=1).to(dtype)
    weights = to_keras(model)
    check_network(weights.convolutions)
    back = from_keras(weights, (5, 4)).model
    assert all(
        torch.equal(one.weight.to(dtype), other.weight)
        for one, other in zip(back.masked_layers, model.masked_layers, strict=True)
    )


def test_what_is_not_exported(tmp_path, capsys):
    pixelcnn.GatedPixelCNN((1, 5, 4), filters=4, layers=2).save_pretrained(tmp_path / "gated")
    pixelcnn.PixelCNN((3, 5, 4), filters=6, blocks=1).save_pretrained(tmp_path / "colour")
    for name, said in (
        ("gated", "got one of class GatedPixelCNN for images of 1 x 5 x 4"),
        ("colour", "PixelCNN for images of 3 x 5 x 4"),
    ):
        assert main(["export-keras", str(tmp_path / name), str(tmp_path / "out.weights.h5")]) == 2
        assert said in capsys.readouterr().err
    for name in ("saved_model", "out.keras", "out.h5"):
        assert main(["export-keras", "mnist-seed", str(tmp_path / name)]) == 2
        assert "OUT must end in .weights.h5" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
    assert not (tmp_path / "out.weights.h5").exists()
