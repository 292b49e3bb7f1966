"""A space as the rest of the project sees it, and what can be wrong with one."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.config import Task, TrialConfig

if TYPE_CHECKING:
    import optuna


class SpaceError(ValueError):
    """A space that cannot be searched; the message is one line for its author."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What to search: choices, and configurations known beforehand."""

    name: str
    """As the user gave it: a name of `SPACES` or a module."""
    module: str
    """The module it was loaded from, as `import` names it."""
    suggest: Callable[[optuna.Trial, Task], TrialConfig]
    """Asks the trial for each choice, and makes a configuration of them."""
    baselines: dict[str, dict[str, Any]]
    """Parameters known beforehand, by the name of their row."""
    architectures: tuple[str, ...] = ()
    """The pretrained networks in it, which need weights."""


def describe(error: Exception, file: str | None) -> str:
    """One line: what was raised, and the last line of `file`, or else of any file, on the way there."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if file and Path(frame.filename) == Path(file)] or frames
        place = f"{own[-1].filename}:{own[-1].lineno}"
    return f"{type(error).__name__}: {text} ({place})"
