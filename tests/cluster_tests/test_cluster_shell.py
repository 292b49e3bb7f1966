"""The commands of cluster.yaml, run by bash as Ray runs them over ssh, in a home folder made for it."""

import os
import re
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import with_envs

ROOT = Path(__file__).parents[2]
BASHRC = """case $- in *i*) ;; *) return ;; esac
"""
RAY = """#!/bin/sh
echo "called with: $*"
env
"""


@pytest.fixture
def home(tmp_path, config):
    """A node's home after setup, run twice as by a second `ray up`; `ray` only tells how it is called."""
    (tmp_path / ".bashrc").write_text(BASHRC)
    (tmp_path / ".profile").write_text(". ~/.bashrc\n")
    project = tmp_path / "classifier-search"
    project.mkdir()
    for name in ("search", "spaces", "trainables"):
        (project / name).symlink_to(ROOT / name)
    venv.create(project / ".venv", with_pip=False)
    programs = {"ray": RAY, "python": f'#!/bin/sh\nexec {sys.executable} "$@"\n'}
    for name, script in programs.items():
        file = project / ".venv" / "bin" / name
        file.unlink(missing_ok=True)
        file.write_text(script)
        file.chmod(0o755)
    for _ in range(2):
        for command in config["setup_commands"]:
            if ".bashrc" in command:
                assert run(tmp_path, command).returncode == 0
    return tmp_path


def run(home: Path, command: str) -> subprocess.CompletedProcess:
    words = " ".join(_with_interactive(command))  # sshd hands one string to the user's shell
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "LD_LIBRARY_PATH": "/usr/local/cuda/lib64"}
    return subprocess.run(
        ["bash", "-c", words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=120,
    )


def test_ray_exec_begins_in_the_project_with_its_python(home, config):
    address = re.search(r"s3://\S+", config["metadata"]["storage"])[0]
    done = run(home, 'pwd; command -v python; echo "$RAY_AUTH_MODE $STORAGE ${LD_LIBRARY_PATH-none}"')
    assert done.stdout.splitlines() == [
        str(home / "classifier-search"),
        str(home / "classifier-search" / ".venv" / "bin" / "python"),
        f"token {address} none",
    ]


def test_search_is_found_by_its_plain_command(home):
    done = run(home, "python -m search.run --help")
    assert done.returncode == 0
    assert "--max-epochs" in done.stdout


def test_setup_twice_leaves_each_line_once(home):
    lines = (home / ".bashrc").read_text().removeprefix(BASHRC).splitlines()
    assert len(lines) == len(set(lines)) == 2


def test_login_that_is_not_interactive_is_left_alone(home):
    done = subprocess.run(
        ["bash", "-c", ". ~/.bashrc; pwd"],
        env={"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert done.stdout == "/\n"  # rsync's paths stay what they are


@pytest.fixture
def head(home, config):
    """The words and the environment of the head's `ray start`, whichever autoscaler `ray up` asks for."""
    (command,) = (command for command in config["head_start_ray_commands"] if "--head" in command)
    (command,) = with_envs([command], {"RAY_enable_autoscaler_v2": "1"})  # what `ray up` puts before it
    called, *lines = run(home, command).stdout.splitlines()
    return called, dict(line.split("=", 1) for line in lines if "=" in line)


def test_head_runs_the_first_autoscaler(head):
    called, environment = head
    assert "--head" in called
    assert "--autoscaling-config=" in called
    assert environment["RAY_enable_autoscaler_v2"] == "0"


def test_head_asks_for_the_token(head):
    assert head[1]["RAY_AUTH_MODE"] == "token"


def test_lost_node_is_noticed_within_fifteen_seconds(head):
    milliseconds = {
        name.removeprefix("RAY_health_check_"): int(value)
        for name, value in head[1].items()
        if name.startswith("RAY_health_check_")
    }
    checks = milliseconds["failure_threshold"]
    assert checks * (milliseconds["period_ms"] + milliseconds["timeout_ms"]) <= 15_000
    assert milliseconds["initial_delay_ms"] <= 15_000


def test_worker_joins_with_the_token(home, config):
    (command,) = (command for command in config["worker_start_ray_commands"] if "--address" in command)
    (command,) = with_envs([command], {"RAY_HEAD_IP": "10.0.0.1"})
    done = run(home, command)
    assert "called with: start --address=10.0.0.1:6379\n" in done.stdout
    assert "RAY_AUTH_MODE=token\n" in done.stdout


@pytest.mark.parametrize("part", ["head", "worker"])
def test_ray_that_does_not_start_is_started_once_more(home, config, part):
    ray = home / "classifier-search" / ".venv" / "bin" / "ray"
    # the first start fails; what a try that failed has left is stopped
    ray.write_text('#!/bin/sh\necho "$1"; test "$1" != start -o -e ~/tried || { touch ~/tried; exit 1; }\n')
    (command,) = (command for command in config[f"{part}_start_ray_commands"] if "ray start" in command)
    done = run(home, command)
    assert done.stdout.split() == ["start", "stop", "start"]
    assert done.returncode == 0
    ray.write_text('#!/bin/sh\necho "$1"; exit 3\n')
    done = run(home, command)
    assert done.stdout.split() == ["start", "stop", "start"]
    assert done.returncode == 3, "`ray up` is to say so"


def test_token_is_made_for_its_owner_alone_and_printed_nowhere(home, config):
    ray = home / "classifier-search" / ".venv" / "bin" / "ray"
    ray.unlink()
    ray.symlink_to(Path(sys.executable).parent / "ray")
    (command,) = (command for command in config["head_setup_commands"] if "token" in command)
    done = run(home, command)
    assert done.returncode == 0
    file = home / ".ray" / "auth_token"
    token = file.read_text()
    assert len(token) >= 32
    assert token not in done.stdout + done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    run(home, command)
    assert file.read_text() == token  # a second `ray up` keeps it
