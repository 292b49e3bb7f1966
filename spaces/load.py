"""From the name on the command line to a space, without importing torch."""

from __future__ import annotations

import difflib
from types import ModuleType
from typing import Any

from spaces.own_module import import_own
from spaces.space import Space, SpaceError
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


def load_networks(names: str) -> None:
    """Import a user's modules, named with commas between, so that networks in them may be read from files.

    Raises SpaceError.
    """
    for name in names.split(","):
        try:
            import_own(name.strip(), "--networks")
        except ModuleNotFoundError as error:
            raise SpaceError(f"--networks {names}: there is no module {error.name}") from None


def _import(name: str) -> ModuleType:
    try:
        return import_own(SPACES.get(name, name), "--space")
    except ModuleNotFoundError as error:
        raise SpaceError(_unknown(name, missing=str(error.name))) from None


def _unknown(name: str, *, missing: str) -> str:
    near = difflib.get_close_matches(name, SPACES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no space {name}: {hint}spaces are {', '.join(SPACES)}, and there is no module {missing}"
