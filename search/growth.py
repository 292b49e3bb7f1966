"""Placeholders that make a cluster grow: waiting placement groups, which an autoscaler starts nodes for.

They belong to the driver and end with it, whatever ends it; a request by Ray's own `request_resources` would
keep nodes, and their costs, after a driver that was killed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from search.engine import placement
from search.local_ray import placement_group, remove_placement_group
from search.slots import Slots

AT_ONCE = 64
"""Most placeholders; a cluster grows in steps of so many slots."""


class Growth:
    """Keeps as many placeholders as slots are wanted beyond those that are there."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._waiting: list[Any] = []
        self._nodes: set[str] = set()

    def want(self, more: int, nodes: Iterable[str]) -> None:
        """Have so many placeholders, and none on `nodes`, by their ids, which are there for trials."""
        known, more = set(nodes), min(max(0, more), AT_ONCE)
        if known != self._nodes:  # one that came may hold some of them
            self._drop(len(self._waiting))
            self._nodes = known
        self._drop(len(self._waiting) - more)
        selector = [{"ray.io/node-id": f"!in({','.join(sorted(known))})"}]
        bundles = placement(self.slots)["bundles"]
        while len(self._waiting) < more:
            self._waiting.append(placement_group(bundles, bundle_label_selector=selector))

    def _drop(self, count: int) -> None:
        for _ in range(count):
            remove_placement_group(self._waiting.pop())
