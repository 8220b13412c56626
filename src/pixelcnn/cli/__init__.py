"""The command line: one module a command, each a frozen dataclass whose fields are the options.

`main` parses with tyro, runs the command, and turns every foreseeable error into one line and exit code 2. Nothing
here imports torch; a command does when it runs.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Union

import tyro

from pixelcnn import __version__
from pixelcnn.cli.bench import Bench
from pixelcnn.cli.complete import Complete
from pixelcnn.cli.compress import Compress
from pixelcnn.cli.convert_keras import ConvertKeras
from pixelcnn.cli.decompress import Decompress
from pixelcnn.cli.evaluate import Evaluate
from pixelcnn.cli.export_keras import ExportKeras
from pixelcnn.cli.export_onnx import ExportOnnx
from pixelcnn.cli.info import Info
from pixelcnn.cli.push import Push
from pixelcnn.cli.sample import Sample
from pixelcnn.cli.score import ScoreCommand
from pixelcnn.cli.serve import Serve
from pixelcnn.cli.streams import discard, usable_streams
from pixelcnn.cli.train import Train
from pixelcnn.processes import joined, own_rank

__all__ = ["main"]

_COMPLETION = "--tyro-print-completion"
_SHELLS = ("bash", "zsh", "fish")

_DESCRIPTION = """Exact-likelihood autoregressive models of images: train, sample, evaluate, score, complete,
compress.

`pixelcnn sample mnist` draws digits from the shipped model; `pixelcnn COMMAND --help` explains a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    0; 2 for wrong input, a full disk or a run that diverged; 130 after Ctrl-C; 143 after SIGTERM stopped a training
    run, which has saved. Of several processes that share a job, one prints results, and one tells an error.

    Raises:
        SystemExit: With the exit code, if another process of the job tells the error.
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
        if arguments[:1] == [_COMPLETION] and arguments[1:] not in ([shell] for shell in _SHELLS):
            raise ValueError(
                f"{_COMPLETION} must be followed by {' or '.join(_SHELLS)}, got {' '.join(arguments[1:])!r}"
            )
        command = _print_completion(arguments) if arguments[:1] == [_COMPLETION] else _parse(arguments)
        if isinstance(command, int):
            sys.stdout.flush()
            return command
        _refuse_empty_names(command, arguments)
        with warnings.catch_warnings(), joined() as processes:
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            with _messages(command) if processes.first else contextlib.redirect_stdout(None):
                command.run()
        sys.stdout.flush()  # here an error can still be told
    except BrokenPipeError:  # `pixelcnn ... | head`
        discard(sys.stdout)
        return 0
    except KeyboardInterrupt as interrupt:
        print(f"pixelcnn: {str(interrupt) or 'stopped'}", file=sys.stderr)
        return int(getattr(interrupt, "exit_code", 130))  # of pixelcnn.training.Interrupted
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch's allocators raise RuntimeError
            raise
        print(f"pixelcnn: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _refuse_empty_names(command: Any, arguments: list[str]) -> None:
    """An empty name, as of a shell's empty variable, is no path, but `Path` takes it for the current folder."""
    if not any(argument == "" or re.fullmatch("--[a-z-]+=", argument) for argument in arguments):
        return
    for name, value in vars(command).items():
        option = f"--{name.replace('_', '-')}"
        given = any(argument.partition("=")[0] == option for argument in arguments)
        if value == Path() or (given and value == ""):
            raise ValueError(f"{option if given else name.upper()} must not be empty")


def _messages(command: Any) -> contextlib.AbstractContextManager[object]:
    """What is printed goes to standard error where standard output takes a file, as with --out /dev/stdout."""
    from pixelcnn.files import descriptor_of

    paths = [value for value in vars(command).values() if isinstance(value, Path)]
    taken = 1 in map(descriptor_of, paths)
    return contextlib.redirect_stdout(sys.stderr) if taken else contextlib.nullcontext()


def _parse(arguments: list[str]) -> Any:
    """The command with its options, or an exit code after tyro has printed help or an error was reported."""
    commands = Union[  # noqa: UP007 - built from values
        Annotated[Train, tyro.conf.subcommand("train", default=Train.with_preset(arguments))],
        Annotated[Sample, tyro.conf.subcommand("sample")],
        Annotated[Evaluate, tyro.conf.subcommand("evaluate")],
        Annotated[ScoreCommand, tyro.conf.subcommand("score")],
        Annotated[Complete, tyro.conf.subcommand("complete")],
        Annotated[Compress, tyro.conf.subcommand("compress")],
        Annotated[Decompress, tyro.conf.subcommand("decompress")],
        Annotated[Info, tyro.conf.subcommand("info")],
        Annotated[Bench, tyro.conf.subcommand("bench")],
        Annotated[Push, tyro.conf.subcommand("push")],
        Annotated[ConvertKeras, tyro.conf.subcommand("convert-keras")],
        Annotated[ExportKeras, tyro.conf.subcommand("export-keras")],
        Annotated[ExportOnnx, tyro.conf.subcommand("export-onnx")],
        Annotated[Serve, tyro.conf.subcommand("serve")],
    ]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                commands,
                args=arguments or ["--help"],
                prog="pixelcnn",
                description=_DESCRIPTION,
                config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stop:
        if stop.code and own_rank().rank == 0:
            print(f"pixelcnn: {_condensed(complaint.getvalue())}", file=sys.stderr)
        return stop.code or 0


def _print_completion(arguments: list[str]) -> int:
    """Prints tyro's script with one line for each option, and files' names where it knows no word, as for MODEL."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = _parse(arguments)
    script = re.sub("^.*COMPLETION_SPEC = .*$", lambda line: _short(line[0]), printed.getvalue(), flags=re.MULTILINE)
    marker = "__TYRO_COMPLETE_FILES__"
    for theirs, ours in (
        ("complete -F ", "complete -o default -F "),  # bash
        ('  COMPREPLY=("${matches[@]}")\n', '  COMPREPLY=()\n  [[ -z $completions ]] || COMPREPLY=("${matches[@]}")\n'),
        (
            f'[[ "$completions" == "{marker}" ]]; then\n    _files',
            f'[[ -z "$completions" || "$completions" == "{marker}" ]]; then\n    _files',
        ),  # zsh
        (f'if test "$results" = {marker}', f'if test -z "$results"; or test "$results" = {marker}'),  # fish
    ):
        script = script.replace(theirs, ours)
    print(script)
    return int(code)


def _short(spec: str) -> str:
    """The completion's data, as quoted for some shell, with one line and one sentence for each description."""
    return re.sub(
        r"""('description': (\\?["']))(.*?)(?=\2, '(?:type|options)')""",
        lambda found: found[1] + found[3].split(". ")[0],
        re.sub(r"\\+n", " ", spec),
    )


def _condensed(box: str) -> str:
    """Tyro's framed error, drawn in Unicode or ASCII, as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    framed = [line.strip("│| ") for line in text.splitlines() if line.startswith(("│", "|"))]
    said = [line for line in framed if line.strip("─-")]
    return "; ".join([" ".join(said[:-1]), said[-1]]) if len(said) > 1 else " ".join(text.split())


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"pixelcnn: warning: {message}", file=sys.stderr)
