"""A cluster that grows when trials wait and shrinks when none does: Ray's autoscaler over made-up nodes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hosts import SHARED, Host, hosts
from own_cluster import NodeWatch, copy_project

from search.results import Results

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(1500),
]

MOST = 3
PORT = 6379
HEAD = "ray.head.default"  # the provider knows no other name for it


def configuration(address: str) -> dict:
    """Of a cluster whose workers, with a GPU each in name, are processes of the head's own host."""
    return {
        "cluster_name": "made-up",
        "max_workers": MOST,
        "upscaling_speed": 100,
        "idle_timeout_minutes": 2,  # a node that has come is idle until it has been looked at
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"{address}:{PORT}",
            "use_node_id_as_ip": True,  # all nodes have one address
            "disable_node_updaters": True,  # nothing is to be installed
            "disable_launch_config_check": True,
        },
        "auth": {},
        "head_node_type": HEAD,
        "available_node_types": {
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1},
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST,
            },
        },
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


@pytest.fixture
def head() -> Iterator[tuple[Host, Path]]:
    """A host on which the head runs, and its shared disk. Its Ray ends with it."""
    with hosts("head") as network:
        host = network["head"]
        copy_project(["search", "spaces", "trainables", "pyproject.toml"], host.home("project"))
        file = host.home("ray_bootstrap_config.yaml")  # where `ray up` puts it
        file.write_text(yaml.safe_dump(configuration(host.address)), encoding="utf-8")
        host.run("umask 077 && ray get-auth-token --generate > /dev/null")
        host.run(
            "export RAY_AUTH_MODE=token RAY_enable_autoscaler_v2=0; "
            "export RAY_FAKE_CLUSTER=1 AUTOSCALER_UPDATE_INTERVAL_S=1; cd project; "
            f"begin() {{ ray start --head --port={PORT} --num-cpus=0 --num-gpus=0 --include-dashboard=false "
            f"--disable-usage-stats --autoscaling-config=~/{file.name}; }}; "
            "begin || { ray stop; begin; }"  # as in cluster.local.yaml
        )
        yield host, network.shared


def test_workers_come_when_trials_wait_and_leave_when_none_does(head: tuple[Host, Path]) -> None:
    host, shared = head
    slow = shared / "slow"
    slow.touch()  # trials that last until the last worker is there
    watch = NodeWatch(host)
    watch.wait_for(["head"])
    search = host.start(
        "cd project && RAY_AUTH_MODE=token exec python -m search.run --space paced_space --dataset digits "
        f"--address auto --gpus-per-trial 1 --trials {2 * MOST} --max-epochs 60 --asha none --sampler random "
        f"--precision fp32 --no-confirm --storage {SHARED} --name grown",
        "search.log",
    )
    watch.wait_for(["head"] * (MOST + 1), 400)
    slow.unlink()
    assert search.wait(timeout=600) == 0, host.home("search.log").read_text(errors="replace")
    assert Results(shared / "grown").trials["outcome"].tolist() == ["complete"] * 2 * MOST
    watch.wait_for(["head"], 500)
    workers = [len(nodes) - 1 for nodes in watch.seen()]
    steps = [after for before, after in pairwise(workers) if after != before]
    assert workers[0] == 0
    assert max(workers) == MOST
    assert steps[-1] == 0
    grown = steps.index(MOST)
    assert steps[:grown] == sorted(steps[:grown])
    assert steps[grown:] == sorted(steps[grown:], reverse=True), "none left and came again"
