"""From the name on the command line to a space, without importing torch."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from spaces.space import Space, SpaceError, describe
from trainables.models.pretrained import ARCHITECTURES

SPACES: dict[str, str] = {
    name: f"spaces.{name}" for name in ("cnn", "resnet18", "mobilenet", "densenet121", "all")
}
"""Name to module."""


def load_space(name: str) -> Space:
    """The space of that name in `SPACES`, or a user's module, found from the current directory too.

    Raises SpaceError with the way out where there is none, or where it does not keep to the convention.
    """
    module = _import(name)
    suggest = getattr(module, "suggest", None)
    if suggest is None:
        raise SpaceError(f"{module.__name__} is no space: it has no function suggest(trial, task)")
    if not callable(suggest):
        raise SpaceError(f"{module.__name__}.suggest must be a function, but is {suggest!r}")
    baselines: Any = getattr(module, "BASELINES", {})
    if not isinstance(baselines, dict):
        raise SpaceError(f"{module.__name__}.BASELINES must be a dict, but is {baselines!r}")
    for key, params in baselines.items():
        if not (isinstance(key, str) and isinstance(params, dict)):
            message = f"BASELINES must map names to dicts of parameters, but has {key!r}: {params!r}"
            raise SpaceError(f"{module.__name__}.{message}")
    architectures = getattr(module, "ARCHITECTURES", ())
    if not isinstance(architectures, tuple | list) or not set(architectures) <= set(ARCHITECTURES):
        raise SpaceError(
            f"{module.__name__}.ARCHITECTURES must be a tuple of some of {', '.join(ARCHITECTURES)}, "
            f"but is {architectures!r}"
        )
    return Space(
        name=name,
        module=module.__name__,
        suggest=suggest,
        baselines=baselines,
        architectures=tuple(architectures),
    )


def _import(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        raise SpaceError(f"a space is named as a module, not as a file: --space {dotted} instead of {name}")
    path = SPACES.get(name, name)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    file = None
    try:
        spec = importlib.util.find_spec(path)
        if spec is None:
            raise ModuleNotFoundError(name=path)
        file = spec.origin
        return importlib.import_module(path)
    except Exception as error:
        parents = [path.rsplit(".", level)[0] for level in range(path.count(".") + 1)]
        if isinstance(error, ModuleNotFoundError) and error.name in parents:
            raise SpaceError(_unknown(name, missing=error.name)) from None
        raise SpaceError(f"{path} cannot be imported: {describe(error, file)}") from error


def _unknown(name: str, *, missing: str) -> str:
    near = difflib.get_close_matches(name, SPACES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no space {name}: {hint}spaces are {', '.join(SPACES)}, and there is no module {missing}"
