"""Compiles `engine.c` on first use with the machine's C compiler, and keeps the result.

The library is kept in `$XDG_CACHE_HOME/pixelcnn` (`~/.cache/pixelcnn`) under a name that says what it was made from and
for which processor. Compilers are looked for as `$CC`, `cc`, `gcc`, `clang` and the `ziglang` package
(`pip install pixelcnn[native]`). Where there is none, `native_library` says so and sampling uses the eager engine.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch

__all__ = ["NativeError", "native_library"]

_SOURCE = Path(__file__).with_name("engine.c")
_EXACT_SOURCE = Path(__file__).with_name("exact.h")
_TYPES = {torch.float32: "float", torch.float64: "double"}
_FLAGS = {"float": ["-DREAL=float"], "double": ["-DREAL=double"], "exact": ["-DREAL=double", "-DEXACT"]}
_OPTIONS = ["-O3", "-ffp-contract=fast", "-fPIC", "-shared"]
_SECONDS = 120  # that a compiler may take


class NativeError(RuntimeError):
    """There is no native library on this machine, and why."""


def native_library(dtype: torch.dtype, *, exact: bool = False) -> ctypes.CDLL:
    """The compiled `engine.c` for a type of parameters, or for exact twins, which are in float64.

    Raises:
        NativeError: If the type has none, or no compiler is found, or it fails.
    """
    if dtype not in _TYPES:
        raise NativeError(f"the native engine computes in float32 and float64, not in {dtype}")
    library = _library("exact" if exact else _TYPES[dtype])
    if isinstance(library, str):
        raise NativeError(library)
    return library


@functools.cache
def _library(kind: str) -> ctypes.CDLL | str:
    """The library, or why there is none: what fails is not tried again."""
    try:
        return _load(kind)
    except NativeError as error:
        return str(error)
    except OSError as error:
        return f"the native library cannot be made or loaded: {error}"


def _load(kind: str) -> ctypes.CDLL:
    name = f"native-{kind}-{_fingerprint()}.so"
    folder = _cache_folder()
    path = folder / name
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            path.unlink(missing_ok=True)  # damaged: made again
    temporary = Path(tempfile.mkdtemp(dir=folder))
    try:
        compiled = temporary / name
        _compile(compiled, kind)
        compiled.replace(path)
        return ctypes.CDLL(str(path))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _compile(target: Path, kind: str) -> None:
    compilers = _compilers()
    if not compilers:
        raise NativeError("no C compiler found (cc, gcc, clang, or `pip install ziglang`)")
    tune = "-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native"
    complaint = ""
    for compiler in compilers:
        for flags in ([tune], []):
            command = [*compiler, *_OPTIONS, *flags, *_FLAGS[kind]]
            try:
                done = subprocess.run(
                    [*command, "-o", str(target), str(_SOURCE), "-lm"],
                    capture_output=True, text=True, timeout=_SECONDS, check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                complaint = complaint or str(error)
                continue
            if done.returncode == 0:
                return
            complaint = complaint or next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
    message = f"the C compiler failed: {complaint}"
    warnings.warn(f"sampling will be several times slower: {message}", stacklevel=2)
    raise NativeError(message)


def _compilers() -> list[list[str]]:
    found = [shlex.split(os.environ["CC"])] if os.environ.get("CC") else []
    found += [[path] for path in map(shutil.which, ("cc", "gcc", "clang")) if path]
    if importlib.util.find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def _fingerprint() -> str:
    """What the library depends on: its source and the processor's abilities."""
    digest = hashlib.sha256(_SOURCE.read_bytes() + _EXACT_SOURCE.read_bytes())
    digest.update(f"{sys.platform} {platform.machine()}".encode())
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        digest.update(next((line for line in lines if line.lower().startswith(("flags", "features"))), "").encode())
    else:
        digest.update(platform.processor().encode())
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixelcnn"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return _private_folder()


@functools.cache
def _private_folder() -> Path:
    """For this process alone, where there is no writable home; removed at its end."""
    holder = tempfile.TemporaryDirectory(prefix="pixelcnn-", ignore_cleanup_errors=True)
    _held.append(holder)
    return Path(holder.name)


_held: list[tempfile.TemporaryDirectory[str]] = []
