"""Every option of a search: frozen, checked when made, and the only source of the command line.

Options of one kind stand in one class, which is one group of `--help`; `Settings` is all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from search.formats import (
    check_database_address,
    check_run_name,
    is_host_and_port,
    parse_duration,
    parse_resources,
)
from trainables.config import require, require_choice
from trainables.place import location

Auto = Literal["auto"]
Metric = Literal["accuracy", "macro_f1", "loss"]
AshaRule = Literal["promote", "stop", "none"]
Device = Literal["auto", "cpu", "cuda"]
PrecisionOption = Literal["auto", "fp32", "bf16"]
CompileOption = Literal["auto", "always", "never"]


PATHS = ("data_dir", "storage", "start_from")
ADDRESSES = ("storage", "start_from")
"""Of these, what may be in an object store: then it is no path but a string, s3://bucket/runs."""


class UsageError(ValueError):
    """What a user asked for cannot be done; the message is one line that says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Data: the images, and how they are divided."""

    dataset: str = "auto"
    """auto (CIFAR-10, or digits where it cannot be had), cifar10, digits, or the path of a folder or
    archive that holds train/<class>/* and optionally val/ and test/."""
    data_dir: Path | None = None
    """Where data sets are kept and downloaded to; None is the user's cache folder."""
    image_size: int | Auto = "auto"
    """Height and width in pixels that images are cropped and resized to; auto is 32 for CIFAR-10 and digits,
    for your own images their shorter side where all share one below 64, otherwise 64."""
    val_fraction: float = 0.1
    """Share of the training part that validates, unless the data set has a val/ folder."""
    weights: str = "imagenet"
    """What pretrained networks begin with: imagenet (downloaded once), none (random values), or the path of a
    state dict (.pth, .safetensors) for one of the space's networks, or of a folder with a file for each,
    called as the network is: resnet18.pth. Only spaces of pretrained networks look at it."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Search: what is tried, for how long, and what is best."""

    space: str = "cnn"
    """Name of a space of this project, or a module of your own that has suggest(trial, task)."""
    trials: int | Auto = "auto"
    """Configurations to train; auto is as many as a budget allows; without any, 12 on a CPU, 100 on GPUs."""
    time_budget: str = "none"
    """Wall time after which the search ends, such as 90s, 30m or 2h."""
    total_epochs: int | None = None
    """Epochs, of all trials together, after which the search ends."""
    gpu_hours: float | None = None
    """GPU-hours after which the search ends: the time that trials hold a GPU, times their share of it."""
    max_epochs: int | Auto = "auto"
    """Epochs of a trial that is never stopped; auto is 9 on a CPU and 27 on GPUs."""
    min_epochs: int = 1
    """Epochs before a trial can first be stopped: the lowest rung."""
    reduction_factor: int = 3
    """About one in this many goes on past each rung."""
    asha: AshaRule = "promote"
    """promote: trials wait at each rung, and the best of them go on; stop: a trial that is not among the
    best when it comes to a rung is stopped; none: every trial is trained to the end."""
    sampler: str = "multifidelity"
    """What proposes configurations: multifidelity (a Gaussian process on the highest rung that enough trials
    have reached), tpe (Optuna's), random, or module:function for a function from a seed to an Optuna sampler
    of your own, whose after_trial is not called."""
    start_from: str | Path | None = None
    """Folder (or s3:// address) of an earlier run over the same space: its best configurations are trained
    first, and where data and training are the same as well, the sampler learns from all its trials."""
    metric: Metric = "accuracy"
    """Validation score to search for; loss is minimized."""
    max_params: int | None = None
    """Refuse networks with more parameters than this, without training them."""
    max_macs: int | Auto | None = "auto"
    """Refuse networks that multiply and add more often than this for an image; auto is 100,000 a pixel on a
    CPU, where the costliest would take most of the time, with pretrained networks 600 million if that is
    more, and None on GPUs."""
    baselines: bool = False
    """First train the configurations known beforehand that the space names."""
    confirm: bool = True
    """After the search, retrain the best configurations in full with new seeds before one is named the
    best, and refit that one, and baselines, on training and validation images; a time budget covers it."""
    confirm_top: int = 3
    """How many of the best configurations are confirmed."""
    confirm_seeds: int = 3
    """New seeds of each of them."""
    seed: int = 0
    """Seed of the split, of every proposal and of every trial."""


@dataclass(frozen=True, kw_only=True)
class ResourceSettings:
    """Resources: what each trial gets, and how many run side by side."""

    address: str = "local"
    """Ray cluster to search on: local (a Ray of its own on this machine), auto (the one that this machine is
    part of), or host:port of its head."""
    wait_for: str = "none"
    """What a cluster must have before the search begins, such as 8gpu or 32cpu; with none it begins with what
    is there."""
    wait_timeout: str = "10m"
    """Longest wait for that."""
    head_trains: bool = False
    """Place trials on a cluster's head node too, which otherwise only leads."""
    cpus_per_trial: int | Auto = "auto"
    """CPU cores of a trial; auto shares them out evenly."""
    gpus_per_trial: float | Auto = "auto"
    """GPU of a trial: 1, a fraction to share one, or 0; auto is 1 where there is a GPU, else 0."""
    max_concurrent: int | Auto = "auto"
    """Most trials at once; auto is as many as the machine has room for."""
    device: Device = "auto"
    """What trials train on; auto is the GPU where the trial has one."""
    precision: PrecisionOption = "auto"
    """Number format of the multiplications; auto times a few steps of each network and chooses."""
    compile: CompileOption = "auto"
    """Whether torch.compile speeds up what is trained in full after the search: auto tries it on GPUs where
    the epochs left are expected to repay it, unless time or GPU-hours are a budget; always tries it
    anywhere; it is kept where it is faster."""
    retries: int = 1
    """How often a trial that raised an exception is tried again."""
    checkpoint_seconds: float = 300.0
    """Longest training, in seconds, that a crash may cost besides the epoch that is running; rungs write
    checkpoints besides."""


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """Output: where results go, and what is shown."""

    name: str | Auto = "auto"
    """Name of the run, its folder in --storage; auto is made of space, data set and time."""
    storage: str | Path = Path("results")
    """Folder that holds the run folders: on this machine, on a disk that all machines share, or in an object
    store, s3://bucket/runs (also gs://; endpoint and credentials from the environment)."""
    study_storage: str | Auto = "auto"
    """Database of the study; auto is a SQLite file in the run folder. A PostgreSQL server is named as
    postgresql://user@host/database, its password by PGPASSWORD or ~/.pgpass."""
    top: int = 10
    """Trials in the tables; baselines are always there."""
    quiet: bool = False
    """Print no progress: only what was found, and errors."""
    dashboard: bool = False
    """Start Ray's dashboard, on loopback, and say where."""


GROUPS: tuple[type, ...] = (SearchSettings, DataSettings, ResourceSettings, OutputSettings)


@dataclass(frozen=True, kw_only=True)
class Settings(OutputSettings, ResourceSettings, DataSettings, SearchSettings):
    """A whole search. `Settings(space="cnn", trials=20)` is `--space cnn --trials 20`.

    Raises ValueError for a value that can never work, naming it and what was expected.
    """

    def __post_init__(self) -> None:
        for name in PATHS:
            if isinstance(getattr(self, name), str | Path):
                object.__setattr__(self, name, _expanded(name, getattr(self, name)))
        _require_kinds(self)
        _require_at_least(self)
        if self.gpus_per_trial != "auto":
            require(
                0.01 <= self.gpus_per_trial <= 1 or self.gpus_per_trial == 0,
                "--gpus-per-trial must be 1, a fraction from 0.01, or 0, for a trial trains on one GPU, "
                f"but is {self.gpus_per_trial}",
            )
            require(
                self.device != "cpu" or self.gpus_per_trial == 0,
                f"--device cpu uses no GPU, but --gpus-per-trial is {self.gpus_per_trial:g}",
            )
        require(
            0 < self.val_fraction < 1,
            f"--val-fraction must be between 0 and 1, but is {self.val_fraction}",
        )
        if self.max_epochs != "auto":
            require(
                self.min_epochs <= self.max_epochs,
                f"--min-epochs must not exceed --max-epochs, but {self.min_epochs} > {self.max_epochs}",
            )
        for name, choices in (
            ("metric", Metric),
            ("asha", AshaRule),
            ("device", Device),
            ("precision", PrecisionOption),
            ("compile", CompileOption),
        ):
            require_choice(f"--{name}", getattr(self, name), choices)
        require(self.gpu_hours != 0, "--gpu-hours must be more than 0")
        self.budget_seconds()
        self._check_cluster()
        if self.study_storage != "auto":
            check_database_address(self.study_storage)
        if self.name != "auto":
            check_run_name(self.name)

    def budget_seconds(self) -> float | None:
        """The time budget in seconds; None where there is none."""
        return None if self.time_budget == "none" else parse_duration(self.time_budget, "--time-budget")

    def _check_cluster(self) -> None:
        parse_duration(self.wait_timeout, "--wait-timeout")
        if self.wait_for != "none":
            parse_resources(self.wait_for, "--wait-for")
        require(
            self.address in ("local", "auto") or is_host_and_port(self.address),
            f"--address must be local, auto or host:port, but is {self.address!r}",
        )
        require(
            self.address == "local" or not self.dashboard,
            "--dashboard is that of a Ray of its own, but --address names a cluster: use `ray dashboard`",
        )
        if self.address == "local":
            for name in ("wait_for", "wait_timeout", "head_trains"):
                require(
                    getattr(self, name) == defaults()[name],
                    f"{option(name)} is about a cluster: give --address auto or host:port with it",
                )

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Which way the metric is better."""
        return "minimize" if self.metric == "loss" else "maximize"

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON types, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


OF_A_SITTING = ("address", "wait_for", "wait_timeout", "head_trains", "dashboard")
"""Settings that a resume does not take over: it may take place elsewhere."""

_AT_LEAST = {
    "trials": 1,
    "total_epochs": 1,
    "gpu_hours": 0,
    "max_epochs": 1,
    "min_epochs": 1,
    "reduction_factor": 2,
    "max_params": 1,
    "max_macs": 1,
    "confirm_top": 1,
    "confirm_seeds": 1,
    "seed": 0,
    "image_size": 4,
    "val_fraction": 0,
    "cpus_per_trial": 1,
    "gpus_per_trial": 0,
    "max_concurrent": 1,
    "retries": 0,
    "checkpoint_seconds": 0,
    "top": 1,
}
_NONE_BESIDES_AUTO = ("max_macs",)
_FRACTIONS = ("val_fraction", "gpus_per_trial", "gpu_hours", "checkpoint_seconds")


def option(name: str) -> str:
    """A setting's name as the command line spells it."""
    return "--" + name.replace("_", "-")


def _require_at_least(settings: Settings) -> None:
    for name, least in _AT_LEAST.items():
        value, default = getattr(settings, name), defaults()[name]
        if value == default and type(value) is type(default):
            continue  # auto and None too, where there is such a thing
        if value is None and name in _NONE_BESIDES_AUTO:
            continue
        whole = name not in _FRACTIONS
        require(
            isinstance(value, int if whole else int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and value >= least,
            f"{option(name)} must be a {'whole ' if whole else ''}number of at least {least}, "
            f"but is {value!r}",
        )


def _require_kinds(settings: Settings) -> None:
    """What the command line sees to by itself; a caller from Python may mistake one kind for another."""
    for name, default in defaults().items():
        value = getattr(settings, name)
        if isinstance(default, bool):
            require(isinstance(value, bool), f"{option(name)} is either True or False, but is {value!r}")
        elif isinstance(default, str) and name not in _AT_LEAST:
            require(isinstance(value, str), f"{option(name)} must be a string, but is {value!r}")
        elif name in PATHS:
            require(
                isinstance(value, Path) or value == default or (name in ADDRESSES and isinstance(value, str)),
                f"{option(name)} must be a path, but is {value!r}",
            )


def _expanded(name: str, path: str | Path) -> Path | str:
    """A path as a shell would read it, which has seen none in a settings file or in --storage=~/x; the
    address of an object store as it is."""
    if name in ADDRESSES:
        try:
            where = location(str(path))
        except ValueError as error:
            raise ValueError(f"{option(name)} {error}") from error
        if isinstance(where, str):
            return where
        path = where
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{option(name)} is in a home folder that is not known: {path}") from error


def defaults() -> dict[str, Any]:
    """Every setting's name, as a settings file spells it, and its default."""
    return {field.name: field.default for field in fields(Settings)}
