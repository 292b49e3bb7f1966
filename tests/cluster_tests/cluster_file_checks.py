"""What Ray does not notice about a cluster file for AWS: each check tells of every problem in one line.

Ray's schema lets pass what it does not know. A misspelt key is then ignored, a wrong instance type fails
when the first worker is to start, and the cluster waits for ever.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

Config = Mapping[str, Any]

PROVIDER_KEYS = {
    "type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips", "use_external_head_ip",
    "security_group", "key_pair", "aws_credentials", "cloudwatch",
}  # fmt: skip
"""What the code of ray.autoscaler._private.aws and the updater look up."""
FILLED_IN_BY_RAY = {"SubnetIds"}
"""In a `node_config`, though RunInstances does not know it."""


def problems(config: Config) -> list[str]:
    """Everything that is wrong with `config`, the document of a cluster file."""
    return [line for check in CHECKS for line in check(config)]


def unknown_provider_keys(config: Config) -> Iterator[str]:
    for key in config["provider"].keys() - PROVIDER_KEYS:
        yield f"provider has no key {key}"
    if "region" not in config["provider"]:
        yield "provider needs a region"


def ignored_minimum(config: Config) -> Iterator[str]:
    if "min_workers" in config:
        yield "Ray drops a min_workers that stands outside a node type"


def missing_head_type(config: Config) -> Iterator[str]:
    if config.get("head_node_type") not in config["available_node_types"]:
        yield f"head_node_type is {config.get('head_node_type')}, which is no node type"


def limits_that_contradict(config: Config) -> Iterator[str]:
    most = config["max_workers"]
    types = workers(config)
    for name, kind in types.items():
        low, high = kind.get("min_workers", 0), kind.get("max_workers", most)
        if low > high:
            yield f"{name}: min_workers {low} is more than max_workers {high}"
        if not 0 <= high <= most:
            yield f"{name}: max_workers {high} is not between 0 and the {most} of the whole cluster"
    total = sum(kind.get("max_workers", most) for kind in types.values())
    if total < most:
        yield f"the node types make {total} workers at most, and max_workers {most} is never reached"


def unknown_instance_types(config: Config) -> Iterator[str]:
    known = set(ec2_shape("InstanceType").enum)
    for name, kind in config["available_node_types"].items():
        if (given := kind["node_config"].get("InstanceType")) not in known:
            yield f"{name}: AWS has no instance type {given}"


def unknown_instance_settings(config: Config) -> Iterator[str]:
    shape = ec2_shape("RunInstancesRequest")
    for name, kind in config["available_node_types"].items():
        given = {key: value for key, value in kind["node_config"].items() if key not in FILLED_IN_BY_RAY}
        report = ParamValidator().validate({**given, "MinCount": 1, "MaxCount": 1}, shape)
        if report.has_errors():
            yield from (f"{name}: {line}" for line in report.generate_report().splitlines())


def head_that_trains(config: Config) -> Iterator[str]:
    head = config["available_node_types"].get(config.get("head_node_type"), {})
    if head.get("resources") != {"CPU": 0, "GPU": 0}:
        yield "the head offers CPUs or GPUs: trials would be placed there"
    if "InstanceMarketOptions" in head.get("node_config", {}):
        yield "the head is a spot instance: AWS may end the search's driver"


def open_ports(config: Config) -> Iterator[str]:
    for rule in config["provider"].get("security_group", {}).get("IpPermissions", []):
        if (rule.get("FromPort"), rule.get("ToPort")) != (22, 22):
            yield f"security_group opens {rule.get('FromPort')} to {rule.get('ToPort')}"
    for command in [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]:
        if "--dashboard-host" in command and "--dashboard-host=127.0.0.1" not in command:
            yield "the dashboard does not listen on loopback alone"


def missing_token(config: Config) -> Iterator[str]:
    if not any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"]):
        yield "no setup command turns token authentication on"
    if "~/.ray/auth_token" not in config.get("cluster_synced_files", []):
        yield "workers do not get the token: cluster_synced_files lacks ~/.ray/auth_token"


def workers(config: Config) -> dict[str, Any]:
    """The node types that are not the head's."""
    types = config["available_node_types"]
    return {name: types[name] for name in types if name != config.get("head_node_type")}


@functools.cache
def ec2_shape(name: str) -> Any:
    """A type of EC2's interface, as botocore ships it: no network needed."""
    return botocore.session.get_session().get_service_model("ec2").shape_for(name)


CHECKS: list[Callable[[Config], Iterator[str]]] = [
    unknown_provider_keys,
    ignored_minimum,
    missing_head_type,
    limits_that_contradict,
    unknown_instance_types,
    unknown_instance_settings,
    head_that_trains,
    open_ports,
    missing_token,
]
