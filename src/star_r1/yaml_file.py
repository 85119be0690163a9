"""Reads YAML that people write: small, plain files, in which nothing multiplies or stands twice."""

from pathlib import Path
from typing import Any, Final

import yaml

from star_r1.errors import UserError
from star_r1.files import read_regular
from star_r1.texts import harmless

LONGEST: Final = 1 << 18
"""Bytes of a file."""
MOST_VALUES: Final = 10_000
"""Of a file with its aliases written out, which nested ones multiply beyond all memory."""


def read_yaml(path: Path, called: str = "") -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: of the file.
        called: what messages call it; the path if empty.

    Raises:
        UserError: no such file, or no plain one; it is too large, no YAML, no mapping, or has a
            key twice.
    """
    called = called or str(path)
    try:
        loader = yaml.SafeLoader(read_regular(path, LONGEST).decode())
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{called}: give a mapping of settings, such as 'samples: 100'")
        _check(node, called)
        found: dict[str, Any] = loader.construct_document(node)
    except OSError as error:
        raise UserError(f"{called}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{called}:{line}: not YAML: {_words(error.problem)}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{called}: not YAML: {_words(error)}") from None
    return found


def _check(node: yaml.Node, called: str) -> None:
    """Raise a UserError where values are too many once aliases are written out, or a key recurs."""
    left, count = [node], 0
    while left:
        node = left.pop()
        count += 1
        if count > MOST_VALUES:
            raise UserError(f"{called}: holds more than {MOST_VALUES} values; no config needs them")
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                left += (key, value)
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in keys:
                        where = f"{called}:{key.start_mark.line + 1}"
                        raise UserError(f"{where}: {harmless(key.value, 60)} is given twice")
                    keys.add(key.value)


def _words(error: object) -> str:
    return harmless(" ".join(str(error).split()), 300)
