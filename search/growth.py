"""Placeholders that make a cluster grow: waiting placement groups, which an autoscaler starts nodes for.

They belong to the driver and end with it, whatever ends it; a request by Ray's own `request_resources` would
keep nodes, and their costs, after a driver that was killed.
"""

from __future__ import annotations

from typing import Any

from search.engine import placement
from search.local_ray import placement_group, placement_group_table, remove_placement_group
from search.slots import Slots

AT_ONCE = 64
"""Most placeholders; a cluster grows in steps of so many slots."""


class Growth:
    """Keeps as many placeholders as slots are wanted beyond those that are there."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self._waiting: list[Any] = []

    def want(self, more: int) -> None:
        """Have so many placeholders; those whose node has come make room for trials."""
        placed = [group for group in self._waiting if placement_group_table(group)["state"] == "CREATED"]
        kept = [group for group in self._waiting if group not in placed]
        more = min(max(0, more), AT_ONCE)
        for group in [*placed, *kept[more:]]:
            remove_placement_group(group)
        new = [placement_group(**placement(self.slots)) for _ in range(more - len(kept))]
        self._waiting = [*kept[:more], *new]
