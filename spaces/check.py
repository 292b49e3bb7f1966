"""Tries a space before any trial starts: what would stop a search in its first hour stops it here."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spaces.fixed import fixed_trial
from spaces.space import Space, SpaceError, describe
from trainables.config import Task, TrialConfig, from_json, to_json
from trainables.models.pretrained import ARCHITECTURES, PretrainedConfig

if TYPE_CHECKING:
    import optuna


def check_space(
    space: Space, task: Task, *, draws: int = 20, seed: int = 0, baselines: Iterable[str] | None = None
) -> None:
    """Try `draws` random suggestions and the named baselines (None: all of them), without training.

    Raises SpaceError where `suggest` raises, warns or returns no TrialConfig; where a configuration does not
    survive JSON, builds no network, or one whose output is not (batch, classes); and where a baseline is
    no point of the space for this task (`misfits` names these beforehand).
    """
    import optuna

    with _quiet():
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        for _ in range(draws):
            trial = study.ask()
            _try(space, task, trial, "a random trial")
    for name in space.baselines if baselines is None else baselines:
        _try_baseline(space, task, name)


def misfits(space: Space, task: Task) -> dict[str, str]:
    """The baselines that are no point of the space for this task, with the reason: mostly, small images."""
    reasons = {}
    for name in space.baselines:
        try:
            _try_baseline(space, task, name)
        except SpaceError as error:
            reasons[name] = str(error)
    return reasons


def _try_baseline(space: Space, task: Task, name: str) -> None:
    if name not in space.baselines:
        raise SpaceError(
            f"{space.name} has no baseline {name}, but {', '.join(space.baselines) or 'none at all'}"
        )
    params = space.baselines[name]
    trial = fixed_trial(params)
    _try(space, task, trial, f"baseline {name}")
    unasked = {key: value for key, value in params.items() if key not in trial.params}
    if unasked:
        raise SpaceError(
            f"{space.name}: baseline {name} sets what is not asked for with its other values: {unasked}"
        )


def _try(space: Space, task: Task, trial: optuna.Trial, what: str) -> None:
    file = getattr(sys.modules.get(space.module), "__file__", None)
    try:
        with warnings.catch_warnings():
            # Optuna only warns of a value out of range, or of two ranges for one name; what else a module
            # warns of (deprecations) is not about the space
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            config = space.suggest(trial, task)
    except Exception as error:
        raise SpaceError(f"{space.name}: suggest fails for {what}: {describe(error, file)}") from error
    if not isinstance(config, TrialConfig):
        raise SpaceError(
            f"{space.name}: suggest must return a TrialConfig, but returns {type(config).__name__} for {what}"
        )
    problem = _weights_problem(space, config, task) or _network_problem(config, task, file)
    if problem:
        raise SpaceError(f"{space.name}: {what} {problem}; its parameters are {trial.params}")


def _weights_problem(space: Space, config: TrialConfig, task: Task) -> str:
    model = config.model
    if not isinstance(model, PretrainedConfig) or model.weights == "none":
        return ""
    if model.architecture not in space.architectures:
        return (
            f"begins with pretrained weights, which are only at hand for what the module says by "
            f"ARCHITECTURES = ({model.architecture!r},)"
        )
    if model.weights != task.weights or model.architecture not in (task.architectures or ARCHITECTURES):
        return (
            f"is a {model.architecture} that begins with weights {model.weights}, but at hand are "
            f"{task.weights} for {', '.join(task.architectures)}: ask task.weights and task.architectures"
        )
    return ""


def _network_problem(config: TrialConfig, task: Task, file: str | None) -> str:
    from trainables.models.size import output_shape

    try:
        if from_json(json.loads(json.dumps(to_json(config)))) != config:
            return f"is not the same after JSON: {config}"
    except Exception as error:
        return f"does not survive JSON: {describe(error, file)}"
    try:
        shape = output_shape(config.model, task)
    except Exception as error:
        return f"builds no network: {describe(error, file)}"
    if shape != (2, task.classes):
        return f"gives {shape} for 2 images, where (2, {task.classes}) is needed for {task.classes} classes"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's line about a new study, which is none of the user's."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
