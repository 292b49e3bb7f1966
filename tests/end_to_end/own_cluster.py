"""A cluster of hosts, made by the commands a user types: `ray up`, `ray exec` and `ray down` on a laptop."""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from hosts import ENVIRONMENT, Host, Hosts, hosts

ROOT = Path(__file__).parents[2]
FILE = "cluster.local.yaml"


class OwnCluster:
    """A laptop with a copy of the project, a head, and workers; not up yet."""

    def __init__(self, network: Hosts, workers: tuple[str, ...]) -> None:
        self.network = network
        self.laptop, self.head = network["laptop"], network["head"]
        self.workers = [network[name] for name in workers]
        self.project = self.laptop.home("project")
        config = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
        for source in [*config["file_mounts"].values(), FILE]:
            _copy(ROOT / source, self.project / source)
        (self.project / FILE).write_text(yaml.safe_dump(self._fit(config)), encoding="utf-8")

    def up(self) -> None:
        """`ray up`, and wait until all workers are there."""
        self.on_laptop(f"ray up --yes {FILE}")
        self.wait_for_workers(len(self.workers))

    def down(self) -> None:
        """`ray down`."""
        self.on_laptop(f"ray down --yes {FILE}")

    def exec(self, command: str, *options: str) -> str:
        """`ray exec`: run a command on the head."""
        return self.on_laptop(shlex.join(["ray", "exec", FILE, command, *options]))

    def on_laptop(self, command: str) -> str:
        """Run a command in the project's folder."""
        return self.laptop.run(f"cd project && {command}", timeout=300)

    def cpus(self) -> float:
        """CPUs of the cluster, as `ray status` on the head says."""
        said = self.head.run("RAY_AUTH_MODE=token ray status", check=False)
        found = re.search(r"/([\d.]+) CPU", said)
        return float(found[1]) if found else 0

    def wait_for_workers(self, count: int, seconds: float = 120) -> None:
        """Until so many workers are part of the cluster; each has as many CPUs as this machine."""
        each = float(self.head.run("nproc"))
        end = time.monotonic() + seconds
        while self.cpus() != count * each:
            assert time.monotonic() < end, self.exec("tail -n 100 /tmp/ray/session_latest/logs/monitor*")
            time.sleep(1)

    def _fit(self, config: dict) -> dict:
        """What a user edits; and the environment, which cannot be downloaded here, is that of the tests."""
        config["provider"] |= {
            "head_ip": self.head.address,
            "worker_ips": [worker.address for worker in self.workers],
        }
        config["auth"]["ssh_user"] = "root"
        download, install, *others = config["setup_commands"]
        assert "curl" in download
        assert "uv sync" in install
        there = f"ln -sfn {ENVIRONMENT} ~/classifier-search/.venv"
        return config | {"setup_commands": [there, *others]}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy(source, target)
    else:
        assert source.name == "uv.lock", source  # not part of the repository, and of no use here
        target.touch()


@contextmanager
def own_cluster(*workers: str) -> Iterator[OwnCluster]:
    """A cluster of a head and these workers, up until the end."""
    with hosts("laptop", "head", *workers) as network:
        cluster = OwnCluster(network, workers)
        cluster.up()
        yield cluster


def listening(host: Host) -> list[str]:
    """Addresses and ports on which a host's processes accept connections."""
    lines = host.run("ss --listening --tcp --numeric --no-header").splitlines()
    return [line.split()[3] for line in lines]
