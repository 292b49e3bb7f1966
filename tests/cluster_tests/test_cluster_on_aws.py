"""What Ray makes of cluster.yaml at AWS. Moto answers as EC2 and IAM do; nothing leaves the machine."""

import functools
import json
import re
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws import utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.node_provider_availability_tracker import (
    NodeAvailabilityRecord,
    NodeAvailabilitySummary,
    UnavailableNodeInformation,
)
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME, TAG_RAY_NODE_KIND, TAG_RAY_NODE_STATUS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "docs" / "aws"
TRIAL = {"CPU": 4, "GPU": 1}


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """An account of moto's with the roles that docs/clusters.md has one make."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray leaves the key pair there
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        iam = boto3.client("iam")
        for role, policies in {"head": ["bucket", "autoscaler"], "worker": ["bucket"]}.items():
            name = f"classifier-search-{role}"
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy("trust"))
            for document in policies:
                iam.put_role_policy(RoleName=name, PolicyName=document, PolicyDocument=policy(document))
            iam.create_instance_profile(InstanceProfileName=name)
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        utils.resource_cache.cache_clear()
        yield
        utils.resource_cache.cache_clear()


def policy(name: str) -> str:
    return (POLICIES / f"{name}.json").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def cluster(account):
    """cluster.yaml as `ray up` sends it to the head: what AWS knows is filled in."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    filled = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(config))
    validate_config(filled)
    return AWSNodeProvider.bootstrap_config(filled)


@pytest.fixture
def provider(cluster):
    """Starts and ends instances as the head's autoscaler does."""
    provider = AWSNodeProvider(cluster["provider"], cluster["cluster_name"])
    yield provider
    provider.terminate_nodes(provider.non_terminated_nodes({}))


@pytest.fixture
def calls(provider):
    """The names of what `provider` has asked of EC2."""
    calls = set()

    def note(model, **_):
        calls.add(model.name)

    events = [resource.meta.client.meta.events for resource in (provider.ec2, provider.ec2_fail_fast)]
    for event in events:
        event.register("before-call.ec2", note)
    yield calls
    for event in events:
        event.unregister("before-call.ec2", note)


def start(provider, cluster, kind: str) -> dict:
    """The instance that a node of a type becomes."""
    node = cluster["available_node_types"][kind]["node_config"]
    (instance,) = provider.create_node(node, {TAG_RAY_NODE_KIND: "worker"}, 1)
    found = boto3.client("ec2", cluster["provider"]["region"]).describe_instances(InstanceIds=[instance])
    return found["Reservations"][0]["Instances"][0]


def test_head_has_nothing_for_trials_and_workers_have_gpus(cluster):
    types = cluster["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert all(types[name]["resources"]["GPU"] >= 1 for name in types if name != "head")


def test_world_may_only_use_ssh(cluster):
    types = cluster["available_node_types"].values()
    used = {group for kind in types for group in kind["node_config"]["SecurityGroupIds"]}
    ec2 = boto3.client("ec2", cluster["provider"]["region"])
    groups = ec2.describe_security_groups(GroupIds=sorted(used))["SecurityGroups"]
    rules = [rule for group in groups for rule in group["IpPermissions"]]
    from_outside = [rule for rule in rules if rule.get("IpRanges") or rule.get("Ipv6Ranges")]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpProtocol"]) for rule in from_outside] == [
        (22, 22, "tcp")
    ]
    own = {group["GroupId"] for group in groups}
    among = [rule for rule in rules if rule not in from_outside]
    assert {pair["GroupId"] for rule in among for pair in rule["UserIdGroupPairs"]} == own


@pytest.mark.parametrize(
    ("kind", "role", "spot"),
    [
        ("head", "head", False),
        ("spot", "worker", True),
        ("other_spot", "worker", True),
        ("on_demand", "worker", False),
    ],
)
def test_node_becomes_an_instance_with_its_role(provider, cluster, kind, role, spot):
    instance = start(provider, cluster, kind)
    asked = cluster["available_node_types"][kind]["node_config"]
    assert instance["InstanceType"] == asked["InstanceType"]
    assert instance["IamInstanceProfile"]["Arn"].endswith(f"/classifier-search-{role}")
    assert (instance.get("InstanceLifecycle") == "spot") == spot
    assert {"Key": TAG_RAY_CLUSTER_NAME, "Value": cluster["cluster_name"]} in instance["Tags"]


def test_policy_of_the_head_allows_what_the_autoscaler_asks_for_and_no_more(provider, cluster, calls):
    instance = start(provider, cluster, "spot")["InstanceId"]
    provider.non_terminated_nodes({TAG_RAY_NODE_KIND: "worker"})
    provider.set_node_tags(instance, {TAG_RAY_NODE_STATUS: "up-to-date"})
    assert provider.is_running(instance)
    assert provider.internal_ip(instance)
    provider.terminate_node(instance)
    provider.terminate_nodes([start(provider, cluster, "on_demand")["InstanceId"]])
    # beside EC2's: the worker's role is handed over, and the image's name looked up
    needed = {f"ec2:{call}" for call in calls} | {"iam:PassRole", "ssm:GetParameters"}
    assert {action for statement in statements("autoscaler") for action in actions(statement)} == needed


def test_idle_instance_is_ended_not_stopped(provider, cluster):
    instance = start(provider, cluster, "on_demand")["InstanceId"]
    provider.non_terminated_nodes({})
    provider.terminate_node(instance)
    found = boto3.client("ec2", cluster["provider"]["region"]).describe_instances(InstanceIds=[instance])
    assert found["Reservations"][0]["Instances"][0]["State"]["Name"] in ("shutting-down", "terminated")


def test_policies_and_file_name_the_same_things(cluster):
    name = cluster["cluster_name"]
    tags = [
        value
        for statement in statements("autoscaler")
        for key, value in statement.get("Condition", {}).get("StringEquals", {}).items()
        if key.endswith(TAG_RAY_CLUSTER_NAME)
    ]
    assert tags == [name, name]
    (passed,) = (item["Resource"] for item in statements("autoscaler") if "iam:PassRole" in actions(item))
    types = cluster["available_node_types"]
    profiles = {types[kind]["node_config"]["IamInstanceProfile"]["Name"] for kind in types if kind != "head"}
    assert {passed.rpartition("/")[2]} == profiles
    bucket = re.search(r"s3://([^/ ]+)", cluster["metadata"]["storage"])[1]
    assert {statement["Resource"] for statement in statements("bucket")} == {
        f"arn:aws:s3:::{bucket}",
        f"arn:aws:s3:::{bucket}/*",
    }


def statements(name: str) -> list[dict]:
    return json.loads(policy(name))["Statement"]


def actions(statement: dict) -> list[str]:
    given = statement["Action"]
    return [given] if isinstance(given, str) else given


@pytest.mark.parametrize(
    ("trials", "started"),
    [
        (1, {"spot": 1}),
        (6, {"spot": 4, "other_spot": 2}),
        (9, {"spot": 4, "other_spot": 4, "on_demand": 1}),
        (50, {"spot": 4, "other_spot": 4, "on_demand": 2}),
    ],
)
def test_waiting_trials_start_spot_instances_first_and_no_head(cluster, trials, started):
    assert to_start(cluster, trials, NodeAvailabilitySummary({})) == started


def test_type_that_aws_has_none_of_is_asked_for_again(cluster):
    """Not what one would wish: docs/clusters.md tells users what to do. Should Ray change, so should that."""
    none = UnavailableNodeInformation(category="InsufficientInstanceCapacity", description="none left")
    record = NodeAvailabilityRecord(
        "spot", is_available=False, last_checked_timestamp=0, unavailable_node_information=none
    )
    assert to_start(cluster, 1, NodeAvailabilitySummary({"spot": record})) == {"spot": 1}


def to_start(cluster, trials: int, known: NodeAvailabilitySummary) -> dict[str, int]:
    """Instances that Ray's autoscaler starts for so many waiting trials."""
    most = {"head": 0, "spot": 4, "other_spot": 4, "on_demand": 2}
    types = {
        name: {**kind, "max_workers": most[name]} for name, kind in cluster["available_node_types"].items()
    }
    scorer = functools.partial(_default_utilization_scorer, node_availability_summary=known)
    nodes, _ = get_nodes_for(types, {"head": 1}, "head", 100, [TRIAL] * trials, scorer)
    return dict(nodes)
