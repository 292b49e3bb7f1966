"""fp32 or bf16, whichever trains this network faster here: measured, not believed.

bf16 is about three times faster where the hardware multiplies it, slower for depthwise convolutions,
and ten times slower where it is emulated.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Literal, get_args

import torch
from torch.nn import functional

from trainables.config import ModelConfig, Task, require

Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]

_PROBE_STEPS = 3
_chosen: dict[tuple[ModelConfig, Task, int, str], Precision] = {}


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a network computes in `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def bf16_hardware(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(
    choice: PrecisionChoice, model: ModelConfig, task: Task, batch_size: int, device: torch.device
) -> Precision:
    """The precision to train `model` in; `auto` times a few steps of each, once a worker and network.

    The global random state is left as it was.
    """
    require(choice in get_args(PrecisionChoice), f"precision must be auto, fp32 or bf16, but is {choice!r}")
    require(
        choice != "bf16" or device.type == "cpu" or bf16_hardware(device),
        f"--precision bf16: {device} does not multiply bf16 in hardware; use auto or fp32",
    )
    if choice != "auto":
        return choice
    if not bf16_hardware(device):
        return "fp32"
    key = (model, task, batch_size, str(device))
    if key not in _chosen:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            seconds: dict[Precision, float] = {}
            for precision in get_args(Precision):
                with suppress(torch.OutOfMemoryError):  # bf16 may have room where fp32 has none
                    seconds[precision] = _time_steps(model, task, batch_size, device, precision)
        if not seconds:
            raise torch.OutOfMemoryError(f"{device} has no room for one training step")
        _chosen[key] = min(seconds, key=seconds.__getitem__)
    return _chosen[key]


def _time_steps(
    model: ModelConfig, task: Task, batch_size: int, device: torch.device, precision: Precision
) -> float:
    """Seconds of the fastest of a few training steps on random images, after one that is not counted."""
    net = model.build(task).to(device).to(memory_format=torch.channels_last)
    shape = (batch_size, task.channels, task.image_size, task.image_size)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(task.classes, (batch_size,), device=device)
    times = []
    for _ in range(_PROBE_STEPS + 1):
        start = time.perf_counter()
        with autocast(device, precision):
            loss = functional.cross_entropy(net(images), labels)
        loss.backward()
        float(loss.detach())  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times[1:])
