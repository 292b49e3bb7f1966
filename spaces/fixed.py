"""A trial whose answers are known: what asks for a configuration again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import optuna


def fixed_trial(params: Mapping[str, Any]) -> optuna.Trial:
    """An Optuna trial that answers each `suggest_*` with the value in `params`, by name.

    Optuna's `FixedTrial` is asked as a `Trial` is, but is none to a type checker. What it was asked for is in
    its `params`; it raises ValueError for a name that it does not know.
    """
    import optuna

    return cast("optuna.Trial", optuna.trial.FixedTrial(dict(params)))
