"""What proposes configurations: an Optuna sampler for each trial number, all from one seed."""

from __future__ import annotations

import warnings

import optuna

from search.settings import SamplerName
from trainables.seeding import derive_seed


def make_sampler(name: SamplerName, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`.

    A fresh one a trial, seeded by (seed, number): what it proposes depends on the study alone, and a
    search that goes on after a crash needs no generator's state.
    """
    draw = derive_seed(seed, "proposal", number)
    match name:
        case "random":
            return optuna.samplers.RandomSampler(seed=draw)
        case "tpe":
            with warnings.catch_warnings():
                # without `group` a parameter of only some branches would be drawn independently of the rest
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.TPESampler(
                    seed=draw, multivariate=True, group=True, constant_liar=True
                )
