"""All commands, and the line for what goes wrong in one."""

from typing import Final

import typer

from star_r1.cli import analyze, compare, data, evaluate, explore, look, train
from star_r1.errors import UserError

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


def run(arguments: list[str]) -> int:
    """Run a command; its exit status.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    try:
        status = app(arguments, prog_name="star-r1", standalone_mode=False) or 0
    except typer.Abort:
        raise KeyboardInterrupt from None
    if status == 130:
        raise KeyboardInterrupt
    return int(status)


def explain(error: Exception) -> tuple[str, int]:
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
