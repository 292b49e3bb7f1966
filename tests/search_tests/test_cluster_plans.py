"""What a search plans with on a cluster whose nodes come and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import search.cluster
from search.cluster import Cluster
from search.nodes import Node, NodeKind
from search.settings import Settings, UsageError
from search.slots import Machine

GPU = Machine(cpus=8, gpus=1)


class Nodes:
    """A cluster of which a script says what is there; a second passes with each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kinds: list[NodeKind]) -> None:
        self.machines: list[Machine] = []
        self.coming: list[Machine] = []
        self.now = 1000.0
        self.told: list[str] = []
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._pass)
        monkeypatch.setattr(search.cluster, "time", clock)
        monkeypatch.setattr(search.cluster, "living_nodes", self._living)
        monkeypatch.setattr(search.cluster, "kinds_to_come", lambda: kinds)
        monkeypatch.setattr(search.cluster.node_check, "look", lambda *_: {})
        monkeypatch.setattr(search.cluster.Growth, "want", lambda *_: None)
        monkeypatch.setattr(Cluster, "_ask", lambda self, node: None)
        monkeypatch.setattr(Cluster, "_take_checks", lambda self: self._checked.update(self._nodes))

    def _living(self) -> list[Node]:
        head = Node("head", "head", Machine(0, 0), head=True)
        return [head, *(Node(f"n{i}", f"n{i}", one, head=False) for i, one in enumerate(self.machines))]

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        if self.coming:
            self.machines.append(self.coming.pop())

    def cluster(self, **settings: Any) -> Cluster:
        storage = {"address": "auto", "storage": "s3://bucket/runs", **settings}
        return Cluster(Settings(**storage), "word", self.told.append)

    def after(self, cluster: Cluster, minutes: float) -> None:
        """Let so much time pass, the cluster followed."""
        end = self.now + 60 * minutes
        while self.now < end:
            self.now += 5.0
            cluster.follow(None)


def test_plans_count_on_what_may_come_until_it_had_time_to(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, [NodeKind(GPU, 8)])
    cluster = nodes.cluster()
    assert (cluster.room(), cluster.expected()) == (0, 8)
    nodes.machines = [GPU, GPU]
    nodes.after(cluster, 10)
    assert (cluster.room(), cluster.expected()) == (2, 8)
    nodes.after(cluster, 10)
    assert cluster.expected() == 2, "no more came"


def test_plans_count_on_lost_nodes_for_a_quarter_of_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, [NodeKind(GPU, 8)])
    nodes.machines = [GPU] * 4
    cluster = nodes.cluster()
    nodes.after(cluster, 20)
    nodes.machines = [GPU]
    nodes.after(cluster, 10)
    assert (cluster.room(), cluster.expected()) == (1, 4)
    nodes.after(cluster, 10)
    assert cluster.expected() == 1
    nodes.machines = []
    nodes.after(cluster, 20)
    assert cluster.expected() == 1, "at least one comes again, or nothing goes on"


def test_plans_keep_to_max_concurrent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Nodes(monkeypatch, [NodeKind(GPU, 8)]).cluster(max_concurrent=3).expected() == 3


def test_the_shape_of_a_slot_waits_for_all_machines_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, [NodeKind(Machine(0, 0), 2, at_start=True)])
    nodes.coming = [Machine(4, 1), Machine(64, 8)]
    cluster = nodes.cluster()
    assert (cluster.slots.cpus, cluster.slots.gpus) == (4, 1.0), "the smaller one has room too"
    assert nodes.told == ["waiting for all nodes: 2 of 2 are not there yet"]


def test_machines_of_ones_own_that_do_not_come_are_not_waited_for_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nodes = Nodes(monkeypatch, [NodeKind(Machine(0, 0), 2, at_start=True)])
    nodes.coming = [GPU]
    assert nodes.cluster().slots.gpus == 1.0
    assert 60 < nodes.now - 1000 < 62


def test_more_than_may_ever_come_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, [NodeKind(GPU, 8)])
    cluster = nodes.cluster(wait_for="64gpu")
    with pytest.raises(UsageError, match="0 GPUs are there for trials and may start 8 more"):
        cluster.wait()
    assert nodes.now == 1000.0
