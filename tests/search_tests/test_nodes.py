"""Which nodes a cluster may still bring."""

from pathlib import Path

import pytest

from search.local_ray import cluster_state
from search.nodes import NodeKind, kinds_asked_for, kinds_to_come
from search.settings import Settings
from search.slots import Machine

WRITTEN = """
max_workers: 6
head_node_type: head
available_node_types:
  head: {resources: {CPU: 0}, node_config: {}}
  gpu: {resources: {CPU: 8, GPU: 1}, max_workers: 20, node_config: {}}
  big: {resources: {CPU: 48, GPU: 4}, min_workers: 0, max_workers: 2, node_config: {}}
  off: {resources: {CPU: 48}, max_workers: 0, node_config: {}}
"""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_state, "get_cluster_config", lambda: None)


def test_kinds_come_from_what_ray_up_left_on_the_head(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text(WRITTEN)
    assert kinds_to_come(file) == [NodeKind(Machine(8, 1), 6), NodeKind(Machine(48, 4), 2)]


OWN = """
provider: {type: local}
max_workers: 2
head_node_type: local.cluster.node
available_node_types:
  local.cluster.node: {resources: {}, node_config: {}, min_workers: 2, max_workers: 2}
"""


def test_machines_of_ones_own_are_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.yaml"
    file.write_text(OWN)
    assert kinds_to_come(file) == [NodeKind(Machine(0, 0), 2, at_start=True)]


@pytest.mark.parametrize("content", [None, "", "- a\n- b", "{", "available_node_types: {}"])
def test_where_nothing_tells_none_is_expected(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "bootstrap.yaml"
    if content is not None:
        file.write_text(content)
    assert kinds_to_come(file) == []


def test_who_says_the_size_and_number_of_slots_says_what_may_come() -> None:
    told = {"address": "auto", "cpus_per_trial": 4, "gpus_per_trial": 0.5, "max_concurrent": 8}
    assert kinds_asked_for(Settings(**told)) == [NodeKind(Machine(4, 1), 8)]
    for name in ("cpus_per_trial", "gpus_per_trial", "max_concurrent"):
        assert kinds_asked_for(Settings(**{**told, name: "auto"})) == []
