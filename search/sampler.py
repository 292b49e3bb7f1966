"""What proposes configurations: an Optuna sampler for each trial number, all from one seed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import optuna

from search.unfinished import UnfinishedAsPruned
from trainables.seeding import derive_seed

BUILT_IN = ("multifidelity", "tpe", "random")


def samplers(name: str, seed: int) -> Callable[[int], optuna.samplers.BaseSampler]:
    """A function from a trial's number to the sampler that proposes it.

    `name` is one of BUILT_IN, or `module:function` for a function from a seed to an Optuna sampler. What is
    proposed depends on the seed, the number and the study alone, so that a search that goes on after a
    crash needs no generator's state. Raises ValueError for a name that leads to nothing.
    """
    if name == "multifidelity":
        from search.multifidelity import MultifidelitySampler

        sampler = MultifidelitySampler(seed)  # one for all: it draws by trial number, and remembers rows
        return lambda number: sampler
    make = {"tpe": _tpe, "random": _random}.get(name) or _own(name)
    return lambda number: make(derive_seed(seed, "proposal", number))


def check_sampler(name: str) -> None:
    """Raise ValueError unless `name` leads to an Optuna sampler."""
    if name not in BUILT_IN:  # those are sound, and take long to import
        make_sampler(name, 0, 0)


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`; see `samplers`, which is quicker for many of them."""
    return samplers(name, seed)(number)


def _random(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _tpe(seed: int) -> optuna.samplers.BaseSampler:
    with warnings.catch_warnings():
        # without `group` a parameter of only some branches would be drawn independently of the rest
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        tpe = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    return UnfinishedAsPruned(tpe)


def _own(name: str) -> Callable[[int], optuna.samplers.BaseSampler]:
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"a sampler must be one of {', '.join(BUILT_IN)} or module:function, not {name!r}")
    try:
        make = getattr(importlib.import_module(module), function)
    except Exception as error:  # a user's module may raise anything
        raise ValueError(f"sampler {name!r} cannot be imported: {error!r:.300}") from error

    def checked(seed: int) -> optuna.samplers.BaseSampler:
        try:
            sampler = make(seed)
        except Exception as error:
            raise ValueError(f"sampler {name!r} raised {error!r:.300}") from error
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise ValueError(f"sampler {name!r} made a {type(sampler).__name__}, not an Optuna sampler")
        return sampler

    return checked
