"""The nodes of a Ray cluster: which live, what trials may use of them, and which kinds may still come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.local_ray import cluster_state, ray
from search.settings import Settings
from search.slots import Machine

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
"""Where `ray up` leaves a cluster's configuration on its head."""
_HEAD = "node:__internal_head__"


@dataclass(frozen=True)
class Node:
    """A living node."""

    id: str
    host: str
    machine: Machine
    head: bool


@dataclass(frozen=True)
class NodeKind:
    """A kind of node that the cluster may start."""

    machine: Machine
    """Nothing at all where only a node that has come shows its size."""
    most: int
    at_start: bool = False
    """Whether all of them start with the cluster, as machines of one's own do, and not when trials wait."""


def living_nodes() -> list[Node]:
    """The nodes that Ray holds for alive, the head first."""
    found = [
        Node(
            id=str(node["NodeID"]),
            host=str(node["NodeManagerHostname"]),
            machine=_machine(node["Resources"]),
            head=_HEAD in node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (not node.head, node.host, node.id))


def kinds_to_come(bootstrap: Path = BOOTSTRAP) -> list[NodeKind]:
    """The kinds of nodes that the cluster's autoscaler starts when trials wait.

    As Ray knows them, or else from the file that `ray up` left on the head; empty where neither tells.
    """
    known = cluster_state.get_cluster_config()
    if known is not None and known.node_group_configs:
        return [
            NodeKind(_machine(group.resources), _most(group.max_count))
            for group in known.node_group_configs
            if group.max_count
        ]
    import yaml

    try:
        document = yaml.safe_load(bootstrap.expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return _kinds_in(document) if isinstance(document, dict) else []


def kinds_asked_for(settings: Settings) -> list[NodeKind]:
    """What the settings say of nodes that may come, where nothing else does: a slot each, as many as trials
    may run side by side. Empty unless they say all of it.
    """
    cpus, gpus, most = settings.cpus_per_trial, settings.gpus_per_trial, settings.max_concurrent
    if cpus == "auto" or gpus == "auto" or most == "auto":
        return []
    return [NodeKind(Machine(cpus, math.ceil(gpus)), most)]


def _kinds_in(document: dict[str, Any]) -> list[NodeKind]:
    """From a configuration as `ray up` writes it."""
    # machines of one's own are all of one kind, the head's, whose figures count workers alone
    own = (document.get("provider") or {}).get("type") == "local"
    head = None if own else document.get("head_node_type")
    most = int(document.get("max_workers", 0))
    return [
        NodeKind(
            _machine(kind.get("resources", {})), min(most, int(kind.get("max_workers", 0))), at_start=own
        )
        for name, kind in document.get("available_node_types", {}).items()
        if name != head and kind.get("max_workers", 0)
    ]


def _most(count: int) -> int:
    return count if count >= 0 else 1_000_000  # -1: no limit


def _machine(resources: Mapping[str, Any]) -> Machine:
    return Machine(cpus=int(resources.get("CPU", 0)), gpus=int(resources.get("GPU", 0)))
