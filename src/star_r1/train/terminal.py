"""What a training run says on the terminal, and what it keeps the libraries from saying."""

import os
import sys
import warnings

import datasets
import transformers

from star_r1.texts import harmless


def quiet() -> None:
    """Leave the terminal to the run: no bars, notes or telemetry of the libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL reports each run otherwise
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    # transformers and TRL still read names that transformers itself has renamed
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl")


def say(message: str) -> None:
    """One line on stderr, from the first process only."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(harmless(message), file=sys.stderr, flush=True)
