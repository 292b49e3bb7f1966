"""A Ray cluster that runs already: checked node by node, followed as nodes come and go."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from search import node_check
from search.formats import parse_duration, parse_resources
from search.growth import Growth
from search.local_ray import NodeAffinitySchedulingStrategy, ray
from search.node_fit import misfit, one_line
from search.nodes import Node, NodeKind, kinds_asked_for, kinds_to_come, living_nodes
from search.settings import Settings, UsageError
from search.slots import Machine, cluster_slots

LOOK_SECONDS = 1.0
CHECK_SECONDS = 60.0
"""At least so long is waited for what a node tells of itself; its first worker takes seconds to start."""
JOIN_SECONDS = 60.0
"""Longest wait for machines that start with the cluster and that are of sizes which only they can tell."""
SETTLED_SECONDS = 900.0
"""Within which a cluster grows to what it may be, and has again what it lost."""


class Cluster:
    """The nodes that trials may use; to be closed. Ray must have joined it (see `search.joining`).

    Raises UsageError where no trial could ever be placed.
    """

    def __init__(self, settings: Settings, word: str, say: Callable[[str], None]) -> None:
        """`word` is what lies in the storage for nodes to find (see `shared_word`); `say` is told what
        happens to nodes.
        """
        self.settings, self.word, self.say = settings, word, say
        self._nodes: dict[str, Node] = {}
        self._checked: set[str] = set()
        self._checks: dict[str, Any] = {}
        self._silent: set[str] = set()
        self._began = False
        self._looked = 0.0
        self._born = time.monotonic()
        self._rooms: deque[tuple[float, int]] = deque()
        """Slots of late, and when."""
        storage = settings.storage
        # a link may be what makes the path the same everywhere
        self._storage = storage if isinstance(storage, str) else str(storage.absolute())
        self._own = node_check.look(self._storage, word)
        known = kinds_to_come()
        self._only_asked_for = not known
        self.kinds: list[NodeKind] = known or kinds_asked_for(settings)
        """Kinds of nodes that may still come."""
        self.look()
        head = next((node for node in self._nodes.values() if node.head), None)
        self._head_could_train = head is not None and head.machine.cpus > 0
        if settings.head_trains and not self._head_could_train:
            raise UsageError(
                "--head-trains: the cluster's head was started without CPUs for trials; give it some (its "
                "resources, or --num-cpus, in the cluster's file), or leave --head-trains out"
            )
        slots = cluster_slots(settings, self._machines())
        self.slots = slots if settings.head_trains or head is None else replace(slots, not_on=head.id)
        self._growth = Growth(self.slots)

    def _machines(self) -> list[Machine]:
        """What trials may be placed on, now or later. Waits where only a node that has come shows its size.

        Raises UsageError where there is nothing and none may come, or none came in time.
        """
        began, patience, told = time.monotonic(), parse_duration(self.settings.wait_timeout), False
        all_told = sum(kind.most for kind in self.kinds if kind.at_start and not kind.machine.cpus)
        while True:
            waited = time.monotonic() - began
            machines = [node.machine for node in self.workers] + [kind.machine for kind in self.kinds]
            machines = [machine for machine in machines if machine.cpus]
            missing = all_told - sum(not node.head for node in self._nodes.values())
            if machines and (missing <= 0 or waited > min(patience, JOIN_SECONDS)):
                return machines
            if not self.kinds or waited > patience:
                raise UsageError(self._without_workers())
            if not told:
                few = f"all nodes: {missing} of {all_told} are not there yet"
                self.say(f"waiting for {few if missing > 0 else 'the first node'}")
                told = True
            time.sleep(0.5)
            self.look()

    @property
    def workers(self) -> list[Node]:
        """Living nodes that trials may use."""
        return [node for node in self._nodes.values() if self.settings.head_trains or not node.head]

    def room(self) -> int:
        """Trials that may run side by side by now."""
        there = sum(self.slots.on(node.machine) for node in self.workers if node.id in self._checked)
        return min(there, self.most)

    def expected(self) -> int:
        """Trials to plan with: not what is there at this moment, for what is lost comes again, and what may
        come needs minutes.
        """
        growing = time.monotonic() - self._born < SETTLED_SECONDS
        to_come = self._to_come() if growing else 0
        return max(1, min(self.most, max(to_come, self.room(), *(room for _, room in self._rooms))))

    def _to_come(self) -> int:
        return sum(kind.most * self.slots.on(kind.machine) for kind in self.kinds)

    @property
    def most(self) -> int:
        """Trials that may ever run side by side, where something says so."""
        asked = self.settings.max_concurrent
        return 1_000_000 if asked == "auto" else asked

    def follow(self, demand: int | None) -> None:
        """Look at the nodes about once a second, and have the cluster grow where `demand`, the slots that
        could be used, is more than there are.

        Raises UsageError where a node that came has other versions, other code or another storage.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self.look()
        self._take_checks()
        self._rooms.append((self._looked, self.room()))
        while self._rooms[0][0] < self._looked - SETTLED_SECONDS:
            self._rooms.popleft()
        there = sum(self.slots.on(node.machine) for node in self.workers)
        to_come = self._to_come()
        if self.settings.max_concurrent != "auto":
            to_come = max(to_come, self.most)  # whatever brings nodes, it was told of so many
        wanted = min(to_come, self.most, 1_000_000 if demand is None else demand)
        self._growth.want(wanted - there if to_come else 0, self._nodes)

    def look(self) -> None:
        """Note which nodes live, say which have come or gone, and ask new ones for their versions."""
        self._looked = time.monotonic()
        nodes = {node.id: node for node in living_nodes()}
        for gone in self._nodes.keys() - nodes.keys():
            self.say(f"node {self._nodes[gone].host} is gone")
            self._checked.discard(gone)
            self._checks.pop(gone, None)
        for node in nodes.values():
            if node.id not in self._nodes and (self.settings.head_trains or not node.head):
                self._checks[node.id] = self._ask(node)
        self._nodes = nodes

    def wait(self) -> None:
        """Wait for what `--wait-for` asks, and for what every node tells of itself.

        Raises UsageError where it does not come in time, or where a node does not fit.
        """
        deadline = time.monotonic() + parse_duration(self.settings.wait_timeout)
        if self.settings.wait_for != "none":
            wanted = parse_resources(self.settings.wait_for)
            self._refuse_what_cannot_come(wanted)
            per_slot = {"CPU": self.slots.cpus, "GPU": self.slots.gpus or 1.0}
            self._wait_for(
                f"--wait-for {self.settings.wait_for}",
                lambda: all(self._there(kind) >= count for kind, count in wanted.items()),
                max(math.ceil(count / per_slot[kind]) for kind, count in wanted.items()),
                deadline,
            )
        if self._only_asked_for:  # nobody but the user says that a node will have room for a trial
            each = f"{self.slots.cpus} cores" + (f" and {self.slots.gpus:g} GPUs" if self.slots.gpus else "")
            self._wait_for(
                f"a node with {each} for a trial",
                lambda: any(self.slots.on(node.machine) for node in self.workers),
                1,
                deadline,
            )
        began, patience = time.monotonic(), max(CHECK_SECONDS, parse_duration(self.settings.wait_timeout))
        while self._checks and time.monotonic() - began < (CHECK_SECONDS if self._checked else patience):
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self.look()  # one that goes owes no answer
            self._take_checks()
            time.sleep(0.05)
        self._began = True
        if self._checks and not self._checked:
            hosts = ", ".join(self._nodes[node].host for node in self._checks)
            raise UsageError(f"no answer within {patience:.0f} s from {hosts}: look at `ray status`")

    def _wait_for(self, what: str, there: Callable[[], bool], slots: int, deadline: float) -> None:
        """Have the cluster grow to so many slots until it is there. Raises UsageError after the deadline."""
        if not there():
            self.say(f"waiting for {what}; there are {self.described()}")
        while not there():
            if time.monotonic() > deadline:
                raise UsageError(
                    f"{what}: after {self.settings.wait_timeout} the cluster has {self.described()} for "
                    "trials; wait longer, or ask for less"
                )
            self.follow(slots)
            time.sleep(0.2)

    def _refuse_what_cannot_come(self, wanted: Mapping[str, float]) -> None:
        """Raise UsageError where a cluster that says what may come can never have what is waited for."""
        machines = [kind.machine for kind in self.kinds]
        if not machines or not all(machine.cpus for machine in machines) or self._only_asked_for:
            return
        for resource, count in wanted.items():
            to_come = sum(
                kind.most * (kind.machine.gpus if resource == "GPU" else kind.machine.cpus)
                for kind in self.kinds
            )
            there = self._there(resource)
            if there + to_come < count:
                raise UsageError(
                    f"--wait-for {self.settings.wait_for}: {there} {resource}s are there for trials and "
                    f"may start {to_come} more; ask for less, or raise max_workers in its file"
                )

    def described(self) -> str:
        """Nodes for trials, and their cores and GPUs."""
        nodes = len(self.workers)
        cpus, gpus = self._there("CPU"), self._there("GPU")
        return f"{nodes} node{'' if nodes == 1 else 's'} with {cpus} cores" + (
            f" and {gpus} GPUs" if gpus else ""
        )

    def busy(self, running: int) -> str:
        """Nodes, and how much of them trains."""
        nodes = len(self.workers)
        room = max(self.room(), running)
        share = f"{running * self.slots.gpus:g}/{room * self.slots.gpus:g} GPUs" if self.slots.gpus else ""
        return f"{nodes} node{'' if nodes == 1 else 's'}, {share or f'{running}/{room} slots'} busy"

    def close(self) -> None:
        """Let go of what makes the cluster grow."""
        self._growth.want(0, ())

    def _there(self, resource: str) -> int:
        machines = [node.machine for node in self.workers]
        return sum(machine.gpus if resource == "GPU" else machine.cpus for machine in machines)

    def _ask(self, node: Node) -> Any:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        ask: Any = ray.remote(node_check.look)
        ask = ask.options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        return ask.remote(self._storage, self.word)

    def _take_checks(self) -> None:
        ready, _ = ray.wait(list(self._checks.values()), num_returns=len(self._checks), timeout=0)
        for node, answer in list(self._checks.items()):
            if answer not in ready:
                continue
            del self._checks[node]
            host = self._nodes[node].host
            try:
                found = ray.get(answer)
            except ray.exceptions.RayError as error:
                self._ask_again(node, f"node {host} does not answer: {one_line(error)}")
                continue
            away = found["storage"] if self._began and "://" in self._storage else None
            if away is not None:  # the store may be away for a while; the search waits for it, too
                found["storage"] = None
            wrong = misfit(host, str(self.settings.storage), self._own, found)
            if wrong is not None:
                raise UsageError(wrong)
            if away is not None:
                self._ask_again(node, f"node {host} does not reach --storage yet: {away}")
                continue
            self._checked.add(node)
            machine = self._nodes[node].machine
            if machine.cpus and not self.slots.on(machine):
                enough = machine.gpus >= self.slots.gpus
                why = f"{self.slots.cpus} cores; give --cpus-per-trial less" if enough else "a GPU"
                self.say(f"node {host} has no room for a trial, which takes {why}")

    def _ask_again(self, node: str, why: str) -> None:
        if node not in self._silent:
            self.say(why)
        self._silent.add(node)
        self._checks[node] = self._ask(self._nodes[node])

    def _without_workers(self) -> str:
        """Why there is nothing to search on."""
        on_head = self._head_could_train and not self.settings.head_trains
        way = "; --head-trains places trials on its head too" if on_head else ""
        return (
            f"the cluster at --address {self.settings.address} has no node that trials may be placed on "
            f"({len(self._nodes)} alive), and none that it may start is known{way}. Where nodes come when "
            "trials wait, say what may come by --cpus-per-trial, --gpus-per-trial and --max-concurrent"
        )
