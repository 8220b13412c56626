"""The command line: each command is a frozen dataclass whose fields are its options, in a module's `COMMANDS`.

`main` parses the arguments with tyro, runs the command, and turns every foreseeable error into one line and exit code
2. Nothing here imports torch; commands do when they run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from pixelcnn.cli.options import use_threads
from pixelcnn.cli.streams import discard, usable_streams
from pixelcnn.cli.train import Train
from pixelcnn.processes import exit_code, joined, own_rank
from pixelcnn.version import __version__

__all__ = ["main"]

_FIRST = ("train", "sample", "evaluate", "score", "complete", "compress", "decompress", "info")  # in the help
_IMPORT = "--import"
_COMPLETION = "--tyro-print-completion"
_SHELLS = ("bash", "zsh", "fish")
_HELP = ConstructorRegistry()
_FLOWED = object()  # marks a type whose help is being flowed

_DESCRIPTION = """Exact-likelihood autoregressive models of images: train, sample, evaluate, score, complete, compress.

`pixelcnn sample mnist` draws digits from the shipped model; `pixelcnn COMMAND --help` explains a command.
With any command, `--import MODULE` first imports a module that registers models of your own.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    0; 1 if `verify` finds a fault, or if something was lost to `decompress --salvage`; 2 for wrong input, a full disk
    or a run that diverged; 130 after Ctrl-C; 143 after SIGTERM stopped a training run, which has saved. If several
    processes share a job, one prints the results, and one reports an error.

    Raises:
        SystemExit: With the exit code, if another process of the job reports the error.
    """
    if "torch" not in sys.modules:  # when it is loaded, its threads read how to wait for each other: not by spinning
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with usable_streams():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(arguments: list[str]) -> int:
    try:
        if arguments in (["--version"], ["-V"]):
            print(f"pixelcnn {__version__}", flush=True)
            return 0
        command = _parse(_imported(arguments))
        if isinstance(command, int):
            sys.stdout.flush()
            return command
        _check_names(command, arguments)
        use_threads(getattr(command, "threads", None))
        with warnings.catch_warnings(), joined() as processes:
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            with _messages(command) if processes.first else contextlib.redirect_stdout(None):
                code = command.run()
        sys.stdout.flush()  # here an error can still be reported
    except BrokenPipeError:  # `pixelcnn ... | head`
        discard(sys.stdout)
        return 0
    except KeyboardInterrupt as interrupt:
        print(f"pixelcnn: {str(interrupt) or 'stopped'}", file=sys.stderr)
        return exit_code(interrupt)
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch's allocators raise RuntimeError
            raise
        print(f"pixelcnn: {_one_line(error)}", file=sys.stderr)
        return 2
    return int(code or 0)


def _imported(arguments: list[str]) -> list[str]:
    """The arguments without `--import MODULE`, after the modules have been imported.

    Raises:
        ValueError: If there is no such module, one of its imports or its syntax is wrong, or it is something else than
            a module's name, such as a path.
    """
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, equals, name = argument.partition("=")
        if option != _IMPORT:
            others.append(argument)
            continue
        name = name if equals else next(rest, "")
        if "" not in sys.path and (here := str(Path.cwd())) not in sys.path:
            sys.path.insert(0, here)
        if not name or name.startswith("."):
            raise ValueError(f"{_IMPORT} must be followed by a module's name, got {name!r}")
        try:
            importlib.import_module(name)
        except (ImportError, SyntaxError) as error:
            raise ValueError(f"{_IMPORT} {name}: {error}") from None
    return others


def _commands() -> dict[str, type]:
    """Every command by its name, from the `COMMANDS` of this package's modules; the most used first."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = {name: kind for module in modules for name, kind in getattr(module, "COMMANDS", {}).items()}
    return {name: found[name] for name in (*_FIRST, *sorted(found.keys() - set(_FIRST)))}


def _parse(arguments: list[str]) -> Any:
    """The command with its options, or an exit code after tyro has printed help or an error was reported.

    Raises:
        ValueError: If a completion script is requested for a shell that there is none for.
    """
    if arguments[:1] == [_COMPLETION] and arguments[1:] not in ([shell] for shell in _SHELLS):
        raise ValueError(f"{_COMPLETION} must be followed by {' or '.join(_SHELLS)}, got {' '.join(arguments[1:])!r}")
    defaults: dict[str, Any] = {"train": {"default": Train.with_preset(arguments)}}
    commands: Any = Union[  # noqa: UP007 - built from values
        tuple(
            Annotated[kind, tyro.conf.subcommand(name, **defaults.get(name, {}))] for name, kind in _commands().items()
        )
    ]
    error_box = io.StringIO()
    try:
        with contextlib.redirect_stderr(error_box):
            return tyro.cli(
                commands,
                args=arguments or ["--help"],
                prog="pixelcnn",
                description=_DESCRIPTION,
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
                registry=_HELP,
            )
    except SystemExit as stop:
        if stop.code and own_rank().rank == 0:
            print(f"pixelcnn: {_condensed(error_box.getvalue())}", file=sys.stderr)
        return stop.code or 0


@_HELP.struct_rule
def _flowing_help(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Tyro's own rule for a dataclass, with each option's help as one line, wherever its docstring has line breaks.

    Otherwise they stay in `--help`, and in completion scripts they pass for options.
    """
    if not dataclasses.is_dataclass(info.type) or _FLOWED in info.markers:
        return None
    spec = ConstructorRegistry.get_struct_spec(dataclasses.replace(info, markers=(*info.markers, _FLOWED)))
    if not isinstance(spec, StructConstructorSpec):
        return None

    def flowing(field: StructFieldSpec) -> StructFieldSpec:
        text = field.helptext() if callable(field.helptext) else field.helptext
        return dataclasses.replace(field, helptext=text and " ".join(text.split()))

    return dataclasses.replace(spec, fields=tuple(map(flowing, spec.fields)))


def _check_names(command: Any, arguments: list[str]) -> None:
    """Raises ValueError for names that are hardly meant: an empty one, as from an unset shell variable, which `Path`
    takes for the current folder, and `-`, which would be a file or folder of this name.
    """
    empty = any(argument == "" or re.fullmatch("--[a-z-]+=", argument) for argument in arguments)
    dash = any(argument == "-" or re.fullmatch("--[a-z-]+=-", argument) for argument in arguments)
    for name, value in vars(command).items() if empty or dash else ():
        option = f"--{name.replace('_', '-')}"
        given = any(argument.partition("=")[0] == option for argument in arguments)
        shown = option if given else name.upper()
        if empty and (value == Path() or (given and value == "")):
            raise ValueError(f"{shown} must not be empty")
        if dash and value == Path("-"):
            raise ValueError(
                f"{shown} must be a path, got '-': standard output is /dev/stdout, a file of this name ./-"
            )


def _messages(command: Any) -> contextlib.AbstractContextManager[object]:
    """Sends messages to standard error if standard output receives a file, as with --out /dev/stdout."""
    from pixelcnn.files import descriptor_of

    paths = [value for value in vars(command).values() if isinstance(value, Path)]
    taken = 1 in map(descriptor_of, paths)
    return contextlib.redirect_stdout(sys.stderr) if taken else contextlib.nullcontext()


def _condensed(box: str) -> str:
    """Tyro's error as one line: the parts between its rules, without the heading.

    Tyro frames it where the encoding has such characters; elsewhere the heading is a part of its own.
    """
    lines = re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()
    parts: list[list[str]] = [[]]
    for line in (line.strip("│| ") for line in lines):
        if line and not line.strip("─-"):
            parts.append([])
        elif line and line[0] not in "╭╰+":
            parts[-1].append(line)
    found = [" ".join(part).rstrip(".") for part in parts if part]
    framed = any(line.startswith(("╭", "+")) for line in lines)
    return "; ".join(found if framed or len(found) < 2 else found[1:])


def _one_line(error: Exception) -> str:
    if isinstance(error, RuntimeError) and (needed := re.search("allocate ([0-9]+) bytes", str(error))):
        return f"not enough memory for {int(needed[1]):,} bytes; ask for fewer or smaller images at a time"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"pixelcnn: warning: {message}", file=sys.stderr)
