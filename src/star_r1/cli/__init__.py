"""The command line: reads flags, calls what does the work, prints a mistake as one line."""

import os
import sys
from typing import Final

import typer

from star_r1.cli import analyze, compare, data, evaluate, explore, look, train
from star_r1.errors import UserError
from star_r1.texts import harmless

app = typer.Typer(
    name="star-r1",
    help="Transformation-driven visual reasoning by reinforcement learning: data, training, "
    "evaluation (arXiv 2505.15804).",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for part in (data, train, evaluate, compare, analyze, explore, look):
    app.add_typer(part.app)

_EXTRA: Final = {
    "mitsuba": "render",
    "mitsuba_oidn": "render",
    "drjit": "render",
    "datasets": "data",
    "pyarrow": "data",
    "yaml": "data",
    "h5py": "h5",
    "huggingface_hub": "data",
    "torch": "train",
    "transformers": "train",
    "trl": "train",
    "peft": "train",
    "accelerate": "train",
    "jinja2": "report",
    "matplotlib": "report",
    "openai": "endpoint",
    "inspect_ai": "inspect",
}
"""Package -> the extra of star-r1 that installs it."""

_RESUMABLE: Final = (
    "generate",
    "import",
    "export",
    "train",
    "pretrain",
    "evaluate",
    "analyze",
    "explore",
    "demo",
)
"""Commands that go on from what is finished when they are called again."""


def main() -> None:
    """Run the command line; the exit status is 2 for mistakes in the input, 130 for Ctrl-C.

    A mistake prints one line ``error: ...`` and never a traceback, unless ``STAR_R1_DEBUG=1``.
    """
    arguments = sys.argv[1:] or ["--help"]
    try:
        status = app(arguments, prog_name="star-r1", standalone_mode=False) or 0
        if status == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        hint = "; the same command goes on from what is finished"
        status = _fail("interrupted" + (hint if arguments[0] in _RESUMABLE else ""), 130)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        if os.environ.get("STAR_R1_DEBUG") == "1":
            raise
        status = _fail(*_explain(error))
    sys.exit(status)


def _explain(error: Exception) -> tuple[str, int]:
    """The line for an error, and the exit status."""
    if isinstance(error, UserError):
        return f"error: {error}", 2
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "star-r1"
        message = error.format_message().rstrip(".")
        return f"error: {message}; see '{command} --help'", 2
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in _EXTRA:
            install = f"pip install 'star-r1[{_EXTRA[package]}]'"
            return f"error: this needs {package}, which is not installed; {install}", 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"error: {error.filename}: {error.strerror}", 2
    return (
        f"error: unexpected {type(error).__name__}: {error}; this is a bug, "
        "STAR_R1_DEBUG=1 shows where",
        1,
    )


def _fail(line: str, status: int) -> int:
    # A message may quote other people's files.
    print(harmless(" ".join(line.split())), file=sys.stderr)
    return status
