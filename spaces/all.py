"""All families in one space: the family is the first choice, and each parameter is called `family.name`."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from spaces import cnn, densenet121, mobilenet, resnet18
from spaces.choices import choice
from trainables.config import Task, TrialConfig

if TYPE_CHECKING:
    import optuna

FAMILIES: dict[str, ModuleType] = {
    "cnn": cnn,
    "resnet18": resnet18,
    "mobilenet": mobilenet,
    "densenet121": densenet121,
}
ARCHITECTURES = tuple(one for family in FAMILIES.values() for one in getattr(family, "ARCHITECTURES", ()))


def suggest(trial: optuna.Trial, task: Task) -> TrialConfig:
    """One configuration of one family; those that there are no weights for are not among them."""
    family = choice(trial, "family", *(name for name in FAMILIES if _has_weights(name, task)))
    suggest_one: Callable[[optuna.Trial, Task], TrialConfig] = FAMILIES[family].suggest
    return suggest_one(cast("optuna.Trial", _Prefixed(trial, f"{family}.")), task)


def _has_weights(family: str, task: Task) -> bool:
    needed = getattr(FAMILIES[family], "ARCHITECTURES", ())
    return not needed or not task.architectures or bool(set(needed) & set(task.architectures))


class _Prefixed:
    """A trial whose parameters have names that begin with `prefix`; in all else the trial itself."""

    def __init__(self, trial: optuna.Trial, prefix: str) -> None:
        self._trial, self._prefix = trial, prefix

    def suggest_categorical(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return self._trial.suggest_categorical(self._prefix + name, *args, **kwargs)

    def suggest_float(self, name: str, *args: Any, **kwargs: Any) -> float:
        return self._trial.suggest_float(self._prefix + name, *args, **kwargs)

    def suggest_int(self, name: str, *args: Any, **kwargs: Any) -> int:
        return self._trial.suggest_int(self._prefix + name, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


BASELINES: dict[str, dict[str, Any]] = {
    f"{family}.{name}": {"family": family} | {f"{family}.{key}": value for key, value in params.items()}
    for family, module in FAMILIES.items()
    for name, params in module.BASELINES.items()
}
"""Those of all families; of a family that does not fit, `spaces.misfits` names them."""
