"""Dr.Jit, Mitsuba and its denoiser, loaded so that they work with pip alone and on one thread.

Importing this module raises ``UserError`` where the extra ``render`` is not installed.
"""

import importlib
import importlib.metadata
import os
from collections.abc import Callable
from typing import Any, TypeVar

from star_r1.errors import UserError


def load() -> tuple[Any, Any, Any]:
    """Dr.Jit, Mitsuba and its denoiser, with the LLVM that the extra installs.

    A system's LLVM is not looked for: with some versions the process aborts.

    Raises:
        UserError: one of them is not installed.
    """
    try:
        if "DRJIT_LIBLLVM_PATH" not in os.environ:
            files = importlib.metadata.files("karellen-llvm-core") or []
            library = next((file for file in files if file.name.startswith("libLLVM.")), None)
            if library is None:
                raise ImportError("karellen-llvm-core holds no libLLVM")
            os.environ["DRJIT_LIBLLVM_PATH"] = str(library.locate())
        # Their type stubs stop mypy, hence not the import statement.
        drjit, mitsuba, denoiser = map(
            importlib.import_module, ("drjit", "mitsuba", "mitsuba_oidn")
        )
    except ImportError as error:
        raise UserError(
            f"pictures need Mitsuba, not found here ({error}); "
            "install it with: pip install 'star-r1[render]'"
        ) from None
    mitsuba.set_variant("llvm_ad_rgb")
    drjit.set_thread_count(0)
    return drjit, mitsuba, denoiser


dr, mi, oidn = load()

_Function = TypeVar("_Function", bound=Callable[..., Any])
branching: Callable[[_Function], _Function] = dr.syntax
"""Decorator: ``if`` and ``while`` on arrays."""
