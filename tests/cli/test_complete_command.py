"""`pixelcnn complete`: what it writes, and one line with exit code 2 for wrong input."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import pixelcnn
from pixelcnn.cli import main
from pixelcnn.datasets.split import fraction_of
from pixelcnn.images import completion_panel, save_png, to_pil


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    """Two models and some pictures in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixelcnn.PixelCNN((1, 6, 5), levels=3, filters=6, blocks=1).save_pretrained("grey")
    pixelcnn.GatedPixelCNN((3, 4, 4), levels=256, filters=6, layers=2, num_classes=2).save_pretrained("colour")
    pixelcnn.GatedPixelCNN((2, 6, 5), levels=3, filters=6, layers=2).save_pretrained("two")
    save_png(to_pil(torch.full((1, 6, 5), 1), 3), tmp_path / "a.png")
    save_png(to_pil(torch.eye(6, 5, dtype=torch.uint8)[None], 2), tmp_path / "mask.png")
    Image.new("L", (5, 6), 255).save("white.png")
    Image.new("RGB", (9, 7), (255, 0, 0)).save("large.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    np.savez("data.npz", images=np.zeros((5, 3, 4, 4), np.uint8), labels=np.arange(5) % 2)


@pytest.mark.filterwarnings("ignore:the effective sample size")
def test_a_picture_by_a_mask(capsys):
    command = ["complete", "grey", "a.png", "--mask", "mask.png", "-n", "4", "--particles", "16", "--moves", "2"]
    assert main([*command, "--out", "deep/panel.png", "--arrays", "deep/all.npz", "--seed", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    known = torch.eye(6, 5).bool()[None]
    images = torch.ones(1, 1, 6, 5, dtype=torch.uint8)
    found = pixelcnn.load("grey").complete(images, known, 4, 16, seed=3, moves=2)
    evidence = found.log_evidence.item()
    assert printed[0] == f"a.png: effective sample size {found.ess.item():.1f}, log p(known) {evidence:.2f} nats"
    assert printed[1:] == [f"{found.accepted:.1%} of the moves accepted", "1 x 4 completions of seed 3: deep/panel.png"]
    saved = np.load("deep/all.npz")
    assert np.array_equal(saved["completions"], found.images.numpy())
    assert np.array_equal(saved["known"][0], known.numpy())
    assert saved["ess"] == found.ess.numpy()
    assert saved["log_evidence"] == found.log_evidence.numpy()
    expected = completion_panel(images, known[None], found.images, 3)
    assert np.array_equal(np.asarray(Image.open("deep/panel.png")), np.asarray(expected))


def test_a_picture_of_another_size(capsys):
    assert main(["complete", "grey", "large.png", "--keep-rows", "4", "-n", "2", "--arrays", "all.npz"]) == 0
    assert np.load("all.npz")["completions"].shape == (1, 2, 1, 7, 9)
    assert main(["complete", "grey", "large.png", "--box", "5,0,5,1", "-n", "2"]) == 2
    assert "--box must lie in the images of 9 x 7 pixels" in capsys.readouterr().err
    pixelcnn.GatedPixelCNN((1, 6, 5), levels=3, filters=6, layers=2, places=True).save_pretrained("placed")
    assert main(["complete", "placed", "large.png", "--keep-rows", "4"]) == 2
    assert "large.png is 9 x 7 pixels, and not 5 x 6" in capsys.readouterr().err


def test_a_data_source_by_rows_and_classes(capsys):
    assert main(["complete", "colour", "data.npz", "--keep-rows", "2", "--images", "3", "--out", "panel.png"]) == 0
    out = capsys.readouterr().out
    assert out.count("effective sample size 6.0") == 3
    assert "3 x 6 completions of seed 0: panel.png" in out
    assert main(["complete", "colour", "data.npz", "--keep-rows", "2", "--images", "3", "--method", "raster"]) == 0
    assert capsys.readouterr().out == "3 x 6 completions of seed 0: completions.png\n"  # no evidence
    assert main(["complete", "colour", "large.png", "--fit", "--label", "1", "--box", "1,0,2,3", "-n", "1"]) == 0
    with Image.open("completions.png") as panel:
        assert panel.size[0] == 3 * (112 + 6) + 6  # no mean of a single draw


@pytest.mark.filterwarnings("default")
def test_the_first_of_several_frames_is_completed(capsys):
    frames = [Image.new("L", (5, 6), value) for value in (0, 200)]
    frames[0].save("two.gif", save_all=True, append_images=frames[1:])
    assert main(["complete", "grey", "two.gif", "--keep-rows", "5", "-n", "1"]) == 0
    assert "warning: two.gif has several frames or pages, of which the first is taken" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_pictures_of_sixteen_bits(capsys):
    """Several are of one depth, that of the largest value, and a line says so."""
    for name, top in (("dark", 255), ("bright", 4095)):
        Image.fromarray(np.linspace(0, top, 30).astype(np.uint16).reshape(6, 5)).save(f"{name}.png")
    command = ["complete", "grey", "dark.png", "bright.png", "--keep-rows", "5", "-n", "1", "--arrays", "all.npz"]
    assert main(command) == 0
    assert "pixelcnn: warning: pictures stored with 16 bits are read as 12 bits, 0..4095" in capsys.readouterr().err
    found = np.load("all.npz")["completions"][:, 0, 0, :5]
    assert (found[0] == 0).all()
    assert set(np.unique(found[1])) == {0, 1, 2}
    assert main([*command, "--bit-depth", "11"]) == 2
    said = capsys.readouterr().err
    assert "bright.png cannot be read as a picture: it holds the value 4095, and bit_depth = 11 allows 0..2047" in said
    assert main([*command, "--layout", "nhw"]) == 2
    assert "--layout must be left out for picture files, got nhw" in capsys.readouterr().err


def test_the_panel_shows_what_is_known():
    images = torch.full((1, 1, 2, 2), 2, dtype=torch.uint8)
    known = torch.tensor([[[[True, False], [True, True]]]])
    draws = torch.tensor([0, 2], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 1, 2, 2)
    picture = np.asarray(completion_panel(images, known, draws, 3))
    cells = [picture[28 + 56 // 2 :: 56, 6 + 118 * k + 28 : 6 + 118 * k + 112 : 56][:2] for k in range(6)]
    assert (cells[0] == [[[255] * 3, [214, 120, 60]], [[255] * 3] * 2]).all()
    assert (cells[1] == [[[255] * 3, [0] * 3], [[255] * 3] * 2]).all()
    assert (cells[2] == 0).all()
    assert (cells[3] == 255).all()
    assert (cells[4] == 128).all()
    assert (cells[5] == 255).all()


@pytest.mark.parametrize("name", ["photos/a.png", "photos/image 1.png"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_map_is_found_by_the_name_of_the_picture_file(name, absolute, tmp_path):
    """Wherever the picture lies: it is not taken for its own map."""
    for folder, size, value in (("photos", (5, 6), 0), ("maps", (5, 3), 200)):
        (tmp_path / folder).mkdir()
        Image.new("L", size, value).save(tmp_path / folder / name.removeprefix("photos/"))
    given = pixelcnn.GatedPixelCNN((1, 6, 5), levels=3, filters=6, layers=2, condition_channels=1)
    given.save_pretrained("given")
    path = str(tmp_path / name) if absolute else name
    command = ["complete", "given", path, "--keep-rows", "5", "-n", "1", "--condition", "maps", "--arrays", "all.npz"]
    assert main(command) == 0
    known = torch.zeros(6, 5, dtype=torch.bool)
    known[:5] = True
    images, maps = torch.zeros(1, 1, 6, 5, dtype=torch.uint8), torch.full((1, 1, 3, 5), 200, dtype=torch.uint8)
    expected = given.complete(images, known, 1, seed=0, condition=maps)
    assert np.load("all.npz")["log_evidence"] == expected.log_evidence.numpy()


def test_files_that_are_data_sources(tmp_path, capsys):
    """Arrays whatever the case of their endings, and the archive of CIFAR-10."""
    np.save("codes.npy", np.zeros((2, 6, 5), np.uint8))
    (tmp_path / "codes.npy").rename("CODES.NPY")
    (tmp_path / "batches.meta.txt").write_text("a b c d e f g h i j")
    with tarfile.open("cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add("batches.meta.txt")
        for name in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
            (tmp_path / name).write_bytes(bytes(4 * 3073))
            archive.add(name)
    pixelcnn.GatedPixelCNN((3, 32, 32), levels=256, filters=3, layers=1).save_pretrained("cifar")
    for model, source, rows in (("grey", "CODES.NPY", "5"), ("cifar", "cifar-10-binary.tar.gz", "31")):
        assert main(["complete", model, source, "--keep-rows", rows, "-n", "1", "--images", "2"]) == 0
        assert "2 x 1 completions" in capsys.readouterr().out


def test_the_shares_of_a_data_source(capsys):
    images = np.random.default_rng(0).integers(0, 3, (9, 6, 5), dtype=np.uint8)
    np.save("codes.npy", images)
    held_out = [k for k, image in enumerate(images) if fraction_of(image[None]) < 0.6]
    command = ["complete", "grey", "codes.npy:validation", "--keep-rows", "5", "-n", "1", "--images", "9"]
    assert main([*command, "--held-out", "0.6", "--test", "0.2"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed[:-1]] == [f"image {k}" for k in held_out]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grey", "a.png"], "give one of --keep-rows, --box and --mask, to say what is known"),
        (["grey", "a.png", "--keep-rows", "1", "--box", "0,0,1,1"], "give one of --keep-rows, --box and --mask"),
        (["grey", "a.png", "--keep-rows", "6"], "--keep-rows must be in 0..5, got 6"),
        (["grey", "a.png", "--box", "1,2,3"], "--box must be four integers x,y,w,h, got '1,2,3'"),
        (["grey", "a.png", "--box", "1,2,5,1"], "--box must lie in the images of 5 x 6 pixels, got '1,2,5,1'"),
        (["grey", "a.png", "--box", "1,2,0,1"], "--box must lie in the images of 5 x 6 pixels, got '1,2,0,1'"),
        (["grey", "a.png", "--mask", "large.png"], "large.png is 9 x 7 pixels, and not 5 x 6; --fit scales and crops"),
        (["grey", "a.png", "--mask", "white.png"], "white.png is white everywhere: nothing is unknown"),
        (["grey", "a.png", "--mask", "gone.png"], "there is no file 'gone.png'"),
        (["grey", "gone.png", "a.png", "--keep-rows", "1"], "there is no file 'gone.png'"),
        (["grey", "broken.png", "--keep-rows", "1"], "broken.png cannot be read as a picture: "),
        (["grey", "a.png", "large.png", "--keep-rows", "1"], "large.png is 9 x 7 pixels, and not 5 x 6; --fit scales"),
        (["grey", "nothing", "--keep-rows", "1"], "unknown data 'nothing'"),
        (["grey", "--keep-rows", "1"], "IMAGE must be picture files or a data source, got none"),
        (["grey", "a.png", "--keep-rows", "1", "-n", "0"], "n must be an integer in 1.."),
        (["grey", "a.png", "--box", "0,0,1,1", "--particles", "2"], "particles must be an integer in 6.."),
        (["grey", "a.png", "--keep-rows", "1", "--label", "1"], "--label must be left out, got 1: grey has no classes"),
        (["colour", "data.npz", "--keep-rows", "1", "--label", "2"], "--label must be in 0..1, got 2"),
        (["colour", "data.npz", "--keep-rows", "1", "--label", "all"], "--label must be one class, got all"),
        (["two", "a.png", "--keep-rows", "1"], "a.png: pictures are grey or in colour, and the model's images have 2"),
        (["colour", "data.npz", "--keep-rows", "1", "--images", "0"], "--images must be at least 1, got 0"),
        (["grey", "a.png", "--keep-rows", "1", "--images", "2"], "--images must be left out for picture files, got 2"),
        (["grey", "a.png", "--keep-rows", "1", "--out", "a.png"], "--out must not be a.png, which is read"),
        (["grey", "a.png", "--mask", "mask.png", "--out", "./mask.png"], "--out must not be mask.png, which is read"),
        (["colour", "data.npz", "--keep-rows", "1", "--arrays", "data.npz"], "--arrays must not be data.npz, which is"),
        (["colour", "data.npz:train", "--keep-rows", "1", "--arrays", "data.npz"], "--arrays must not be data.npz"),
        (["grey", ".", "--keep-rows", "1"], "--out must lie outside ., whose files are read, got 'completions.png'"),
        (["grey", "a.png", "--keep-rows", "1", "--out", "panel.jpg"], "--out must end in .png, got 'panel.jpg'"),
        (["grey", "a.png", "--keep-rows", "1", "--arrays", "all.npy"], "--arrays must end in .npz, got 'all.npy'"),
        (["nobody", "a.png", "--keep-rows", "1"], "no model 'nobody'"),
    ],
)
def test_wrong_input(arguments, message, capsys, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert main(["complete", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]  # what was read before it is told too
    assert error.startswith(f"pixelcnn: {message}")
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before
