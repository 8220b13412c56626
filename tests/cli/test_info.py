"""pixelcnn info: of a model and of a stream."""

from pixelcnn.cli import main
from pixelcnn.codec import read_header
from stored import picture, run


def test_info_shows_the_seed_table(capsys):
    assert main(["info", "mnist-seed"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["input", "7x7", "A", "1", "->", "128", "ReLU", "128x28x28", "6,400"] in lines
    for k in range(5):
        assert [f"blocks.{k}", "98,624"] in lines
    assert lines.count(["conv1", "1x1", "B", "128", "->", "128", "ReLU", "128x28x28", "(16,512)"]) == 5
    assert lines.count(["masked", "3x3", "B", "128", "->", "64", "ReLU", "64x28x28", "(73,792)"]) == 5
    assert lines.count(["conv2", "1x1", "B", "64", "->", "128", "ReLU", "128x28x28", "(8,320)"]) == 5
    for k in range(2):
        assert [f"head.{k}", "1x1", "B", "128", "->", "128", "ReLU", "128x28x28", "16,512"] in lines
    assert ["output", "1x1", "B", "128", "->", "1", "-", "1x28x28", "129"] in lines
    assert ["total,", "masked", "weights", "counted", "532,673"] in lines
    text = "\n".join(" ".join(line) for line in lines)
    assert "8 rows above" in text
    assert "slope 4, 136 steps of sampling instead of 784 pixels" in text


def test_info_tells_what_a_stream_is(tmp_path, capsys, models):
    for k in range(23):
        picture("1", k).save(tmp_path / f"{k}.png")
    stream = tmp_path / "s.pxcn"
    assert run(capsys, "compress", models / "binary", tmp_path, "--out", stream, "--chunk", "10")[0] == 0
    assert main(["info", str(stream)]) == 0
    said = capsys.readouterr().out
    assert f"{stream}: {stream.stat().st_size:,} bytes" in said
    assert f"model    {read_header(stream.read_bytes()).identity.hex()}, called {str(models / 'binary')!r}" in said
    assert "images   23 of 1 x 6 x 5 in 2 levels\n" in said
    assert "chunks   3 of 10 images" in said
    assert "19.png (mode 1)\n         and 3 more" in said
    picture("1", size=(7, 5)).save(tmp_path / "23.png")
    one = stream.read_bytes()
    stream.unlink()
    assert run(capsys, "compress", models / "binary", tmp_path, "--out", stream)[0] == 0
    assert main(["info", str(stream)]) == 0
    said = capsys.readouterr().out
    assert f"{stream}: {stream.stat().st_size:,} bytes in 2 streams, {stream.stat().st_size / 24:.2f} per image" in said
    assert "images   23 of 1 x 6 x 5 in 2 levels\n" in said
    assert "images   1 of 1 x 7 x 5 in 2 levels\n" in said
    assert said.endswith("\nfiles    1\n         23.png (mode 1)\n")
    stream.write_bytes(one[:-1])
    assert main(["info", str(stream)]) == 2
    assert "the stream ends within chunk 2 of 3" in capsys.readouterr().err
