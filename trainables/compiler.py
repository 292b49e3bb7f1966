"""Training without torch's compiler: its import takes seconds in every worker, and few ever call it."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _NotLoaded(ModuleType):
    """Stands for `torch._dynamo` until somebody compiles; then it gives way to the real one.

    torch imports it when the first optimizer is made (`torch/_compile.py`, `torch/optim/optimizer.py`), for
    two functions that without compiled code do nothing.
    """

    def disable(self, function: Any = None, *options: Any, **named: Any) -> Any:
        """The function itself where torch asks, by `wrapping=False`: there is nothing to keep it out of."""
        if named.get("wrapping") is False:
            return function
        return self._real().disable(function, *options, **named)

    def graph_break(self, *options: Any, **named: Any) -> None:
        """Nothing: there is no graph."""

    def __getattr__(self, name: str) -> Any:
        if name in ("__spec__", "__file__"):  # the import system looks whether they are there
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return importlib.import_module(NAME)


def without_compiler() -> None:
    """Keep torch from importing its compiler until it is used, such as by `torch.compile`."""
    sys.modules.setdefault(NAME, _NotLoaded(NAME))
