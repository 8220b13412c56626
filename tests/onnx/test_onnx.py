"""ONNX graphs in onnxruntime: the forward pass is torch's within 1e-5, and the step's sampler draws what we draw."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.levels import array_dtype, level_dtype
from pixelcnn.models import OrderEnsemble
from pixelcnn.onnx.full import full_graph
from pixelcnn.onnx.step import step_graph
from pixelcnn.randomness import uniforms

checker = pytest.importorskip("onnx.checker")  # `onnx` alone would be this folder
onnxruntime = pytest.importorskip("onnxruntime")

SCRIPT = Path(__file__).parent.parent.parent / "examples" / "sample_onnx.py"

MODELS = {
    "binary": lambda: pixelcnn.PixelCNN((1, 7, 6), filters=8, blocks=2),
    "colour": lambda: pixelcnn.PixelCNN((3, 5, 6), levels=5, filters=9, blocks=1),
    "one row": lambda: pixelcnn.PixelCNN((1, 1, 9), filters=4, blocks=1),
    "gated": lambda: pixelcnn.GatedPixelCNN((1, 6, 7), filters=6, layers=3, num_classes=4),
    "gated colour": lambda: pixelcnn.GatedPixelCNN((3, 5, 4), levels=4, filters=6, layers=3, condition_dim=3),
    "one column": lambda: pixelcnn.GatedPixelCNN((1, 9, 1), filters=6, layers=3),
    "one pixel": lambda: pixelcnn.GatedPixelCNN((1, 1, 1), filters=4, layers=2),
    "mixture": lambda: pixelcnn.PixelCNNPlusPlus((1, 6, 5), levels=16, filters=6, blocks=1, mixtures=3),
    "mixture colour": lambda: pixelcnn.PixelCNNPlusPlus((3, 6, 5), filters=6, blocks=2, mixtures=3, num_classes=4),
    "places": lambda: pixelcnn.GatedPixelCNN((1, 6, 7), filters=6, layers=3, places=True, kernel_size=(5, 1)),
    "context": lambda: pixelcnn.GatedPixelCNN(
        (1, 9, 7), filters=6, layers=3, first_kernel=5, places=True, context=(4, 2), num_classes=4
    ),
    "context colour": lambda: pixelcnn.GatedPixelCNN((3, 5, 4), levels=4, filters=6, layers=2, context=(2,)),
    "mixture with context": lambda: pixelcnn.PixelCNNPlusPlus(
        (3, 5, 6), filters=4, blocks=1, mixtures=2, places=True, context=(3,)
    ),
    "map": lambda: pixelcnn.GatedPixelCNN((1, 6, 4), filters=6, layers=3, condition_channels=2, num_classes=3),
    "map of categories": lambda: pixelcnn.GatedPixelCNN(
        (3, 4, 6), levels=4, filters=6, layers=2, condition_channels=1, condition_levels=5
    ),
    "map and context": lambda: pixelcnn.GatedPixelCNN((1, 6, 8), filters=6, layers=2, context=(4,), condition_levels=3),
    "photo by a map": lambda: pixelcnn.PhotoPixelCNN((3, 4, 6), filters=6, blocks=1, mixtures=2, condition_channels=3),
    "codes": lambda: pixelcnn.GatedPixelCNN((2, 4, 5), levels=300, filters=6, layers=2, embedding=3, context=(2,)),
    "codes of few levels": lambda: pixelcnn.PixelCNN((1, 4, 5), levels=3, filters=6, blocks=1, embedding=2),
    "deep mixture": lambda: pixelcnn.PixelCNNPlusPlus((2, 4, 5), levels=4096, filters=6, blocks=1, mixtures=2),
    "mixture of two levels": lambda: pixelcnn.PixelCNNPlusPlus((2, 4, 5), levels=2, filters=6, blocks=1, mixtures=2),
}


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import sample_onnx
    finally:
        sys.path.pop(0)
    return sample_onnx


@pytest.fixture(params=MODELS)
def model(request, tmp_path):
    built = MODELS[request.param]()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and places too
    built.save_pretrained(tmp_path / "model")
    return built.eval()


def given(model, n):
    """Labels and condition: every class in turn, -1 among them; vectors or maps, of which the last one is missing."""
    classes, size = getattr(model.config, "num_classes", None), getattr(model.config, "condition_dim", None)
    labels = None if classes is None else torch.arange(-1, n - 1) % (classes + 1) - 1
    if size is not None:
        return labels, torch.cat([torch.randn(n - 1, size), torch.full((1, size), torch.nan)])
    if not model.conditions.channels:
        return labels, None
    maps = torch.randn(n, model.conditions.channels, model.image_shape[1] // 2, model.image_shape[2] // 2)
    if categories := model.conditions.categories:
        maps[:, -1] = torch.randint(categories, maps[:, -1].shape).float()
    maps[-1] = torch.nan
    return labels, maps


def check_forward(model, kind, tmp_path, capsys):
    """Of the model, which is in a folder of that name."""
    file = tmp_path / "forward.onnx"
    assert main(["export-onnx", str(tmp_path / "model"), str(file), "--input", kind]) == 0
    assert capsys.readouterr().out == f"wrote {file}: the forward pass, {file.stat().st_size:,} bytes\n"
    checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(str(file))
    for n in (1, 5):
        images = torch.randint(0, model.levels, (n, *model.image_shape)).to(level_dtype(model.levels))
        labels, condition = given(model, n)
        feed = {"images": images.numpy() if kind == "uint8" else images.numpy().astype(kind)}
        for name, value in (("labels", labels), ("condition", condition)):
            feed |= {} if value is None else {name: value.numpy()}
        (params,) = session.run(None, feed)
        expected = model(images, labels, condition=condition).detach().numpy()
        assert np.abs(expected).max() > 1e-2
        coarse = isinstance(model, pixelcnn.PhotoPixelCNN)  # its kernels of differences are 16 times as large
        np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-3 if coarse else 1e-5)


def test_the_forward(model, tmp_path, capsys):
    check_forward(model, "uint8", tmp_path, capsys)


@pytest.mark.parametrize("size", [(6, 4), (2, 4), (1, 2), (3, 1)])
def test_maps_that_are_coarser_in_one_direction(size):
    model = pixelcnn.GatedPixelCNN((1, 12, 8), filters=8, layers=1, condition_channels=2, condition_levels=5)
    images, numbers = torch.randint(2, (3, 1, 12, 8), dtype=torch.uint8), torch.randn(3, 2, *size)
    condition = torch.cat([numbers, torch.randint(5, (3, 1, *size))], 1)
    session = onnxruntime.InferenceSession(full_graph(model))
    (params,) = session.run(None, {"images": images.numpy(), "condition": condition.numpy()})
    np.testing.assert_allclose(params, model(images, condition=condition).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model", ["binary", "gated colour", "mixture colour", "context", "deep mixture"], indirect=True
)
def test_the_forward_of_levels_in_floating_point(model, tmp_path, capsys):
    check_forward(model, "float32", tmp_path, capsys)


@pytest.mark.parametrize("model", ["codes", "codes of few levels"], indirect=True)
def test_levels_in_floating_point_have_no_vectors(model, tmp_path, capsys):
    command = ["export-onnx", str(tmp_path / "model"), str(tmp_path / "forward.onnx"), "--input", "float32"]
    assert main(command) == 2
    assert "embedding" in capsys.readouterr().err


@pytest.mark.parametrize("far", [1.0, 1e5])
def test_extreme_mixtures(far, tmp_path):
    """Scales beyond both bounds, and wider than float32 has inverses for; far away float32 has few digits."""
    model = pixelcnn.PixelCNNPlusPlus((3, 2, 3), filters=4, blocks=1, mixtures=3).eval()
    with torch.no_grad():
        bias = model.output.bias
        bias[3:12] = far * torch.randn(9)  # means
        bias[12:21] = torch.tensor([-30.0, -7.0, 0.0, 60.0, 90.0, 99.0, 104.0, 20.0, 3.0])[torch.randperm(9)]
    (tmp_path / "forward.onnx").write_bytes(full_graph(model))
    session = onnxruntime.InferenceSession(str(tmp_path / "forward.onnx"))
    images = torch.randint(0, 256, (40, 3, 2, 3), dtype=torch.uint8)
    (params,) = session.run(None, {"images": images.numpy()})
    expected = model(images).detach().numpy()
    assert expected.min() < -10  # what the first channel said, the weights of the next one know
    np.testing.assert_allclose(params, expected, rtol=1e-5, atol=1e-3 if far == 1 else 100)


def test_the_step_draws_the_same_images(model, example, tmp_path, capsys):
    file = tmp_path / "step.onnx"
    assert main(["export-onnx", str(tmp_path / "model"), str(file), "--step"]) == 0
    assert capsys.readouterr().out == f"wrote {file}: a step of the sampler, {file.stat().st_size:,} bytes\n"
    checker.check_model(str(file), full_check=True)
    labels, condition = given(model, 4)
    defaults = (-1, np.nan)
    arrays = [
        other if value is None else value.numpy() for value, other in zip((labels, condition), defaults, strict=True)
    ]
    images = example.sample(str(file), 4, 3, *arrays)
    assert images.dtype == array_dtype(model.levels)
    expected = model.sample(4, labels, seed=3, engine="reference", condition=condition)
    assert np.array_equal(images, expected.numpy())


def test_a_step_needs_no_later_pixel():
    """Levels that are not drawn yet may be anything."""
    model = pixelcnn.PixelCNN((1, 6, 5), filters=6, blocks=1)
    session = onnxruntime.InferenceSession(step_graph(model))
    about = session.get_modelmeta().custom_metadata_map
    shapes = {i.name: [1 if size == "N" else size for size in i.shape] for i in session.get_inputs()[2:]}
    caches = [{name: np.zeros(shape, np.float32) for name, shape in shapes.items()} for _ in range(2)]
    images = np.stack([np.full((1, 1, 6, 5), level, np.uint8) for level in (0, 1)])
    for step in range(-int(about["prelude"]), int(about["steps"])):
        found = []
        for given, kept in zip(images, caches, strict=True):
            pixels, params, *new = session.run(None, kept | {"step": np.array(step), "images": given})
            kept |= dict(zip(shapes, new, strict=True))
            found.append(params[pixels < 30])
        assert np.array_equal(*found)
        if step >= 0:
            images.reshape(2, 30)[:, pixels[pixels < 30]] = step % 2
    assert np.array_equal(*images)


def test_the_examples_uniforms(example):
    for seed in (0, 1, 2**63 - 1):
        assert np.array_equal(example.uniforms(seed, 3, 10), uniforms(seed, 0, 3, 10).numpy())


def test_the_example_draws_the_shipped_digits(tmp_path):
    assert main(["export-onnx", "mnist-seed", str(tmp_path / "mnist.onnx"), "--step"]) == 0
    forbidden = "import sys; sys.modules['torch'] = sys.modules['pixelcnn'] = None; import runpy; "
    run = (
        forbidden
        + f"sys.argv[1:] = ['mnist.onnx', 'digits.npy', '4', '0']; runpy.run_path({str(SCRIPT)!r}, None, '__main__')"
    )
    subprocess.run([sys.executable, "-c", run], cwd=tmp_path, check=True)
    assert np.array_equal(np.load(tmp_path / "digits.npy"), pixelcnn.load("mnist-seed").sample(4, seed=0).numpy())
    assert len(SCRIPT.read_text().splitlines()) <= 62


def test_what_is_refused(tmp_path, monkeypatch, capsys):
    gated = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=3, attention=1)
    gated.save_pretrained(tmp_path / "attention")
    plain = pixelcnn.GatedPixelCNN((1, 4, 4), filters=4, layers=2)
    OrderEnsemble([plain, plain], ["right-down", "left-up"]).save_pretrained(tmp_path / "both")
    pixelcnn.PixelCNN((1, 4, 4), filters=4, blocks=1).double().save_pretrained(tmp_path / "double")
    for name, said in (
        ("attention", "models with attention are not exported to ONNX, got attention 1"),
        ("both", "a mixture has no forward of its own and is not exported to ONNX; export its networks"),
        ("double", "models in torch.float32 are exported to ONNX, got torch.float64"),
    ):
        for options in ([], ["--step"]):
            assert main(["export-onnx", str(tmp_path / name), str(tmp_path / "out.onnx"), *options]) == 2
            assert capsys.readouterr().err == f"pixelcnn: {said}\n"
    assert main(["export-onnx", "mnist", str(tmp_path / "out.pb")]) == 2
    assert "OUT must end in .onnx" in capsys.readouterr().err
    assert main(["export-onnx", "mnist", str(tmp_path / "out.onnx"), "--step", "--input", "float32"]) == 2
    assert "--input must be uint8 with --step, got float32" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export-onnx", "mnist", str(tmp_path / "out.onnx")]) == 2
    assert capsys.readouterr().err == "pixelcnn: exporting to ONNX needs onnx: pip install 'pixelcnn[onnx]'\n"
    assert not (tmp_path / "out.onnx").exists()
