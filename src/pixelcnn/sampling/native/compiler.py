"""Compiles `engine.c` on first use with the machine's C compiler, and caches the result.

The library is cached in `$XDG_CACHE_HOME/pixelcnn` (`~/.cache/pixelcnn`). Its name encodes its sources, the processor
it was compiled for and its checksum: a file that has changed is not loaded, since a truncated one would crash the
process. If that folder is not writable, or nothing may be executed from its file system (mounted noexec), a temporary
folder of this process is used. The compilers tried are `$CC`, `cc`, `gcc`, `clang` and the `ziglang` package (`pip
install pixelcnn[native]`). If there is none, `native_library` raises an error and sampling uses the eager engine.
"""

from __future__ import annotations

import contextlib
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
from pathlib import Path

import torch

from pixelcnn.files import cache_home, private_folder, write_file
from pixelcnn.levels import array_dtype

__all__ = ["NativeError", "native_library"]

_SOURCE = Path(__file__).with_name("engine.c")
_SOURCES = sorted(_SOURCE.parent.glob("*.[ch]"))
_TYPES = {torch.float32: "float", torch.float64: "double"}
_FLAGS = {"float": ["-DREAL=float"], "double": ["-DREAL=double"], "exact": ["-DREAL=double", "-DEXACT"]}
_OPTIONS = ["-O3", "-ffp-contract=fast", "-fPIC", "-shared"]
_SECONDS = 120  # time limit for the compiler


class NativeError(RuntimeError):
    """There is no native library on this machine; the message says why."""


def native_library(dtype: torch.dtype, levels: int = 2, *, exact: bool = False) -> ctypes.CDLL:
    """The compiled `engine.c` for a parameter dtype and the type that holds levels; exact twins are in float64.

    Raises:
        NativeError: If the dtype is not supported, no compiler is found, or compiling fails.
    """
    if dtype not in _TYPES:
        raise NativeError(f"the native engine computes in float32 and float64, not in {dtype}")
    library = _library("exact" if exact else _TYPES[dtype], array_dtype(levels).name)
    if isinstance(library, str):
        raise NativeError(library)
    return library


@functools.cache
def _library(kind: str, level: str) -> ctypes.CDLL | str:
    """The library, or the reason why there is none: a failure is not retried."""
    try:
        flags = (*_OPTIONS, *_FLAGS[kind], f"-DLEVEL={level}_t")
        return _load(kind, flags)
    except NativeError as error:
        return str(error)
    except (OSError, ValueError) as error:  # ValueError if CC has an open quotation
        return f"the native library cannot be built or loaded: {error}"


def _load(kind: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    prefix = f"native-{kind}-{_fingerprint(flags)}"
    content = _kept(prefix)
    if content is None:
        with tempfile.TemporaryDirectory(prefix="pixelcnn-") as folder:
            compiled = Path(folder) / "native.so"
            _compile(compiled, flags)
            content = compiled.read_bytes()
    complaints = []
    for home in (cache_home, private_folder):
        try:
            path = home() / _name(prefix, content)
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_file(path, content)
            return ctypes.CDLL(str(path))
        except OSError as error:
            complaints.append(str(error))
    raise NativeError(
        f"the compiled library cannot be kept or loaded: {'; '.join(complaints)}; XDG_CACHE_HOME or TMPDIR must name a "
        "folder that can be written to, on a file system that is not mounted noexec"
    )


def _kept(prefix: str) -> bytes | None:
    """The content of a library that was compiled before and is unchanged; None if there is none."""
    with contextlib.suppress(OSError):
        for path in sorted(cache_home().glob(f"{prefix}-*.so")):
            content = path.read_bytes()
            if path.name == _name(prefix, content):
                return content
    return None


def _name(prefix: str, content: bytes) -> str:
    return f"{prefix}-{hashlib.sha256(content).hexdigest()[:32]}.so"


def _compile(target: Path, flags: tuple[str, ...]) -> None:
    compilers = _compilers()
    if not compilers:
        raise NativeError("no C compiler found (cc, gcc, clang, or `pip install ziglang`)")
    tune = "-mcpu=native" if platform.machine().lower() in ("arm64", "aarch64") else "-march=native"
    complaint = ""
    for compiler in compilers:
        for tuned in ([tune], []):
            try:
                done = subprocess.run(
                    [*compiler, *tuned, *flags, "-o", str(target), str(_SOURCE), "-lm"],
                    capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                complaint = complaint or str(error)
                continue
            if done.returncode == 0:
                return
            complaint = complaint or next(iter(done.stderr.splitlines()), f"exit code {done.returncode}")
    raise NativeError(f"the C compiler failed: {complaint}")


def _compilers() -> list[list[str]]:
    found = [given] if (given := shlex.split(os.environ.get("CC", ""))) else []
    found += [[path] for path in map(shutil.which, ("cc", "gcc", "clang")) if path]
    if importlib.util.find_spec("ziglang"):
        found.append([sys.executable, "-m", "ziglang", "cc"])
    return found


def _fingerprint(flags: tuple[str, ...]) -> str:
    """Digest of what the library depends on: the sources, compiler flags, system and processor features."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES))
    digest.update(" ".join(flags).encode())
    digest.update(f"{sys.platform} {platform.machine()} {platform.libc_ver()}".encode())
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        digest.update(next((line for line in lines if line.lower().startswith(("flags", "features"))), "").encode())
    else:
        digest.update(platform.processor().encode())
    return digest.hexdigest()[:16]
