"""torch.compile where it repays: in a training that has long to go, for a network that it makes faster.

Compiling takes seconds to minutes for every network, and makes convolutions little faster: a search, which
stops most of its trials early, is better off without. What is trained in full may earn it back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from trainables.precision import Precision, autocast

CompileChoice = Literal["auto", "always", "never"]

EXPECTED_SECONDS = 60.0
EXPECTED_SAVING = 0.1
"""What compiling for one size of batch takes, and the share of a step that it saves: convolutional networks
on GPUs were reported to train 9 % (PyTorch issue 111182, A100) to 15 % faster (open_clip issue 610)."""
SIZES = 2
"""Of batches, at most."""
LEFT_OUT = "left out"
"""How the outcome begins where steps were no faster: training goes on just as before."""
LEAST_SAVING = 0.02
"""Less than this is what two timings of the same differ by."""
_STEPS = 5


@dataclass(frozen=True)
class Compiled:
    """What came of compiling a network."""

    network: Any = None
    """Computes what the network does, sharing its weights, but faster; None where there is no such thing."""
    outcome: str = ""
    """How much faster, or why not; one line."""


def repays(
    choice: CompileChoice, device: torch.device, epoch_seconds: float | None, epochs_left: int, sizes: int
) -> bool:
    """Whether compiling now, for so many sizes of batch, is expected to shorten a training that has
    `epochs_left` to go.

    `epoch_seconds` is what an epoch of training took without, None before there was one. On a CPU torch's
    compiler makes these networks slower, so that there `auto` never tries.
    """
    if choice == "always":
        return epochs_left > 0
    if choice == "never" or device.type == "cpu" or epoch_seconds is None:
        return False
    return EXPECTED_SAVING * epoch_seconds * epochs_left > EXPECTED_SECONDS * sizes


def compile_network(
    model: nn.Module, shapes: Sequence[tuple[int, ...]], device: torch.device, precision: Precision
) -> Compiled:
    """Compile `model`, in training mode, for batches of these shapes, and keep it if its steps are faster.

    Weights and buffers are left as they were. A compiler that fails, for want of a C compiler or of memory,
    say, is an outcome.
    """
    try:
        with _as_it_was(model):
            before, network, after = _tried(model, shapes, device, precision)
    except Exception as error:  # whatever it stumbles over, training goes on without it
        torch.compiler.reset()
        text, _, _ = str(error).strip().partition("\n")
        return Compiled(outcome=f"failed: {type(error).__name__}: {text}")
    faster = f"{before / after:.2f} times as fast"
    if 1.0 - after / before < LEAST_SAVING:
        torch.compiler.reset()
        return Compiled(outcome=f"{LEFT_OUT}: {faster}")
    return Compiled(network, faster)


def _tried(
    model: nn.Module, shapes: Sequence[tuple[int, ...]], device: torch.device, precision: Precision
) -> tuple[float, Any, float]:
    """Seconds of a step without, the compiled network, and seconds of a step with it."""
    import torch._inductor.config as inductor

    # compilers beside this one would take cores from other trials, and outlive a worker that is killed
    inductor.compile_threads = 1
    batches = [
        torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last) for shape in shapes
    ]
    # batches come in two sizes at most, and code for any size is slower
    network = torch.compile(model, dynamic=False)
    before = _step_seconds(model, batches, precision)
    after = _step_seconds(network, batches, precision)
    # others on the same GPU may have come or gone while it compiled
    return min(before, _step_seconds(model, batches, precision)), network, after


def _step_seconds(network: Any, batches: Sequence[torch.Tensor], precision: Precision) -> float:
    """Seconds of the fastest of a few steps, optimizer left out; the first of each shape is not counted."""
    times = []
    for number in range(_STEPS + 1):
        for images in batches if number == 0 else batches[:1]:
            start = time.perf_counter()
            with autocast(images.device, precision):
                logits = network(images)
            logits.float().square().mean().backward()
            if images.device.type == "cuda":
                torch.cuda.synchronize(images.device)
            times.append(time.perf_counter() - start)
    return min(times[len(batches) :])


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what steps do to a network that does not train: averages of its norms, gradients.

    Random state need not be: each epoch begins with its own.
    """
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
        model.zero_grad(set_to_none=True)
