"""The command line: reads flags, calls what does the work, prints a mistake as one line.

Nothing else is imported before ``main`` watches for Ctrl-C.
"""

import os
import sys
from typing import Final

from star_r1 import interrupts

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
    goes_on = arguments[0] in _RESUMABLE and "--restart" not in arguments
    hint = "; the same command goes on from what is finished" if goes_on else ""
    interrupted = f"interrupted{hint}"
    interrupts.watch(interrupted)
    try:
        from star_r1.cli.app import explain, run

        status = run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _fail(interrupted, interrupts.STATUS)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        if interrupts.came():  # and what it broke was reported in another form
            status = _fail(interrupted, interrupts.STATUS)
        elif os.environ.get("STAR_R1_DEBUG") == "1":
            raise
        else:
            status = _fail(*explain(error))
    interrupts.end()
    sys.exit(status)


def _fail(line: str, status: int) -> int:
    from star_r1.texts import harmless  # a message may quote other people's files

    print(harmless(" ".join(line.split())), file=sys.stderr)
    return status
