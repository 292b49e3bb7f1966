"""How many trials run side by side on a machine, and what each of them gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.settings import Settings, UsageError
from trainables.system import may_have_gpus


@dataclass(frozen=True)
class Machine:
    """What can be given to trials."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Slots:
    """Trials at once, and the resources of each."""

    count: int
    cpus: int
    """CPU cores of a slot, and threads of its trial."""
    gpus: float
    """Share of a GPU, up to 1."""
    not_on: str = ""
    """Id of a cluster's node on which no trial is placed; empty where there is none."""

    def on(self, machine: Machine) -> int:
        """Trials that a machine has room for at once."""
        by_cpu = machine.cpus // self.cpus
        return min(by_cpu, _that_fit(self.gpus, machine.gpus)) if self.gpus else by_cpu


def this_machine(*, look_for_gpus: bool) -> Machine:
    """Cores that this process may use, and GPUs that torch can."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpus = min(cpus, _container_cpus() or cpus)
    gpus = 0
    if look_for_gpus and may_have_gpus():
        import torch  # takes seconds

        gpus = torch.cuda.device_count()
        if gpus and not torch.cuda.is_available():  # the former asks the driver, the latter CUDA itself
            raise UsageError(
                f"this machine has {gpus} GPUs that PyTorch {torch.__version__} cannot use: most often their "
                "driver is too old for it. Update the driver, or search with --device cpu"
            )
    return Machine(cpus, gpus)


def slots_for(settings: Settings, machine: Machine) -> Slots:
    """The slots that `settings` ask for. Raises UsageError where a trial could never be placed."""
    wish = settings.gpus_per_trial
    gpus = (1.0 if machine.gpus and settings.device != "cpu" else 0.0) if wish == "auto" else wish
    if gpus > machine.gpus:
        raise UsageError(
            f"--gpus-per-trial {gpus:g} is more than this machine has: {machine.gpus} GPUs; ask for less"
        )
    if settings.device == "cuda" and gpus == 0:
        raise UsageError(
            f"--device cuda needs a GPU for each trial, but this machine has {machine.gpus} GPUs and "
            f"--gpus-per-trial is {gpus:g}"
        )
    by_gpu = _that_fit(gpus, machine.gpus) if gpus else machine.cpus
    most = by_gpu if settings.max_concurrent == "auto" else min(settings.max_concurrent, by_gpu)
    shared = gpus > 0 or settings.max_concurrent != "auto"
    cpus = max(1, machine.cpus // most) if shared else 1
    if settings.cpus_per_trial != "auto":
        cpus = settings.cpus_per_trial
    if cpus > machine.cpus:
        raise UsageError(
            f"--cpus-per-trial {cpus} is more than this machine has: {machine.cpus} cores; ask for less"
        )
    return Slots(count=max(1, min(most, machine.cpus // cpus)), cpus=cpus, gpus=gpus)


def cluster_slots(settings: Settings, machines: Sequence[Machine]) -> Slots:
    """The shape of a slot on a cluster of such machines, those that may still come among them.

    `count` is 1: how many there are changes as nodes come and go. Raises UsageError where a trial could
    never be placed.
    """
    wish = settings.gpus_per_trial
    some_have = any(machine.gpus for machine in machines) and settings.device != "cpu"
    gpus = float(some_have) if wish == "auto" else wish
    if settings.device == "cuda" and gpus == 0:
        raise UsageError("--device cuda needs a GPU for each trial, but no node of the cluster has one")
    wide_enough = [machine for machine in machines if machine.gpus >= gpus]
    if not wide_enough:
        most = max((machine.gpus for machine in machines), default=0)
        raise UsageError(
            f"--gpus-per-trial {gpus:g} can never be placed: no node of the cluster has more than {most} "
            "GPUs for trials; ask for less, or for --device cpu"
        )
    cpus = 1
    if settings.cpus_per_trial != "auto":
        cpus = settings.cpus_per_trial
    elif gpus:
        cpus = max(1, min(machine.cpus // _that_fit(gpus, machine.gpus) for machine in wide_enough))
    slots = Slots(count=1, cpus=cpus, gpus=gpus)
    if not any(slots.on(machine) for machine in wide_enough):
        most = max(machine.cpus for machine in wide_enough)
        raise UsageError(
            f"--cpus-per-trial {cpus} can never be placed: no node of the cluster has more than {most} cores "
            + (f"beside {gpus:g} GPUs " if gpus else "")
            + "for trials; ask for less"
        )
    return slots


def _that_fit(share: float, gpus: int) -> int:
    """Trials that fit on so many GPUs; none is spread over parts of two."""
    return int(1 / share + 1e-9) * gpus if share < 1 else int(gpus // share)


def _container_cpus(limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Cores that a container was given, which its affinity does not show; None where nothing says."""
    try:
        quota, period = limit.read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # `max 100000`: no limit
        return None
