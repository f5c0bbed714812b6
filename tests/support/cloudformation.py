"""Evaluates CloudFormation templates without AWS: parameters, conditions, rules, nested stacks and imports."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

REGIONS = {"aws": "eu-central-1", "aws-cn": "cn-northwest-1"}
ACCOUNT = "123456789012"
NOTHING = object()  # AWS::NoValue


# Typical values of resources whose form matters: the value of `Ref` (None) or of an attribute.
_FAKES = {
    ("AWS::IAM::Role", "Arn"): "arn:{partition}:iam::{account}:role/{id}",
    ("AWS::SecretsManager::Secret", None): "arn:{partition}:secretsmanager:{region}:{account}:secret:{id}-AbCdEf",
    ("AWS::SQS::Queue", None): "https://sqs.{region}.amazonaws.com/{account}/{id}",
    ("AWS::SQS::Queue", "Arn"): "arn:{partition}:sqs:{region}:{account}:{id}",
    ("AWS::S3::Bucket", None): "bucket-{lower}",
    ("AWS::S3::Bucket", "Arn"): "arn:{partition}:s3:::bucket-{lower}",
    ("AWS::EC2::SecurityGroup", None): "sg-0{hex}",
    ("AWS::EC2::Subnet", None): "subnet-0{hex}",
    ("AWS::KinesisVideo::Stream", "Arn"): "arn:{partition}:kinesisvideo:{region}:{account}:stream/{id}/1600000000000",
    ("AWS::ElasticLoadBalancingV2::LoadBalancer", "DNSName"): "{lower}-1.elb.{region}.amazonaws.com",
    ("AWS::CloudFront::PublicKey", None): "K{hex}",
    ("AWS::CloudFront::Distribution", "DomainName"): "d1.cloudfront.net",
    ("AWS::Cognito::UserPool", "ProviderURL"): "https://cognito-idp.{region}.amazonaws.com/{region}_{hex}",
    ("AWS::Cognito::UserPoolClient", None): "{lower}",
    ("AWS::ECR::Repository", "Arn"): "arn:{partition}:ecr:{region}:{account}:repository/{lower}",
}


class _Loader(yaml.SafeLoader):
    """Loads YAML and expands the short forms of functions."""


def _short(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short)
# Dates are text to CloudFormation ("2012-10-17").
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@cache
def read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), _Loader)


class Refused(Exception):
    """A rule or a parameter constraint is violated."""


class Stack:
    """An evaluated template. Values known only to AWS have a typical form or `<logical id>`.

    resources, outputs: those whose condition is true. nested: the nested stacks by logical id.
    """

    def __init__(
        self,
        path: Path,
        parameters: Mapping[str, Any] | None = None,
        *,
        exports: Mapping[str, str] | None = None,
        partition: str = "aws",
        name: str = "millrace",
    ) -> None:
        self.template = read(path)
        self._path = path
        self._partition = partition
        self._name = name
        self.exports = dict(exports or {})
        self.imported: set[str] = set()
        self._parameters = self._given(dict(parameters or {}))
        self._conditions = self.template.get("Conditions", {})
        self._rules()
        present = {k: v for k, v in self.template["Resources"].items() if self._holds(v.get("Condition"))}
        self.nested: dict[str, Stack] = {}
        self._sources = present
        self.resources = {k: {**v, "Properties": self._resolve(v.get("Properties", {}))} for k, v in present.items()}
        for logical, source in present.items():
            if source["Type"] == "AWS::CloudFormation::Stack":
                self._child(logical)
        self.outputs: dict[str, Any] = {}
        for key, output in self.template.get("Outputs", {}).items():
            if self._holds(output.get("Condition")):
                self.outputs[key] = self._resolve(output["Value"])
                if "Export" in output:
                    self.exports[self._resolve(output["Export"]["Name"])] = str(self.outputs[key])

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Properties of resources by logical id, from this stack and its nested ones."""
        found = {k: v["Properties"] for k, v in self.resources.items() if v["Type"] == kind}
        for child in self.nested.values():
            found |= child.of_type(kind)
        return found

    def all(self) -> Iterator["Stack"]:
        yield self
        for child in self.nested.values():
            yield from child.all()

    # ---- details ----

    def _child(self, logical: str) -> "Stack":
        if logical not in self.nested:
            properties = self._sources[logical]["Properties"]
            given = {k: self._resolve(v) for k, v in properties["Parameters"].items()}
            path = self._path.parent / properties["TemplateURL"]
            name = f"{self._name}-{logical}-ABC"
            self.nested[logical] = Stack(path, given, exports=self.exports, partition=self._partition, name=name)
            self.imported |= self.nested[logical].imported
        return self.nested[logical]

    def _given(self, given: dict[str, Any]) -> dict[str, Any]:
        declared = self.template.get("Parameters", {})
        assert given.keys() <= declared.keys(), f"{self._path.name}: no parameter {given.keys() - declared.keys()}"
        values = {}
        for name, rule in declared.items():
            assert name in given or "Default" in rule, f"{self._path.name}: {name} is not given"
            value = given.get(name, rule.get("Default"))
            text = str(value)
            if "AllowedValues" in rule and text not in map(str, rule["AllowedValues"]):
                raise Refused(f"{name}: {text}")
            if "AllowedPattern" in rule and not re.fullmatch(rule["AllowedPattern"], text):
                raise Refused(f"{name}: {text}")
            if rule["Type"] == "Number" and not rule.get("MinValue", 0) <= int(text) <= rule.get("MaxValue", 10**9):
                raise Refused(f"{name}: {text}")
            listed = rule["Type"] == "CommaDelimitedList" or rule["Type"].startswith("List<")
            values[name] = text.split(",") if listed else text
        return values

    def _rules(self) -> None:
        for name, rule in self.template.get("Rules", {}).items():
            if self._true(rule["RuleCondition"]):
                for assertion in rule["Assertions"]:
                    if not self._true(assertion["Assert"]):
                        raise Refused(f"{name}: {assertion['AssertDescription']}")

    def _holds(self, condition: str | None) -> bool:
        return condition is None or self._true(self._conditions[condition])

    def _true(self, test: dict[str, Any]) -> bool:
        ((kind, value),) = test.items()
        match kind:
            case "Condition":
                return self._holds(value)
            case "Fn::Equals":
                left, right = (str(self._resolve(v)) for v in value)
                return left == right
            case "Fn::Not":
                return not self._true(value[0])
            case "Fn::And":
                assert 2 <= len(value) <= 10
                return all(self._true(v) for v in value)
            case "Fn::Or":
                assert 2 <= len(value) <= 10
                return any(self._true(v) for v in value)
        raise AssertionError(f"{kind} is no condition")

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, list):
            return [r for r in map(self._resolve, value) if r is not NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((kind, inner),) = value.items()
            if kind == "Ref":
                return self._ref(inner)
            if kind.startswith("Fn::"):
                return getattr(self, f"_{kind[4:].lower()}")(inner)
        return {k: r for k, v in value.items() if (r := self._resolve(v)) is not NOTHING}

    def _ref(self, name: str) -> Any:
        if name in self._parameters:
            return self._parameters[name]
        pseudo: dict[str, Any] = {
            "AWS::NoValue": NOTHING,
            "AWS::Partition": self._partition,
            "AWS::Region": REGIONS[self._partition],
            "AWS::AccountId": ACCOUNT,
            "AWS::StackName": self._name,
            "AWS::StackId": f"arn:aws:cloudformation:eu-central-1:{ACCOUNT}:stack/{self._name}/0a1b2c3d-0000",
            "AWS::URLSuffix": "amazonaws.com" + (".cn" if self._partition == "aws-cn" else ""),
        }
        if name in pseudo:
            return pseudo[name]
        return self._made(name, None)

    def _made(self, logical: str, attribute: str | None) -> str:
        """The value of a resource's Ref or attribute."""
        self._there(logical)
        resource = self.template["Resources"][logical]
        if resource["Type"] == "AWS::DynamoDB::Table" and attribute is None:
            return str(self._resolve(resource["Properties"]["TableName"]))
        words = {"partition": self._partition, "region": REGIONS[self._partition], "account": ACCOUNT}
        form = _FAKES.get((resource["Type"], attribute), f"<{logical}{'.' + attribute if attribute else ''}>")
        return form.format(id=logical, lower=logical.lower(), hex=logical.encode().hex()[:16], **words)

    def _there(self, logical: str) -> None:
        resource = self.template["Resources"].get(logical)
        assert resource is not None, f"{self._path.name}: nothing is called {logical}"
        assert self._holds(resource.get("Condition")), f"{self._path.name}: {logical} is not made, and used"

    def _getatt(self, path: list[str]) -> Any:
        logical, attribute = path
        self._there(logical)
        if self.template["Resources"][logical]["Type"] == "AWS::CloudFormation::Stack":
            outputs, name = self._child(logical).outputs, attribute.removeprefix("Outputs.")
            assert name in outputs, f"{self._path.name}: {logical} has no output {name} now"
            return outputs[name]
        return self._made(logical, attribute)

    def _sub(self, given: Any) -> str:
        text, own = given if isinstance(given, list) else (given, {})
        own = {k: self._resolve(v) for k, v in own.items()}

        def put(match: re.Match[str]) -> str:
            name = match[1]
            if name in own:
                return str(own[name])
            return str(self._getatt(name.split(".", 1)) if "." in name else self._ref(name))

        return re.sub(r"\$\{([^!}]+)\}", put, text)

    def _if(self, given: list[Any]) -> Any:
        condition, then, otherwise = given
        return self._resolve(then if self._holds(condition) else otherwise)

    def _join(self, given: list[Any]) -> str:
        return given[0].join(map(str, self._resolve(given[1])))

    def _select(self, given: list[Any]) -> Any:
        return self._resolve(given[1])[int(given[0])]

    def _split(self, given: list[Any]) -> list[str]:
        return str(self._resolve(given[1])).split(given[0])

    def _findinmap(self, given: list[Any]) -> Any:
        name, first, second = map(self._resolve, given)
        return self.template["Mappings"][name][first][second]

    def _importvalue(self, name: Any) -> str:
        wanted = self._resolve(name)
        assert wanted in self.exports, f"{self._path.name}: nobody exports {wanted}"
        self.imported.add(wanted)
        return self.exports[wanted]

    def _getazs(self, _: Any) -> list[str]:
        return [f"{REGIONS[self._partition]}{zone}" for zone in "abc"]

    def _cidr(self, given: list[Any]) -> list[str]:
        block, count, bits = map(self._resolve, given)
        networks = ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits))
        return [str(next(networks)) for _ in range(int(count))]
