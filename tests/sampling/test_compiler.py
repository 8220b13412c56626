"""The native engine's library: compiled once, kept, made anew if it is damaged, and done without."""

import ctypes
import errno
import os
import re
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

import pixelcnn
from native_models import attentive, needs_compiler, small
from pixelcnn.cli import main
from pixelcnn.files import private_folder
from pixelcnn.sampling import Draw, engine_of, why_not_native
from pixelcnn.sampling.eager import EagerSampler
from pixelcnn.sampling.native import NativeSampler, compiler
from pixelcnn.sampling.native.compiler import NativeError, native_library


@pytest.fixture
def no_library(monkeypatch, tmp_path):
    """An empty cache, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler._library.cache_clear()
    yield tmp_path / "pixelcnn"
    compiler._library.cache_clear()


def test_without_a_compiler_fast_is_eager(no_library, monkeypatch):
    monkeypatch.setenv("CC", " ")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda _: None)
    model = small()
    assert "no C compiler found" in why_not_native(model)
    with pytest.warns(UserWarning, match="PyTorch instead of compiled code: no C compiler found"):
        assert engine_of(model, "fast") is EagerSampler
    assert torch.equal(model.sample(2, seed=0), model.sample(2, engine="reference", seed=0))


def test_it_is_said_why_drawing_is_not_native(no_library, monkeypatch, capsys, tmp_path):
    """Wherever nothing slower was asked for, and once."""
    monkeypatch.setattr(compiler, "_compilers", lambda: [])
    monkeypatch.chdir(tmp_path)
    model = small((1, 4, 4), levels=2, filters=4, blocks=1)
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    known = torch.arange(16).reshape(4, 4) % 2 == 0
    said = "slower than it could be, in PyTorch instead of compiled code: no C compiler found"
    for action in (
        lambda: model.sample(2, seed=0),
        lambda: model.sample(2, exact=True, seed=0),
        lambda: next(model.sample_steps(2, seed=0)),
        lambda: model.complete(images, known, particles=8, method="particles", seed=0),
        lambda: pixelcnn.compress(model, images),
    ):
        with pytest.warns(UserWarning, match=said):
            action()
    with warnings.catch_warnings(action="error"):
        model.sample(2, engine="eager", seed=0)
    model.save_pretrained("model")
    with warnings.catch_warnings(action="default"):
        assert main(["sample", "model", "-n", "30"]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if "slower" in line] == [
        f"pixelcnn: warning: {said} (cc, gcc, clang, or `pip install ziglang`)"
    ]


def test_a_compiler_that_fails_is_named(no_library, monkeypatch):
    monkeypatch.setattr(compiler, "_compilers", lambda: [["false"]])
    assert "the C compiler failed: exit code 1" in why_not_native(small())
    with pytest.warns(UserWarning, match="in PyTorch instead of compiled code: the C compiler failed: exit code 1"):
        engine_of(small(), "fast")
    assert not list(no_library.glob("*")), "nothing half-made is left"


COMPILED = {}


@pytest.fixture
def compilations(no_library, monkeypatch):
    """Counts them, and compiles but once for all tests: what a compiler makes a second time is the same."""
    seen = []
    original = compiler._compile

    def counted(target, kind):
        seen.append(kind)
        if kind not in COMPILED:
            original(target, kind)
            COMPILED[kind] = target.read_bytes()
        target.write_bytes(COMPILED[kind])

    monkeypatch.setattr(compiler, "_compile", counted)
    return seen


def loaded_anew():
    compiler._library.cache_clear()
    library = native_library(torch.float32)
    assert library.panel() >= 8
    return Path(library._name)


def test_what_a_compiler_says_need_not_be_text(no_library, monkeypatch):
    monkeypatch.setattr(compiler, "_compilers", lambda: [["sh", "-c", r"printf 'r\351' >&2; exit 1"]])
    assert why_not_native(small()) == "the C compiler failed: r\ufffd"


def test_a_compiler_with_an_open_quotation(no_library, monkeypatch):
    monkeypatch.setenv("CC", "'/usr/bin/my cc")
    assert why_not_native(small()) == "the native library cannot be built or loaded: No closing quotation"


DAMAGE = {
    "truncated": lambda content: content[:20_000],
    "truncated at a page": lambda content: content[:4096],
    "empty": lambda content: b"",
    "no library": lambda content: b"not a library",
    "a flipped bit": lambda content: content[:9_000] + bytes([content[9_000] ^ 1]) + content[9_001:],
}


@needs_compiler
def test_the_library_is_compiled_once_and_a_damaged_one_again(compilations, no_library, monkeypatch, tmp_path):
    """A truncated one would be loaded, and end the process by SIGBUS."""
    library = loaded_anew()
    assert library.parent == no_library
    assert loaded_anew() == library
    assert len(compilations) == 1
    content = library.read_bytes()
    for k, damage in enumerate(DAMAGE.values(), start=1):
        elsewhere = tmp_path / f"elsewhere-{k}"  # a library of the same path would not be loaded anew
        damaged = elsewhere / "pixelcnn" / library.name
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(damage(content))
        monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere))
        assert loaded_anew() == damaged
        assert len(compilations) == 1 + k
        assert damaged.read_bytes() == content
        assert loaded_anew() == damaged
        assert len(compilations) == 1 + k
        assert os.listdir(damaged.parent) == [library.name]


@needs_compiler
def test_other_options_make_another_library(compilations, no_library, monkeypatch):
    library = loaded_anew()
    monkeypatch.setattr(compiler, "_OPTIONS", [*compiler._OPTIONS, "-DOTHER"])
    assert loaded_anew() != library
    assert len(compilations) == 2


@needs_compiler
def test_without_a_writable_home(compilations, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert loaded_anew().parent == private_folder()


@needs_compiler
def test_a_cache_that_can_only_be_read(compilations, no_library, monkeypatch):
    library = loaded_anew()

    def refuse(*_):
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(compiler, "write_file", refuse)
    assert loaded_anew() == library
    assert len(compilations) == 1


@needs_compiler
def test_nothing_may_be_run_from_the_caches_file_system(compilations, no_library, monkeypatch):
    """Mounted noexec, as the loader sees it: the library is kept there all the same, and loaded from elsewhere."""
    load = ctypes.CDLL

    def refuse(name):
        if Path(name).is_relative_to(no_library):
            raise OSError(f"{name}: failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(compiler.ctypes, "CDLL", refuse)
    for _ in range(2):
        assert loaded_anew().parent == private_folder()
    assert len(compilations) == 1
    assert len(os.listdir(no_library)) == 1
    monkeypatch.setattr(compiler, "private_folder", lambda: no_library / "private")
    compiler._library.cache_clear()
    said = r"cannot be kept or loaded: .*failed to map segment.*; XDG_CACHE_HOME or TMPDIR must name .* mounted noexec"
    assert re.search(said, why_not_native(small()))


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_cache_that_is_mounted_noexec(compilations, no_library):
    no_library.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(no_library)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("nothing is mounted here")
    try:
        for _ in range(2):
            assert loaded_anew().parent == private_folder()
        assert len(compilations) == 1
        assert len(os.listdir(no_library)) == 1
    finally:
        compiler._library.cache_clear()
        subprocess.run(["umount", "--lazy", no_library], check=True)  # the loader keeps a mapping


def test_other_types_are_refused():
    with pytest.raises(NativeError, match=r"float32 and float64, not in torch\.bfloat16"):
        native_library(torch.bfloat16)


@needs_compiler
@pytest.mark.long
@pytest.mark.parametrize("build", [small, attentive])
def test_the_width_of_vectors_does_not_change_a_bit(build, no_library, monkeypatch):
    """As long as multiply and add are fused, which half-width vectors of the same processor are."""
    params = {}
    for options in ([], ["-DVECTOR_BYTES=16"]):
        compiler._library.cache_clear()
        monkeypatch.setenv("XDG_CACHE_HOME", str(no_library / f"{len(options)}"))
        monkeypatch.setattr(compiler, "_OPTIONS", [*compiler._OPTIONS, *options])
        sampler = NativeSampler(build((1, 6, 9), levels=5), Draw(5), threads=1)
        for _ in sampler.run(torch.zeros(5, 1, 6, 9, dtype=torch.uint8), Draw(5, seed=4)):
            pass
        member = sampler._walk._members[0]
        plan, arena = member.plan, member.arena
        params[sampler._walk.library.panel()] = plan.raw_params(arena, 1).flatten()
    assert len(params) == 2 or native_library(torch.float32).panel() == 8
    assert len({tuple(values) for values in params.values()}) == 1
