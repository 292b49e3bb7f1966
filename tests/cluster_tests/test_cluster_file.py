"""cluster.yaml: what Ray checks, what it does not, and what the file promises. No network, no AWS account."""

import re
import tomllib
from pathlib import Path

import pytest
from cluster_file_checks import CHECKS, problems
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
PUBLIC_FILES = [ROOT / "cluster.yaml", *sorted((ROOT / "docs" / "aws").glob("*.json"))]
SECRETS = re.compile(
    r"AKIA[0-9A-Z]{16}|[0-9a-f]{64}|-----BEGIN|RAY_AUTH_TOKEN\b|aws_secret_access_key|\b\d{12}\b",
    re.IGNORECASE,
)


def test_ray_accepts_the_file(config):
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["available_node_types"].keys() == config["available_node_types"].keys()


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda config: config.update(max_worker=3), "max_worker"),
        (lambda config: config["auth"].update(ssh_usr="me"), "ssh_usr"),
        (lambda config: config["available_node_types"]["spot"].update(max_worker=3), "max_worker"),
        (lambda config: config["available_node_types"]["spot"].update(resources={"GPU": 0.5}), "0.5"),
        (lambda config: config["available_node_types"]["spot"].update(min_workers=9), "max_workers"),
        (lambda config: config.pop("head_node_type"), "head_node_type"),
        (lambda config: config["available_node_types"].pop("head"), "head_node_type"),
    ],
)
def test_ray_refuses_a_broken_copy(config, edit, expected):
    edit(config)
    with pytest.raises(Exception, match=expected):
        validate_config(prepare_config(config))


def test_nothing_is_wrong_that_ray_does_not_notice(config):
    assert problems(config) == []


UNNOTICED = [
    (lambda config: config["provider"].update(regoin="us-east-1"), "unknown_provider_keys", "regoin"),
    (lambda config: config["provider"].pop("region"), "unknown_provider_keys", "needs a region"),
    (lambda config: config.update(min_workers=2), "ignored_minimum", "min_workers"),
    (
        lambda config: spot(config).update(min_workers=2, max_workers=1),
        "limits_that_contradict",
        "min_workers 2",
    ),
    (lambda config: spot(config).update(max_workers=999), "limits_that_contradict", "max_workers 999"),
    (lambda config: spot(config).update(max_workers=-1), "limits_that_contradict", "max_workers -1"),
    (lambda config: config.update(max_workers=999), "limits_that_contradict", "never reached"),
    (lambda config: settings(config).update(InstanceType="g6.xlrge"), "unknown_instance_types", "g6.xlrge"),
    (lambda config: settings(config).pop("InstanceType"), "unknown_instance_types", "None"),
    (lambda config: settings(config).update(Instance="g6.xlarge"), "unknown_instance_settings", "Instance"),
    (
        lambda config: settings(config)["BlockDeviceMappings"][0]["Ebs"].update(Size=150),
        "unknown_instance_settings",
        "Size",
    ),
    (lambda config: settings(config).update(ImageId=17), "unknown_instance_settings", "ImageId"),
    (lambda config: types(config)["head"].update(resources={"GPU": 0}), "head_that_trains", "trials"),
    (
        lambda config: settings(config, "head").update(InstanceMarketOptions={"MarketType": "spot"}),
        "head_that_trains",
        "spot instance",
    ),
    (
        lambda config: config["provider"]["security_group"].update(
            IpPermissions=[{"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp"}]
        ),
        "open_ports",
        "8265",
    ),
    (
        lambda config: config["head_start_ray_commands"].append("ray start --head --dashboard-host=0.0.0.0"),
        "open_ports",
        "dashboard",
    ),
    (lambda config: config.update(setup_commands=[]), "missing_token", "token authentication"),
    (lambda config: config.pop("cluster_synced_files"), "missing_token", "auth_token"),
]


def types(config):
    return config["available_node_types"]


def spot(config):
    return types(config)["spot"]


def settings(config, name="spot"):
    return types(config)[name]["node_config"]


@pytest.mark.parametrize(("edit", "check", "expected"), UNNOTICED)
def test_each_check_finds_what_ray_lets_pass(config, edit, check, expected):
    edit(config)
    validate_config(prepare_config(config))
    found = problems(config)
    by_name = {function.__name__: function for function in CHECKS}
    assert any(expected in line for line in by_name[check](config))
    assert any(expected in line for line in found)


def test_head_type_that_is_missing_is_a_problem(config):
    del config["head_node_type"]
    assert any("head_node_type is None" in line for line in problems(config))


def test_every_check_has_a_broken_copy():
    tried = {check for _, check, _ in UNNOTICED} | {"missing_head_type"}
    assert {function.__name__ for function in CHECKS} == tried


def test_versions_are_those_of_the_project(config):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (sync,) = (command for command in config["setup_commands"] if "uv sync" in command)
    python = re.search(r"--python ([\d.]+)", sync)[1]
    assert python in SpecifierSet(project["project"]["requires-python"])
    assert python == project["tool"]["mypy"]["python_version"]

    group = project["dependency-groups"][re.search(r"--group (\S+)", sync)[1]]
    extra = {item.name: item.specifier for item in map(Requirement, group)}
    own = {item.name: item.specifier for item in map(Requirement, project["project"]["dependencies"])}
    assert extra["ray"] == own["ray"]
    assert "boto3" in extra  # the head's autoscaler speaks to AWS
    # uv.lock decides, and nothing beside it is installed
    assert "--frozen" in sync
    assert config["file_mounts"]["~/classifier-search/uv.lock"] == "uv.lock"
    commands = "\n".join([*config["setup_commands"], *config["head_setup_commands"]])
    assert not re.search(r"pip install|[\w\]]==\d|uv add", commands)


def test_what_is_mounted_is_there_and_is_all_that_the_project_is_made_of(config):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    mounted = set(config["file_mounts"].values())
    assert {remote.removeprefix("~/classifier-search/") for remote in config["file_mounts"]} == mounted
    assert mounted >= {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml"}
    assert mounted >= {project["project"]["readme"], *project["project"]["license-files"]}
    assert all((ROOT / path).exists() for path in mounted - {"uv.lock"})  # which uv makes on the first use


@pytest.mark.parametrize("file", PUBLIC_FILES, ids=lambda file: file.name)
def test_no_secret_is_in_a_file(file):
    assert SECRETS.findall(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "AKIAABCDEFGHIJKLMNOP",
        "token: " + "0f" * 32,
        "export RAY_AUTH_TOKEN=x",
        "arn:aws:iam::123456789012:role/x",
    ],
)
def test_secret_would_be_seen(line):
    assert SECRETS.search(line)
