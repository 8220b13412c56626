"""Training on classes and maps: what is dropped, and what does not fit."""

import dataclasses

import pytest
import torch

import pixelcnn
from pixelcnn.config import GatedPixelCNNConfig, TrainConfig
from pixelcnn.datasets.patches import Patches, PictureStore
from pixelcnn.training.batches import Batches
from pixelcnn.training.record import RunRecord

MODEL = GatedPixelCNNConfig(
    image_shape=(1, 4, 4), filters=4, layers=2, num_classes=3, condition_channels=1, first_kernel=3
)
CONFIG = TrainConfig(model=MODEL, epochs=1, batch_size=4, label_dropout=0.6, sample_images=2)
IMAGES, LABELS = torch.zeros(600, 1, 4, 4, dtype=torch.uint8), torch.arange(600) % 3
MAPS = torch.full((600, 1, 2, 2), 255, dtype=torch.uint8)
PICTURES = PictureStore(
    IMAGES[:4].flatten(), channels=1, sizes=((8, 8),), names=("a",), labels=None, sides=(0,), classes=None, remarks=(),
    digest="",
)  # fmt: skip
PATCHES = Patches(PICTURES, [0], 4)  # 4 of them


def test_a_third_each_lacks_the_class_the_map_and_both():
    """Of 600 images 360 lack something; false alarm below 1e-6: each count is within 60 of 240 or 120."""
    model = pixelcnn.GatedPixelCNN(**{f.name: getattr(MODEL, f.name) for f in dataclasses.fields(MODEL)})
    batch = Batches(CONFIG, model, IMAGES, LABELS, MAPS).take(torch.arange(600), 0)
    has_class, has_map = batch.condition[:, :3].sum(1) == 1, batch.condition[:, -1] == 1
    assert torch.equal(batch.condition[:, 3:].eq(1).all(1), has_map)
    assert abs(int((has_class & has_map).sum()) - 240) < 60
    for lacking in (has_class & ~has_map, ~has_class & has_map, ~has_class & ~has_map):
        assert abs(int(lacking.sum()) - 120) < 60


def test_a_run_and_what_does_not_fit(tmp_path):
    some = {"training_labels": LABELS[:8], "validation_labels": LABELS[:4]}
    maps = {"training_condition": MAPS[:8], "validation_condition": MAPS[:4]}
    model = pixelcnn.train(CONFIG, IMAGES[:8], IMAGES[:4], tmp_path / "run", progress=False, **some, **maps)
    assert model.sample(2, condition=MAPS[:2]).shape == (2, 1, 4, 4)
    assert "60% of the labels and maps dropped" in (tmp_path / "run" / "model" / "README.md").read_text()
    for config, given, said in (
        (CONFIG, some, "training_condition must be given"),
        (CONFIG, maps, "training_labels must be given"),
        (CONFIG, some | maps | {"validation_condition": MAPS[:3]}, r"validation condition.*\(4, 1, h, w\)"),
        (dataclasses.replace(CONFIG, shift=1), some | maps, "shift must be 0"),
    ):
        with pytest.raises(ValueError, match=said):
            pixelcnn.train(config, IMAGES[:8], IMAGES[:4], tmp_path / "no", progress=False, **given)


def test_patches_are_not_mirrored_beside_maps_that_are_given(tmp_path):
    """Only maps that are made of the patches, by shrinking them, are mirrored too."""
    given = {"training_labels": LABELS[:4], "validation_labels": LABELS[:4]}
    given |= {"training_condition": MAPS[:4], "validation_condition": MAPS[:4]}
    with pytest.raises(ValueError, match=r"flip must be False for a model with a map, .* got True"):
        pixelcnn.train(
            dataclasses.replace(CONFIG, flip=True), PATCHES, IMAGES[:4], tmp_path / "no", progress=False, **given
        )


def test_a_run_is_known_by_what_its_patches_are_given():
    def record(*given):
        return RunRecord.of(CONFIG, (PATCHES, *given), (IMAGES[:4], None, None), "photos").training

    found = [record(*given) for given in ((None, None), (LABELS[:4], None), (LABELS[1:5], None), (None, MAPS[:4]))]
    assert len(set(found)) == 4
    assert found[0] == f"4 patches, SHA-256 {PATCHES.digest}"
    assert [text.partition(",")[0] for text in found[1:]] == 2 * ["4 labelled patches"] + ["4 patches with conditions"]
