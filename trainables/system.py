"""What the operating system shows of this machine, without a library that takes seconds to load."""

from __future__ import annotations

import sys
from pathlib import Path


def may_have_gpus(devices: Path = Path("/dev")) -> bool:
    """False where the system shows no GPU of a kind that torch uses (NVIDIA, AMD, either under Windows)."""
    kinds = ("nvidia*", "nvhost*", "nvgpu*", "kfd", "dxg")
    return sys.platform != "linux" or any(next(devices.glob(kind), None) for kind in kinds)
