"""The order a worker gets: one stay of one trial on one slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainables.compiling import CompileChoice
from trainables.config import Task, TrialConfig
from trainables.place import Folder
from trainables.precision import PrecisionChoice


@dataclass(frozen=True, kw_only=True)
class Stint:
    """What to train, from where, and where to leave what comes of it."""

    trial: int
    """The trial's number, Optuna's."""
    stint: int
    """Rises from stint to stint of this trial; a checkpoint of a later one is never overwritten."""
    config: TrialConfig
    task: Task
    seed: int
    """Seed of everything random in this trial."""
    known_epochs: int
    """Epochs whose reports the record already has."""
    checkpoint_epochs: tuple[int, ...]
    """Epochs after which a checkpoint is written before the report: the rungs, and the last epoch."""
    checkpoint_seconds: float
    """A checkpoint is also written where this much time has passed since the last one."""
    folder: Folder
    """The trial's folder: checkpoints, TensorBoard events."""
    identity: str
    """Hash of configuration, data and code; a checkpoint with another one is never loaded."""
    precision: PrecisionChoice
    compile: CompileChoice = "never"
    """Whether its network is compiled; `auto` where the epochs left are expected to repay it."""
    params: dict[str, Any] = field(default_factory=dict)
    """The parameters of the space that the configuration was made of, to be shown beside its curves."""

    def __str__(self) -> str:
        # Ray builds names from configurations; this keeps them short
        return f"trial {self.trial} stint {self.stint}"

    __repr__ = __str__
