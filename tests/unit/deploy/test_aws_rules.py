"""Rules of CloudFormation and of the services that cfn-lint does not check, as a table: resource type, rule, check."""

import inspect
import itertools
import json
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

import pytest

from gateway.adapters.aws.sqs_reader import SqsReader
from gateway.settings import load
from tests.support.cloudformation import Stack, read
from tests.support.ecs import FARGATE
from tests.unit.deploy.test_aws_templates import ROOT, TEMPLATES, VARIANTS, data, deployed, listed

Properties = dict[str, Any]
Check = Callable[[Properties], bool]

_LOG_DAYS = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
_METHODS = (
    {"GET", "HEAD"},
    {"GET", "HEAD", "OPTIONS"},
    {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"},
)
_ARCHIVES = {"STANDARD_IA": 30, "ONEZONE_IA": 30}  # the least days before these classes
_KEY = "ParametersInCacheKeyAndForwardedToOrigin"


def _config(check: Check) -> Check:
    """The check of a cache policy, for its configuration."""
    return lambda p: check(p["CachePolicyConfig"])


def _lifetimes(policy: Properties) -> bool:
    return 0 <= policy["MinTTL"] <= policy["DefaultTTL"] <= policy["MaxTTL"]


def _uncached(policy: Properties) -> bool:
    """Without a lifetime, nothing may be in the cache's key."""
    key = policy[_KEY]
    parts = {key[name] for name in ("EnableAcceptEncodingGzip", "EnableAcceptEncodingBrotli")}
    parts |= {behavior for part in key.values() if isinstance(part, dict) for behavior in [next(iter(part.values()))]}
    return policy["MaxTTL"] > 0 or parts == {False, "none"}


def _cache_key(policy: Properties) -> bool:
    key = policy[_KEY]
    names = [key["HeadersConfig"].get("Headers", []), key["QueryStringsConfig"].get("QueryStrings", [])]
    unnamed = {"Accept-Encoding"} & set(names[0])  # the switches above stand for it
    return not unnamed and all(len(each) <= 10 and len(set(each)) == len(each) for each in names)


def _whitelists(policy: Properties) -> bool:
    config = policy["OriginRequestPolicyConfig"]
    lists = [config["HeadersConfig"].get("Headers", []), config["QueryStringsConfig"].get("QueryStrings", [])]
    return all(len(names) <= 10 for names in lists)


def _behaviors(distribution: Properties) -> list[Properties]:
    config = distribution["DistributionConfig"]
    return [config["DefaultCacheBehavior"], *config.get("CacheBehaviors", [])]


def _paths(distribution: Properties) -> bool:
    paths = [b["PathPattern"] for b in distribution["DistributionConfig"].get("CacheBehaviors", [])]
    form = re.compile(r"[A-Za-z0-9_.*$/~\"'@:+?&-]{1,255}")
    return len(paths) <= 24 and len(set(paths)) == len(paths) and all(map(form.fullmatch, paths))


def _methods(distribution: Properties) -> bool:
    return all(
        set(b["AllowedMethods"]) in _METHODS
        and set(b.get("CachedMethods", ("GET", "HEAD"))) <= set(b["AllowedMethods"])
        for b in _behaviors(distribution)
    )


def _targets(distribution: Properties) -> bool:
    origins = [o["Id"] for o in distribution["DistributionConfig"]["Origins"]]
    return len(set(origins)) == len(origins) and {b["TargetOriginId"] for b in _behaviors(distribution)} <= set(origins)


def _origin_times(distribution: Properties) -> bool:
    own = [o["CustomOriginConfig"] for o in distribution["DistributionConfig"]["Origins"]]
    return all(o.get("OriginReadTimeout", 30) <= 60 and o.get("OriginKeepaliveTimeout", 5) <= 60 for o in own)


def _comment(properties: Properties) -> bool:
    return len(next(iter(properties.values())).get("Comment", "")) <= 128


def _health(group: Properties) -> bool:
    balancer = group["Protocol"] in ("HTTP", "HTTPS")
    interval = group["HealthCheckIntervalSeconds"]
    timeout = group.get("HealthCheckTimeoutSeconds", 5 if balancer else 6)
    counts = [group.get("HealthyThresholdCount", 5), group.get("UnhealthyThresholdCount", 2)]
    return 5 <= interval <= 300 and 2 <= timeout < interval and all(2 <= count <= 10 for count in counts)


def _bounds(attributes: str, key: str, least: int, most: int) -> Check:
    """The check that an attribute of a balancer or a target group is in its range."""
    return lambda p: all(least <= int(a["Value"]) <= most for a in p.get(attributes, []) if a["Key"] == key)


def _conditions(rule: Properties) -> bool:
    values = [value for c in rule["Conditions"] for value in c["PathPatternConfig"]["Values"]]
    form = re.compile(r"[A-Za-z0-9_.$/~\"'@:+&()!,;=*?-]{1,128}")
    return len(values) <= 5 and all(map(form.fullmatch, values)) and 1 <= rule["Priority"] <= 50_000


def _task_size(task: Properties) -> bool:
    return int(task["Memory"]) in FARGATE[int(task["Cpu"])]


def _containers(task: Properties) -> list[Properties]:
    containers: list[Properties] = task["ContainerDefinitions"]
    return containers


def _variables(task: Properties) -> bool:
    names = [[e["Name"] for e in (*c.get("Environment", ()), *c.get("Secrets", ()))] for c in _containers(task)]
    return all(len(set(each)) == len(each) for each in names)


def _probe(task: Properties) -> bool:
    bounds = {"Interval": (5, 300), "Timeout": (2, 60), "Retries": (1, 10), "StartPeriod": (0, 300)}
    probes = [c["HealthCheck"] for c in _containers(task) if "HealthCheck" in c]
    return all(least <= probe[name] <= most for probe in probes for name, (least, most) in bounds.items())


def _essential(task: Properties) -> bool:
    return any(c.get("Essential", True) for c in _containers(task))


def _service(service: Properties) -> bool:
    deployment = service["DeploymentConfiguration"]
    return len(service["LoadBalancers"]) <= 5 and deployment["MaximumPercent"] > deployment["MinimumHealthyPercent"]


def _capacity(target: Properties) -> bool:
    return 0 <= int(target["MinCapacity"]) <= int(target["MaxCapacity"])


def _tracking(policy: Properties) -> bool:
    config = policy["TargetTrackingScalingPolicyConfiguration"]
    specification = config.get("CustomizedMetricSpecification", {})
    metrics = specification.get("Metrics", [])
    returned = [m for m in metrics if m.get("ReturnData", True)]
    ids = [m["Id"] for m in metrics]
    kinds = "PredefinedMetricSpecification" in config, bool(specification)
    return (
        sum(kinds) == 1
        and float(config["TargetValue"]) > 0
        and (not metrics or len(returned) == 1)
        and len(set(ids)) == len(ids) <= 10
        and all(
            re.fullmatch(r"[a-z]\w*", id) and ("Expression" in m) != ("MetricStat" in m)
            for id, m in zip(ids, metrics, strict=True)
        )
    )


def _table_keys(table: Properties) -> Iterator[list[str]]:
    for index in (table, *table.get("GlobalSecondaryIndexes", ()), *table.get("LocalSecondaryIndexes", ())):
        yield [k["AttributeName"] for k in sorted(index["KeySchema"], key=lambda k: k["KeyType"] == "RANGE")]


def _attributes(table: Properties) -> bool:
    defined = [a["AttributeName"] for a in table["AttributeDefinitions"]]
    return sorted(defined) == sorted({name for keys in _table_keys(table) for name in keys})


def _local_indexes(table: Properties) -> bool:
    keys = next(_table_keys(table))
    own = [[k["AttributeName"] for k in index["KeySchema"]] for index in table.get("LocalSecondaryIndexes", ())]
    return len(own) <= 5 and all(len(keys) == 2 and len(k) == 2 and k[0] == keys[0] and k[1] != keys[1] for k in own)


def _billing(table: Properties) -> bool:
    throughputs = ["ProvisionedThroughput" in each for each in (table, *table.get("GlobalSecondaryIndexes", ()))]
    return set(throughputs) == {table["BillingMode"] == "PROVISIONED"}


def _expiry_is_no_key(table: Properties) -> bool:
    return table.get("TimeToLiveSpecification", {}).get("AttributeName") not in next(_table_keys(table))


def _queue(queue: Properties) -> bool:
    bounds = {
        "VisibilityTimeout": (0, 43_200),
        "MessageRetentionPeriod": (60, 1_209_600),
        "ReceiveMessageWaitTimeSeconds": (0, 20),
    }
    return all(least <= queue.get(name, least) <= most for name, (least, most) in bounds.items())


def _notifications(bucket: Properties) -> bool:
    """Of one event, no key may match two filters: of two suffixes, none may end with the other."""
    configurations = bucket.get("NotificationConfiguration", {}).get("QueueConfigurations", [])
    filters = [{r["Name"]: r["Value"] for r in c["Filter"]["S3Key"]["Rules"]} for c in configurations]
    pairs = itertools.combinations([each["suffix"] for each in filters], 2)
    return len(filters) <= 100 and not any(a.endswith(b) or b.endswith(a) for a, b in pairs)


def _transitions(bucket: Properties) -> bool:
    rules = bucket.get("LifecycleConfiguration", {}).get("Rules", [])
    moves = [[(int(t["TransitionInDays"]), t["StorageClass"]) for t in r.get("Transitions", ())] for r in rules]
    return len({r["Id"] for r in rules}) == len(rules) and all(
        each == sorted(each) and all(days >= _ARCHIVES.get(kind, 0) for days, kind in each) for each in moves
    )


def _bucket_policy(policy: Properties) -> bool:
    return len(json.dumps(policy["PolicyDocument"], separators=(",", ":"))) <= 20_480


def _role_policies(role: Properties) -> bool:
    """IAM: "The aggregate policy size of a role cannot exceed 10,240 characters", not counting white space."""
    documents = [p["PolicyDocument"] for p in role.get("Policies", ())]
    sids = [[s["Sid"] for s in d["Statement"] if "Sid" in s] for d in documents]
    size = sum(len(json.dumps(d, separators=(",", ":"))) for d in documents)
    unique = all(len(set(each)) == len(each) and all(re.fullmatch(r"[A-Za-z0-9]+", s) for s in each) for each in sids)
    return size <= 10_240 - 1024 and unique  # a reserve for longer names than those of this test


def _descriptions(group: Properties) -> bool:
    form = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{1,255}")
    texts = [group["GroupDescription"], *(r.get("Description", "-") for r in group.get("SecurityGroupIngress", ()))]
    return all(map(form.fullmatch, texts))


def _list_and_rules(group: Properties) -> bool:
    """CloudFront's prefix list counts as 55 of the 60 rules of a group."""
    rules = group.get("SecurityGroupIngress", [])
    return sum(55 if "SourcePrefixListId" in rule else 1 for rule in rules) <= 60


def _one_source(rule: Properties) -> bool:
    sources = {"CidrIp", "CidrIpv6", "SourcePrefixListId", "SourceSecurityGroupId"} & rule.keys()
    return len(sources) == 1 and rule["FromPort"] <= rule["ToPort"]


def _event_rule(rule: Properties) -> bool:
    return len(rule["Targets"]) <= 5 and len(json.dumps(rule["EventPattern"])) <= 2048


def _text(name: str, least: int, most: int) -> Check:
    """The check that a text has a length in this range."""
    return lambda p: least <= len(p[name]) <= most


CLOUDFRONT, BALANCING = "AWS::CloudFront::", "AWS::ElasticLoadBalancingV2::"
RULES: list[tuple[str, str, Check]] = [
    (CLOUDFRONT + "CachePolicy", "MinTTL ≤ DefaultTTL ≤ MaxTTL", _config(_lifetimes)),
    (CLOUDFRONT + "CachePolicy", "with MaxTTL 0 the cache's key is empty", _config(_uncached)),
    (CLOUDFRONT + "CachePolicy", "at most ten headers and ten queries", _config(_cache_key)),
    (CLOUDFRONT + "CachePolicy", "a comment of at most 128 characters", _comment),
    (CLOUDFRONT + "OriginRequestPolicy", "at most ten headers and ten queries", _whitelists),
    (CLOUDFRONT + "Distribution", "at most 25 behaviors with different paths", _paths),
    (CLOUDFRONT + "Distribution", "methods in one of three sets", _methods),
    (CLOUDFRONT + "Distribution", "behaviors use existing origins", _targets),
    (CLOUDFRONT + "Distribution", "origins have 60 s at most", _origin_times),
    (CLOUDFRONT + "Distribution", "a comment of at most 128 characters", _comment),
    (CLOUDFRONT + "KeyGroup", "one to five keys", lambda p: 1 <= len(p["KeyGroupConfig"]["Items"]) <= 5),
    (BALANCING + "TargetGroup", "bounds of health checks", _health),
    (
        BALANCING + "TargetGroup",
        "a deregistration takes at most an hour",
        _bounds("TargetGroupAttributes", "deregistration_delay.timeout_seconds", 0, 3600),
    ),
    (
        BALANCING + "LoadBalancer",
        "an idle time of 1 to 4,000 s",
        _bounds("LoadBalancerAttributes", "idle_timeout.timeout_seconds", 1, 4000),
    ),
    (BALANCING + "LoadBalancer", "two subnets at least", lambda p: len(p["Subnets"]) >= 2),
    (BALANCING + "ListenerRule", "at most five values of valid characters", _conditions),
    ("AWS::ECS::TaskDefinition", "a pair of CPU and memory of Fargate", _task_size),
    ("AWS::ECS::TaskDefinition", "each variable once", _variables),
    ("AWS::ECS::TaskDefinition", "bounds of health checks", _probe),
    ("AWS::ECS::TaskDefinition", "an essential container", _essential),
    ("AWS::ECS::TaskDefinition", "at most 64 KiB", lambda p: len(json.dumps(p)) <= 65_536),
    (
        "AWS::ECS::TaskDefinition",
        "a disk of 21 to 200 GiB",
        lambda p: 21 <= int(p.get("EphemeralStorage", {"SizeInGiB": 21})["SizeInGiB"]) <= 200,
    ),
    ("AWS::ECS::Service", "at most five target groups, and room for a deployment", _service),
    ("AWS::ApplicationAutoScaling::ScalableTarget", "MinCapacity ≤ MaxCapacity", _capacity),
    ("AWS::ApplicationAutoScaling::ScalingPolicy", "one metric with valid names", _tracking),
    ("AWS::Logs::LogGroup", "one of the service's numbers of days", lambda p: int(p["RetentionInDays"]) in _LOG_DAYS),
    ("AWS::DynamoDB::Table", "exactly the attributes of keys are defined", _attributes),
    ("AWS::DynamoDB::Table", "local indexes share the hash key", _local_indexes),
    ("AWS::DynamoDB::Table", "throughput if and only if it is provisioned", _billing),
    ("AWS::DynamoDB::Table", "what expires is no key", _expiry_is_no_key),
    ("AWS::DynamoDB::Table", "a name of 3 to 255 characters", _text("TableName", 3, 255)),
    ("AWS::SQS::Queue", "times in their ranges", _queue),
    ("AWS::S3::Bucket", "at most 100 notifications that do not overlap", _notifications),
    ("AWS::S3::Bucket", "transitions in order, and not too early", _transitions),
    ("AWS::S3::BucketPolicy", "at most 20 kB", _bucket_policy),
    ("AWS::IAM::Role", "at most 10,240 characters, each Sid once", _role_policies),
    ("AWS::EC2::SecurityGroup", "descriptions of valid characters", _descriptions),
    ("AWS::EC2::SecurityGroup", "at most 60 rules, CloudFront's list being 55", _list_and_rules),
    ("AWS::EC2::SecurityGroupIngress", "one source", _one_source),
    ("AWS::SSM::Parameter", "a value", _text("Value", 1, 4096)),
    ("AWS::SecretsManager::Secret", "a short description", lambda p: len(p["Description"]) <= 2048),
    ("AWS::Events::Rule", "at most five targets, a short pattern", _event_rule),
    ("AWS::EC2::VPC", "a network of /16 to /28", lambda p: 16 <= ip_network(p["CidrBlock"]).prefixlen <= 28),
    ("AWS::KinesisVideo::Stream", "0 to 87,600 hours", lambda p: 0 <= int(p["DataRetentionInHours"]) <= 87_600),
    ("AWS::Cognito::UserPoolDomain", "a name of 1 to 63 characters", _text("Domain", 1, 63)),
    ("AWS::Lambda::Function", "at most 15 minutes", lambda p: 1 <= p["Timeout"] <= 900),
    ("AWS::CodeBuild::Project", "5 minutes to 36 hours", lambda p: 5 <= p["TimeoutInMinutes"] <= 2160),
]  # fmt: skip


def _launch() -> Stack:
    return Stack(TEMPLATES / "launch.yaml", {"Source": "https://git.example.com/millrace.git"})


def _tables() -> Stack:
    given = {"Billing": "PROVISIONED", "ColdAfterDays": "30", "ArchiveAfterDays": "90"}
    return Stack(TEMPLATES / "data.yaml", given, name="millrace-data")


@pytest.mark.parametrize("variant", ["launch", "data", "provisioned data", *VARIANTS])
def test_every_resource_keeps_the_rules_of_its_service(variant: str):
    others = {"launch": _launch, "data": data, "provisioned data": _tables}
    stack = others[variant]() if variant in others else deployed(variant)
    broken = [
        f"{name}: {said}"
        for kind, said, check in RULES
        for name, properties in stack.of_type(kind).items()
        if not check(properties)
    ]
    assert broken == []


def test_every_rule_is_asked_of_some_resource():
    stacks = [_launch(), data(), *map(deployed, VARIANTS)]
    assert [kind for kind, _, _ in RULES if not any(stack.of_type(kind) for stack in stacks)] == []


def test_a_wrong_order_of_lifetimes_is_found():
    (policy,) = (p for name, p in deployed("signed").of_type(CLOUDFRONT + "CachePolicy").items() if name == "Playlists")
    wrong = {"CachePolicyConfig": {**policy["CachePolicyConfig"], "MinTTL": 1, "DefaultTTL": 0}}
    assert [said for kind, said, check in RULES if kind.endswith("CachePolicy") and not check(wrong)] == [RULES[0][1]]


# ---- rules between resources ----


@pytest.mark.parametrize("variant", VARIANTS)
def test_priorities_of_a_listener_are_unique(variant: str):
    rules = deployed(variant).of_type(BALANCING + "ListenerRule").values()
    numbers = [(r["ListenerArn"], r["Priority"]) for r in rules]
    assert len(set(numbers)) == len(numbers)


def test_refused_messages_are_kept_as_long_as_the_others():
    for stack in (data(), deployed("everything")):
        queues = stack.of_type("AWS::SQS::Queue")
        for queue in queues.values():
            if "RedrivePolicy" in queue:
                name = queue["RedrivePolicy"]["deadLetterTargetArn"].rpartition(":")[2]
                assert queues[name]["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"]


def test_messages_wait_in_the_queue_during_hours_without_the_database():
    retry = inspect.signature(SqsReader).parameters["retry_seconds"].default
    for stack in (data(), deployed("everything")):
        policies = [q["RedrivePolicy"] for q in stack.of_type("AWS::SQS::Queue").values() if "RedrivePolicy" in q]
        assert policies, "a queue with a second one for refused messages"
        for policy in policies:
            assert policy["maxReceiveCount"] * retry >= 8 * 3600
            assert policy["maxReceiveCount"] <= 1000, "the maximum of SQS"


def test_images_tagged_by_their_content_do_not_expire_with_versions_of_the_gateway():
    """A deployment pushes the image of HAProxy only when its files change, but each version of the gateway."""
    (images,) = data().of_type("AWS::ECR::Repository").values()
    rules = sorted(
        json.loads(images["LifecyclePolicy"]["LifecyclePolicyText"])["rules"], key=lambda r: r["rulePriority"]
    )
    *kept, last = [rule["selection"] for rule in rules]
    # ECR: a rule protects its images from rules of lower priority. "any" must be last.
    assert last["tagStatus"] == "any" and all(selection["tagStatus"] == "tagged" for selection in kept)
    prefixes = re.findall(r'f"([a-z-]*)\{content_version\(', (ROOT / "tools" / "deploy.py").read_text())
    assert prefixes and [prefix for selection in kept for prefix in selection["tagPrefixList"]] == prefixes


@pytest.mark.parametrize("variant", VARIANTS)
def test_subnets_lie_in_the_network_and_do_not_overlap(variant: str):
    (vpc,) = deployed(variant).of_type("AWS::EC2::VPC").values()
    subnets = [ip_network(p["CidrBlock"]) for p in deployed(variant).of_type("AWS::EC2::Subnet").values()]
    assert all(subnet.subnet_of(ip_network(vpc["CidrBlock"])) for subnet in subnets)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(subnets, 2))


def test_every_size_is_one_that_fargate_runs():
    sizes = read(TEMPLATES / "services.yaml")["Mappings"]["Sizes"]
    assert all(_task_size(size) for size in sizes.values())
    default = load(environ={}).vod.memory
    for size in sizes.values():  # as a gateway bounds it itself where the container shows its limit
        assert int(size["FilmMemory"]) == min(default, int(size["Memory"]) * 1024 * 1024 * 3 // 4)
    parameters = read(TEMPLATES / "millrace.yaml")["Parameters"]
    for name in ("GatewaySize", "EdgeSize"):
        assert set(parameters[name]["AllowedValues"]) == sizes.keys()
    assert set(map(int, parameters["LogDays"]["AllowedValues"])) <= _LOG_DAYS


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.yaml")), ids=lambda path: path.name)
def test_templates_keep_the_bounds_of_cloudformation(path: Any):
    template = read(path)
    assert path.stat().st_size <= 1_000_000
    assert len(template["Description"].encode()) <= 1024
    bounds = {"Parameters": 200, "Resources": 500, "Outputs": 200, "Mappings": 200}
    assert all(len(template.get(part, {})) <= most for part, most in bounds.items())
    for part in bounds:
        assert all(re.fullmatch(r"[A-Za-z0-9]{1,255}", name) for name in template.get(part, {}))
    for rule in template["Parameters"].values() if "Parameters" in template else ():
        assert len(rule.get("Description", "")) <= 4000 and len(str(rule.get("Default", ""))) <= 4096


def test_names_of_exports_have_valid_characters():
    assert all(re.fullmatch(r"[A-Za-z0-9:-]{1,255}", name) for name in data().exports)
    assert len(set(data().exports)) == len(data().exports)


def test_every_trust_policy_is_small_enough():
    for variant in VARIANTS:
        for role in deployed(variant).of_type("AWS::IAM::Role").values():
            assert len(json.dumps(role["AssumeRolePolicyDocument"], separators=(",", ":"))) <= 2048
            assert all(listed(s["Action"]) for s in role["AssumeRolePolicyDocument"]["Statement"])
