"""Names of a package that are imported when they are asked for.

A package writes its names once, as imports below `if TYPE_CHECKING`, which type checkers carry out; at run time they
are read as a list of where every name lives. So what needs no torch loads none.
"""

import ast
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def rooms_of(package: str, file: str) -> dict[str, str]:
    """The module of every name that the source of a package imports from its own modules."""
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}.")
        for alias in node.names
    }


def imported(package: str, rooms: Mapping[str, str], name: str) -> Any:
    """The name, from its module.

    Raises:
        AttributeError: the package has no such name.
    """
    if name not in rooms:
        raise AttributeError(f"{package} has no {name!r}")
    return getattr(import_module(rooms[name]), name)
