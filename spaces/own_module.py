"""Importing a user's module: found from the current directory too, with errors that name the way out."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from spaces.space import SpaceError, describe


def import_own(name: str, option: str) -> ModuleType:
    """The module that a user named with `option`.

    Raises ModuleNotFoundError where there is none, and SpaceError where it cannot be imported.
    """
    if name.endswith(".py") or "/" in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        raise SpaceError(f"{option} names a module, not a file: {option} {dotted} instead of {name}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    file = None
    try:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"there is no module {name}", name=name)
        file = spec.origin
        return importlib.import_module(name)
    except Exception as error:
        parents = [name.rsplit(".", level)[0] for level in range(name.count(".") + 1)]
        if isinstance(error, ModuleNotFoundError) and error.name in parents:
            raise
        raise SpaceError(f"{name} cannot be imported: {describe(error, file)}") from error
