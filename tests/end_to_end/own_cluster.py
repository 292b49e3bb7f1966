"""A cluster of hosts, made by the commands a user types on a laptop: `ray up`, `ray exec` and `ray down`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from hosts import ENVIRONMENT, SHOWN, Host, Hosts, hosts

ROOT = Path(__file__).parents[2]
FILE = "cluster.local.yaml"
OWN_SPACE = Path(__file__).parent / "paced_space.py"
WATCH = """
import json, time, ray
ray.init(address="auto", log_to_driver=False)
while True:
    print(json.dumps([node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]]), flush=True)
    time.sleep(0.5)
"""


def wait_until(
    condition: Callable[[], bool],
    seconds: float,
    said: Callable[[], str],
    meanwhile: subprocess.Popen[bytes] | None = None,
) -> None:
    """Until the condition holds, while a process runs; or else an error that tells what was `said`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, said()
        assert meanwhile is None or meanwhile.poll() is None, said()
        time.sleep(0.2)


class NodeWatch:
    """Which nodes a cluster has, asked twice a second by a process on its head."""

    def __init__(self, head: Host) -> None:
        self.log = head.home("nodes.log")
        command = f"RAY_AUTH_MODE=token exec python -c {shlex.quote(WATCH)}"
        self.process = head.start(command, self.log.name)

    def seen(self) -> list[list[str]]:
        """The hosts of its living nodes, each time it was asked; a host may have more than one."""
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith('["') and line.endswith("\n")]

    def wait_for(self, nodes: Sequence[str], seconds: float = 120) -> None:
        """Until these are the nodes."""

        def there() -> bool:
            return [sorted(seen) for seen in self.seen()[-1:]] == [sorted(nodes)]

        wait_until(there, seconds, lambda: self.log.read_text(errors="replace")[-2000:], self.process)


class OwnCluster:
    """A laptop with the project, a head, and workers; up between `up` and `down`."""

    def __init__(self, network: Hosts, workers: Sequence[str], variables: Mapping[str, str]) -> None:
        self.network, self.workers, self.variables = network, list(workers), variables
        self.laptop = network["laptop"]
        self.project = self.laptop.home("project")
        config = yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))
        copy_project(list(config["file_mounts"].values()), self.project)
        (self.project / FILE).write_text(yaml.safe_dump(self._fit(config)), encoding="utf-8")

    @property
    def head(self) -> Host:
        """The host that leads; another one after `replace`."""
        return self.network["head"]

    def up(self) -> None:
        """`ray up`; the workers come later. Where it fails, the head's own log says why."""
        try:
            self.on_laptop(f"ray up --yes {FILE}")
        except AssertionError as error:
            log = self.head.run("tail -n 20 /tmp/ray/session_latest/logs/raylet.*", check=False)
            raise AssertionError(f"{error}\n{log[-SHOWN:]}") from error

    def down(self) -> None:
        """`ray down`."""
        self.on_laptop(f"ray down --yes {FILE}")

    def exec(self, command: str, *options: str) -> str:
        """`ray exec`: run a command on the head. Returns what it says."""
        return self.on_laptop(shlex.join(["ray", "exec", FILE, command, *options]))

    def exec_in_background(self, command: str, log: str) -> subprocess.Popen[bytes]:
        """`ray exec`, not waited for; what it says goes to the file `log` in the laptop's home."""
        words = shlex.join(["ray", "exec", FILE, command])
        return self.laptop.start(f"cd project && exec {words}", log)

    def on_laptop(self, command: str) -> str:
        """Run a command in the project's folder."""
        return self.laptop.run(f"cd project && {command}", timeout=300)

    def _fit(self, config: dict) -> dict:
        """What a user edits; and the environment, which cannot be downloaded here, is that of the tests."""
        config["provider"] |= {
            "head_ip": self.head.address,
            "worker_ips": [self.network[worker].address for worker in self.workers],
        }
        config["auth"]["ssh_user"] = "root"
        config["file_mounts"][f"~/classifier-search/{OWN_SPACE.name}"] = OWN_SPACE.name
        download, install, *others = config["setup_commands"]
        assert "curl" in download
        assert "uv sync" in install
        there = f"ln -sfn {ENVIRONMENT} ~/classifier-search/.venv"
        exports = "; ".join(f"export {name}={value}" for name, value in self.variables.items())
        known = f"sed -i '/^export/d' ~/.bashrc && echo '{exports}' >> ~/.bashrc"
        return config | {"setup_commands": [there, *others, known]}


@contextmanager
def own_cluster(
    *workers: str, besides: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> Iterator[OwnCluster]:
    """A cluster of a head and these workers; `ray up` has just returned.

    Hosts `besides` are not part of it. All of its nodes have these environment `variables`.
    """
    with hosts("laptop", "head", *workers, *besides) as network:
        cluster = OwnCluster(network, workers, variables or {})
        cluster.up()
        yield cluster


def copy_project(paths: Sequence[str], folder: Path) -> None:
    """The project's files and folders `paths` as they stand, and a space beside them that takes its time."""
    folder.mkdir()
    for path in paths:
        if (ROOT / path).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / path, folder / path, ignore=ignore)
        elif (ROOT / path).exists():
            shutil.copy(ROOT / path, folder / path)
        else:
            assert path == "uv.lock", path  # which is not part of the repository, and of no use here
            (folder / path).touch()
    shutil.copy(OWN_SPACE, folder)
