"""What a search may use up, counted over all its sittings: wall time, epochs, GPU-hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UsedUp = Literal["time budget", "epoch budget", "GPU-hours"]


@dataclass
class Budgets:
    """Limits, None where there is none, and what is spent of each."""

    seconds: float | None = None
    epochs: int | None = None
    gpu_seconds: float | None = None
    """Seconds that trials hold GPUs, times their share of them."""
    kept_seconds: float = 0.0
    """Of `seconds`, what is kept for something later ..."""
    kept_gpu_seconds: float = 0.0
    """... and of `gpu_seconds`."""
    spent_seconds: float = 0.0
    spent_gpu_seconds: float = 0.0
    _last: float | None = None

    def tick(self, now: float, gpus: float) -> None:
        """Count what passed since the last tick; `now` in seconds of any clock, `gpus` held since then."""
        if self._last is not None:
            self.spent_seconds += now - self._last
            self.spent_gpu_seconds += gpus * (now - self._last)
        self._last = now

    def used_up(self, epochs: int) -> UsedUp | None:
        """The first limit that is reached; `epochs` are those trained by all trials together."""
        if self.seconds is not None and self.spent_seconds >= self.seconds - self.kept_seconds:
            return "time budget"
        if self.epochs is not None and epochs >= self.epochs:
            return "epoch budget"
        if (
            self.gpu_seconds is not None
            and self.spent_gpu_seconds >= self.gpu_seconds - self.kept_gpu_seconds
        ):
            return "GPU-hours"
        return None

    def reason(self) -> UsedUp:
        """Which limit is nearest, of one that leaves too little for something."""
        if self.gpu_seconds is None:
            return "time budget"
        share = self.spent_gpu_seconds / self.gpu_seconds
        return "time budget" if self.seconds and self.spent_seconds / self.seconds > share else "GPU-hours"

    def seconds_left(self, done: int, elapsed: float, epochs: int) -> list[float]:
        """Seconds until each limit at the pace of `done` epochs in `elapsed` seconds; `epochs` in all."""
        left = []
        if self.seconds is not None:
            left.append(self.seconds - self.kept_seconds - self.spent_seconds)
        if self.epochs is not None and done:
            left.append(elapsed / done * (self.epochs - epochs))
        if self.gpu_seconds is not None and self.spent_gpu_seconds:
            pace = self.spent_seconds / self.spent_gpu_seconds
            left.append(pace * (self.gpu_seconds - self.kept_gpu_seconds - self.spent_gpu_seconds))
        return left
