"""Families of made-up learning curves: what a search may meet, each with one difficulty of its own.

A family is a space, `suggest(trial)`, and for each configuration the true score after each epoch and the
duration of each. Every seed draws another landscape: where the best lies, which parameters matter, and how
they act together. Scores look like accuracies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAX_EPOCHS = 27
EPOCHS = np.arange(1, MAX_EPOCHS + 1, dtype=float)
CHANCE = 0.1


class Landscape:
    """A random function on [0, 1]^d: a bowl whose parameters matter unequally, tilted by pairs and ripples.

    Values are about 0 at the best point and grow to about 1 far from it.
    """

    def __init__(self, rng: np.random.Generator, dimensions: int) -> None:
        self.centre = rng.uniform(0.1, 0.9, dimensions)
        weights = rng.dirichlet(np.full(dimensions, 0.7))
        self.weights = 4.0 * weights
        self.sharpness = rng.uniform(1.2, 2.5, dimensions)
        self.pairs = [rng.choice(dimensions, 2, replace=False) for _ in range(dimensions // 2)]
        self.waves = rng.normal(size=(6, dimensions)) * 4.0
        self.phases = rng.uniform(0, 2 * np.pi, 6)

    def __call__(self, units: Floats) -> float:
        """The value at a point of shape (d,)."""
        away = np.abs(units - self.centre)
        total = float(self.weights @ away**self.sharpness)
        total += 0.5 * sum(float(np.prod((units - self.centre)[pair])) for pair in self.pairs)
        total += 0.02 * float(np.cos(self.waves @ units + self.phases).mean())
        return float(-np.expm1(-1.5 * max(total, 0.0)))


class Family:
    """Six parameters of usual kinds; every curve rises as a power of the epoch, good ones the same way."""

    noise = 0.003
    """Standard deviation of the score that a search sees, about the true one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.landscape = Landscape(self.rng, 6)
        self.speed = Landscape(self.rng, 6)

    def suggest(self, trial: optuna.Trial) -> None:
        """Ask for one configuration."""
        trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
        trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
        trial.suggest_int("width", 16, 256, log=True)
        trial.suggest_int("depth", 1, 8)
        trial.suggest_float("dropout", 0.0, 0.5, step=0.05)
        trial.suggest_float("smoothing", 0.0, 0.2)

    def units(self, params: Mapping[str, Any]) -> Floats:
        """A configuration on [0, 1]^6."""
        return np.array(
            [
                np.log10(params["learning_rate"]) / 4 + 1,
                np.log10(params["weight_decay"]) / 4 + 1.5,
                np.log2(params["width"] / 16) / 4,
                (params["depth"] - 1) / 7,
                params["dropout"] / 0.5,
                params["smoothing"] / 0.2,
            ]
        )

    def final(self, params: Mapping[str, Any]) -> float:
        """The score that training for ever would reach."""
        return 0.95 - 0.8 * self.landscape(self.units(params))

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """True score after, and seconds of, each epoch."""
        final = self.final(params)
        return final - (final - CHANCE) * 0.7 * EPOCHS**-0.7, np.ones(MAX_EPOCHS)

    def curve(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """What a search sees: the same configuration always has the same noise."""
        values, seconds = self.truth(params)
        draw = np.random.default_rng([self.seed, *np.frombuffer(repr(params).encode(), np.uint8).tolist()])
        return values + draw.normal(scale=self.noise, size=MAX_EPOCHS), seconds


class Crossing(Family):
    """What learns fast ends low: a second landscape sets the speed, and the best points are slow ones."""

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """See `Family`."""
        slowness = 0.6 * self.speed(self.units(params)) + 0.4 * (1 - self.landscape(self.units(params)))
        final = self.final(params)
        rate = 1.6 - 1.3 * slowness
        return final - (final - CHANCE) * 0.8 * EPOCHS**-rate, np.ones(MAX_EPOCHS)


class Noisy(Family):
    """A score's noise, three points, is as large as what tells good from very good; eight parameters more
    do nothing.
    """

    noise = 0.03

    def suggest(self, trial: optuna.Trial) -> None:
        """See `Family`."""
        super().suggest(trial)
        for index in range(8):
            trial.suggest_float(f"idle_{index}", 0.0, 1.0)


class SlowStarters(Family):
    """Every score is at chance for some epochs, more of them for some configurations; some never learn."""

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """See `Family`."""
        delay = 1.0 + 6.0 * self.speed(self.units(params))
        trained = np.maximum(EPOCHS - delay, 0.0)
        final = self.final(params)
        return CHANCE + (final - CHANCE) * trained / (trained + 3.0), np.ones(MAX_EPOCHS)


class Costly(Family):
    """An epoch of the widest takes ten times as long as one of the narrowest, and wide is a little better."""

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """See `Family`."""
        values, _ = super().truth(params)
        wide = np.log2(params["width"] / 16) / 4
        return values * (0.9 + 0.1 * wide), np.full(MAX_EPOCHS, 0.3 * 10.0**wide)


class Conditional(Family):
    """Twelve parameters: two choices decide which of them are asked for, and one branch of each is better
    by a little only when it is tuned. A learning rate that is too high for its optimizer diverges.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.branches = {name: Landscape(self.rng, 3) for name in ("sgd", "adam", "pool", "flatten")}
        self.penalty = dict(
            zip(
                ("sgd", "adam", "pool", "flatten", "relu", "gelu", "silu"),
                self.rng.uniform(0.0, 0.08, 7),
                strict=True,
            )
        )
        self.common = Landscape(self.rng, 4)

    def suggest(self, trial: optuna.Trial) -> None:
        """See `Family`."""
        if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
            trial.suggest_float("sgd.learning_rate", 1e-3, 10.0, log=True)
            trial.suggest_float("sgd.momentum", 0.0, 0.99)
            trial.suggest_categorical("sgd.nesterov", [False, True])
        else:
            trial.suggest_float("adam.learning_rate", 1e-5, 0.1, log=True)
            trial.suggest_float("adam.beta", 0.8, 0.999)
        if trial.suggest_categorical("head", ["pool", "flatten"]) == "flatten":
            trial.suggest_int("head.dense", 32, 512, log=True)
        trial.suggest_categorical("activation", ["relu", "gelu", "silu"])
        trial.suggest_int("width", 16, 256, step=16)
        trial.suggest_int("depth", 1, 8)
        trial.suggest_float("dropout", 0.0, 0.5, step=0.05)

    def final(self, params: Mapping[str, Any]) -> float:
        """See `Family`."""
        name, head = params["optimizer"], params["head"]
        if name == "sgd":
            inner = [
                np.log10(params["sgd.learning_rate"]) / 4 + 0.75,
                params["sgd.momentum"],
                float(params["sgd.nesterov"]),
            ]
        else:
            inner = [np.log10(params["adam.learning_rate"]) / 4 + 1.25, (params["adam.beta"] - 0.8) * 5, 0.5]
        dense = np.log2(params["head.dense"] / 32) / 4 if head == "flatten" else 0.5
        width, depth = (params["width"] - 16) / 240, (params["depth"] - 1) / 7
        loss = (
            0.5 * self.branches[name](np.array(inner))
            + 0.2 * self.branches[head](np.array([dense, width, depth]))
            + 0.3 * self.common(np.array([inner[0], width, depth, params["dropout"] * 2]))
        )
        penalty = sum(self.penalty[part] for part in (name, head, params["activation"]))
        return float(0.95 - 0.8 * loss - penalty)

    def truth(self, params: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """See `Family`."""
        values, seconds = super().truth(params)
        rate = params.get("sgd.learning_rate", params.get("adam.learning_rate", 0.0) * 100)
        if rate > 3.0:
            values[params["depth"] // 2 :] = np.nan
        return values, seconds


FAMILIES: dict[str, type[Family]] = {
    "plain": Family,
    "crossing": Crossing,
    "noisy": Noisy,
    "slow starters": SlowStarters,
    "costly": Costly,
    "conditional": Conditional,
}
