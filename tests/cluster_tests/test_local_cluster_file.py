"""cluster.local.yaml: what Ray checks, what it shares with cluster.yaml, and the shells that it makes."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def local():
    return yaml.safe_load((ROOT / "cluster.local.yaml").read_text(encoding="utf-8"))


def test_ray_accepts_the_list_of_machines_and_keeps_all_of_them(local):
    prepared = prepare_config(local)
    validate_config(prepared)
    (kind,) = prepared["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(local["provider"]["worker_ips"])


def test_no_key_is_misspelt_where_ray_does_not_notice(local):
    assert local["provider"].keys() == {"type", "head_ip", "worker_ips"}
    assert local["auth"].keys() == {"ssh_user", "ssh_private_key"}


def test_both_files_bring_the_same_things_and_versions_to_a_node(local, config):
    for name in ("file_mounts", "rsync_exclude", "cluster_synced_files", "head_setup_commands"):
        assert local[name] == config[name]
    for pattern in (r"astral\.sh/uv/[\d.]+", r"uv sync .*", r"RAY_[a-z_0-9]+=\w+", r"RAY_AUTH_MODE=\w+"):
        found = [re.findall(pattern, "\n".join(commands(file))) for file in (local, config)]
        assert found[0] == found[1] != []


def test_head_trains_nothing_and_keeps_its_dashboard_to_itself(local):
    (start,) = (command for command in local["head_start_ray_commands"] if "--head" in command)
    for words in ("--num-cpus=0", "--num-gpus=0", "--dashboard-host=127.0.0.1"):
        assert words in start.split()


@pytest.fixture
def home(tmp_path, local):
    """A machine's home after setup, run twice as by a second `ray up`."""
    (tmp_path / ".bashrc").write_text("# a user's own\n")
    (tmp_path / ".profile").write_text(". ~/.bashrc\n")
    bin_folder = tmp_path / "classifier-search" / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "activate").write_text("export ACTIVATED=yes\n")
    for command in 2 * [command for command in local["setup_commands"] if ".bashrc" in command]:
        as_ray_does(tmp_path, command)
    return tmp_path


def as_ray_does(home, command):
    """Run a command as Ray does over ssh; returns what it says."""
    return shell(home, "bash", "-c", " ".join(_with_interactive(command)))


def shell(home, *words, said=""):
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        words, input=said, env=environment, cwd="/", capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_shells_that_ray_starts_are_in_the_project(home):
    said = as_ray_does(home, 'pwd; echo "$ACTIVATED $RAY_AUTH_MODE"')
    assert said == f"{home}/classifier-search\nyes token\n"


def test_other_shells_stay_as_they_are(home):
    ask = 'pwd; echo "${ACTIVATED-no}"\n'
    assert shell(home, "bash", "--login", "-i", said=ask) == "/\nno\n"
    assert shell(home, "bash", "-c", f". ~/.bashrc; {ask}") == "/\nno\n"


def test_setup_twice_leaves_one_line(home):
    own, *added = (home / ".bashrc").read_text().splitlines()
    assert own == "# a user's own"
    assert len(added) == 1


def commands(file):
    """Every shell command of a cluster file."""
    return [command for name, found in file.items() if name.endswith("_commands") for command in found]
