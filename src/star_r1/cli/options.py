"""Flags that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

# Flags that another parser reads, --help among them.
PASS_ON: Final[dict[str, Any]] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "add_help_option": False,
}

Data = Annotated[Path, typer.Option("--data", help="Dataset folder, or FOLDER/SPLIT.")]
Seed = Annotated[int, typer.Option(help="0 or greater.", min=0)]
Workers = Annotated[int, typer.Option(help="Processes; no effect on the bytes.", min=1, max=1024)]
