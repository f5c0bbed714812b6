"""The deployment as programs see it: cfn-lint, `make deploy` with recorded commands, the first user, kustomize."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cloudformation import Stack
from tests.support.gateway import Edge, Gateway, http
from tests.support.time_outs import at_most
from tests.support.tools import need
from tools.deploy import content_version

ROOT = Path(__file__).parents[3]
AWS = ROOT / "deploy" / "aws"
TEMPLATES = sorted(AWS.glob("*.yaml"))


# ---- templates ----


def lint(*arguments: str) -> str:
    program = "import sys; from cfnlint.runner import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=at_most(170)
    )
    return done.stdout + done.stderr


def test_cfn_lint_finds_nothing_in_regions_with_all_services():
    assert lint("--regions", "eu-central-1", "us-east-1", "--", *map(str, TEMPLATES)) == ""


@pytest.mark.nightly
def test_cfn_lint_finds_nothing_in_china():
    # These two are not made there: tests/unit/deploy/test_aws_templates.py.
    templates = [str(path) for path in TEMPLATES if path.name not in ("streams.yaml", "signin.yaml")]
    assert len(templates) == len(TEMPLATES) - 2
    assert lint("--regions", "cn-northwest-1", "--", *templates) == ""


def test_cfn_lint_ignores_only_the_check_for_packaged_templates():
    for path in TEMPLATES:
        ignored = yaml.safe_load(path.read_text().split("\nParameters:")[0]).get("Metadata", {}).get("cfn-lint")
        assert ignored == ({"config": {"ignore_checks": ["W3002"]}} if path.name == "millrace.yaml" else None)


# ---- the console's first user ----


def first_user() -> list[str]:
    """Returns the command of the container that creates the first user."""
    data = Stack(AWS / "data.yaml", name="millrace-data")
    given = {"DataStack": "millrace-data", "Image": "x", "UserName": "eva", "UserPassword": "correct horse"}
    given |= {"HaproxyImage": "x"}
    stack = Stack(AWS / "millrace.yaml", given, exports=data.exports)
    task = stack.of_type("AWS::ECS::TaskDefinition")["Gateway"]
    (container,) = (c for c in task["ContainerDefinitions"] if c["Name"] == "first-user")
    return [*container["EntryPoint"], *container["Command"]]


def test_the_first_user_is_made_once_and_keeps_a_later_password(tmp_path: Path):
    programs = Path(sys.executable).parent
    environ = {"PATH": f"{programs}:{os.environ['PATH']}", "MILLRACE_DATA": str(tmp_path), "HOME": str(tmp_path)}

    def start(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(first_user(), env={**environ, "NAME": name, "PASSWORD": "correct horse"},
                              capture_output=True, text=True, timeout=at_most(60))  # fmt: skip

    def users() -> list[dict[str, Any]]:
        told = subprocess.run([programs / "millrace", "user", "list", "--json"], env=environ, capture_output=True)
        found: list[dict[str, Any]] = json.loads(told.stdout)
        return found

    assert start("eva").returncode == 0
    before = users()
    assert [user["name"] for user in before] == ["eva"]
    assert start("eva").returncode == 0
    assert users() == before
    assert start("ev").returncode == 0  # another, although the other's name begins so
    assert [user["name"] for user in users()] == ["ev", "eva"]


# ---- behind load balancers ----


def test_behind_a_load_balancer_with_tls_its_ports_are_shown(tmp_path: Path):
    gateway = Gateway(tmp_path, MILLRACE_TLS__IN_FRONT="true", MILLRACE_ADMIN__FORWARDED_FROM="127.0.0.0/8")
    try:
        gateway.wait_ready()
        assert gateway.ports["rtmps"] is None  # of the process itself
        channel = gateway.channel(isRtmps=True)
        assert channel.item["obsServer"].endswith(":1938/stream")
        assert ":8444/stream/" in channel.item["wsUrl"]
        ports = http("GET", f"http://127.0.0.1:{gateway.ports['http']}/broadcast.json").json()
        assert (ports["ws"], ports["wss"]) == (gateway.ports["ws"], 8444)
    finally:
        gateway.stop()


def test_behind_the_ingress_of_kubernetes_pages_push_to_their_own_host(tmp_path: Path):
    """Edges serve the page. The host of the gateway and the push domain have no TLS there."""
    told = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "kustomization.yaml").read_text())
    (generator,) = told["configMapGenerator"]
    given = dict(literal.split("=", 1) for literal in generator["literals"])
    given["MILLRACE_CLUSTER__SECRET"] = "a secret of the cluster"
    for name in ("gateway", "edge"):
        (tmp_path / name).mkdir()
    gateway = Gateway(tmp_path / "gateway", **given)
    edge = None
    try:
        gateway.wait_ready()
        edge = Edge(tmp_path / "edge", **given, MILLRACE_EDGE__UPSTREAM=f"127.0.0.1:{gateway.ports['http']}")
        edge.wait_ready()
        for domain in ("", "push.example.com"):
            gateway.api("PUT", "/domains", {"pushDNS": domain})
            for node in (gateway, edge):
                ports = http("GET", f"http://127.0.0.1:{node.ports['http']}/broadcast.json").json()
                assert (ports["host"], ports["wss"]) == ("", 443)
        channel = gateway.channel(isRtmps=True)
        assert channel.item["obsServer"].startswith("rtmp://"), "nothing ends RTMPS"
    finally:
        for one in (edge, gateway):
            if one is not None:
                one.stop()


# ---- make deploy ----

# Replaces aws and docker: records its arguments and gives their answers.
FAKE = """#!{python}
import json, os, sys
folder = os.environ["FAKES"]
name, args = os.path.basename(sys.argv[0]), sys.argv[1:]
record = {{"program": name, "args": args}}
if "--password-stdin" in args:
    record["stdin"] = sys.stdin.read()
if "--parameter-overrides" in args:
    path = args[args.index("--parameter-overrides") + 1].removeprefix("file://")
    record["parameters"] = {{p["ParameterKey"]: p["ParameterValue"] for p in json.load(open(path))}}
    record["mode"] = oct(os.stat(path).st_mode & 0o777)
with open(f"{{folder}}/log", "a") as log:
    log.write(json.dumps(record) + "\\n")
answers = json.load(open(f"{{folder}}/answers"))
said = " ".join([name, *args])
for start, (code, out, error) in answers.items():
    if said.startswith(start) and not os.path.exists(f"{{folder}}/used " + start.replace("/", "_")):
        if start.endswith(" "):  # once
            open(f"{{folder}}/used " + start.replace("/", "_"), "w")
        sys.stdout.write(out)
        sys.stderr.write(error)
        sys.exit(code)
"""


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Fakes:
    """aws and docker that only write down what they are asked.

    answers: by the beginning of the command line, which ends in a blank where the answer is given once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, tuple[int, str, str]] = {}
        for name in ("aws", "docker"):
            path = folder / name
            _program(path, FAKE.format(python=sys.executable))
        # The python3 of this machine may put its own programs before these.
        _program(folder / "python3", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        kept = {
            "ImageRepository": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/images",
            "TemplatesBucket": "templates",
            "MediaBucket": "media",
            "AdminTokenArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:AdminToken-AbCdEf",
        }
        self.say("aws sts get-caller-identity", {"Account": "123456789012"})
        self.stack("show-data", "CREATE_COMPLETE", kept)
        self.stack("show", "CREATE_COMPLETE", {"LiveVideoPushStreamURL": "push.example.com"})
        self.answers["aws ecr describe-images "] = (
            254,
            "",
            "An error occurred (ImageNotFoundException): no such image",
        )
        self.say("aws ecr describe-images", {"imageDetails": [{"imageDigest": "sha256:0a1b"}]})
        self.answers["aws ecr get-login-password"] = (0, "the password", "")
        self.say("aws ec2 describe-managed-prefix-lists", {"PrefixLists": [{"PrefixListId": "pl-0a1b"}]})

    def say(self, command: str, answer: Any) -> None:
        self.answers[command] = (0, json.dumps(answer), "")

    def stack(self, name: str, status: str, outputs: dict[str, str], **parameters: str) -> None:
        told = [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]
        kept = [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()]
        command = f"aws cloudformation describe-stacks --stack-name {name} --"
        self.say(command, {"Stacks": [{"StackStatus": status, "Outputs": told, "Parameters": kept}]})

    def make(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "answers").write_text(json.dumps(self.answers))
        clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=ROOT,
            env={
                **clean,
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "FAKES": str(self.folder),
                "AWS_REGION": "eu-central-1",
                # Where nobody listens, in case that a real one is found.
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_EC2_METADATA_DISABLED": "true",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=at_most(60),
        )

    @property
    def log(self) -> list[dict[str, Any]]:
        path = self.folder / "log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def deployed(self) -> dict[str, dict[str, str]]:
        return {
            r["args"][r["args"].index("--stack-name") + 1]: r.get("parameters", {})
            for r in self.log
            if r["args"][:2] == ["cloudformation", "deploy"]
        }


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    need("make", "git")
    return Fakes(tmp_path)


def test_deploying_builds_pushes_and_deploys_both_stacks_and_prints_the_outputs(fakes: Fakes):
    done = fakes.make("deploy", "STACK=show")
    assert (done.returncode, done.stderr) == (0, "")
    assert "LiveVideoPushStreamURL" in done.stdout and "push.example.com" in done.stdout
    verbs = [" ".join([r["program"], *r["args"][:2]]) for r in fakes.log]
    order = [
        "aws sts get-caller-identity",
        "aws cloudformation deploy",
        "aws ecr get-login-password",
        "docker login --username",
        "docker build --platform",
        "docker push",
        "aws cloudformation package",
        "aws cloudformation deploy",
    ]
    at = -1
    for verb in order:
        at = next(i for i, v in enumerate(verbs) if i > at and v.startswith(verb))
    deployed = fakes.deployed()
    assert list(deployed) == ["show-data", "show"]
    assert deployed["show"]["DataStack"] == "show-data"
    assert deployed["show"]["Image"].endswith("/images@sha256:0a1b")
    assert deployed["show"]["PlaybackFrom"] == "pl-0a1b"


@pytest.mark.parametrize(("kept", "deployed"), [("pl-0a1b", ""), ("pl-5c6d", None), ("", None)])
def test_without_cloudfront_playback_is_not_kept_to_its_addresses(
    kept: str, deployed: str | None, fakes: Fakes, tmp_path: Path
):
    fakes.stack("show", "UPDATE_COMPLETE", {}, Cdn="True", PlaybackFrom=kept)
    (tmp_path / "parameters").write_text("Cdn=False\n")
    assert fakes.make("deploy", "STACK=show", f"PARAMETERS={tmp_path / 'parameters'}").returncode == 0
    assert fakes.deployed()["show"].get("PlaybackFrom") == deployed


def test_an_image_that_is_there_is_not_built_again(fakes: Fakes):
    del fakes.answers["aws ecr describe-images "]
    assert fakes.make("deploy", "STACK=show").returncode == 0
    assert not [r for r in fakes.log if r["program"] == "docker"]


def test_parameters_come_from_a_file_and_secrets_are_not_in_command_lines(fakes: Fakes, tmp_path: Path):
    (tmp_path / "playback.pem").write_text("-----BEGIN PUBLIC KEY-----\nMIIB=\n-----END PUBLIC KEY-----\n")
    file = tmp_path / "parameters"
    file.write_text(
        "# ours\nUserName=eva\nUserPassword = correct=horse\nPlaybackPublicKey=@playback.pem\nColdAfterDays=30\n"
    )
    done = fakes.make("deploy", "STACK=show", f"PARAMETERS={file}")
    assert (done.returncode, done.stderr) == (0, "")
    deployed = fakes.deployed()
    assert deployed["show-data"] == {"ColdAfterDays": "30"}
    assert deployed["show"]["UserPassword"] == "correct=horse"
    assert deployed["show"]["PlaybackPublicKey"].endswith("-----END PUBLIC KEY-----\n")
    assert not [r for r in fakes.log if "horse" in str(r["args"])]
    assert {r["mode"] for r in fakes.log if "mode" in r} == {"0o600"}


def test_haproxys_image_is_built_unless_the_load_balancer_is_the_front(fakes: Fakes, tmp_path: Path):
    (tmp_path / "parameters").write_text("RtmpFront=nlb\n")
    assert fakes.make("deploy", "STACK=show", f"PARAMETERS={tmp_path / 'parameters'}").returncode == 0
    assert "HaproxyImage" not in fakes.deployed()["show"]


def test_haproxys_image_has_a_version_of_its_own(fakes: Fakes, tmp_path: Path):
    """Else each new version of the gateways would replace HAProxy, which ends all pushes."""
    del fakes.answers["aws ecr describe-images "]
    (tmp_path / "parameters").write_text("Architecture=ARM64\n")
    assert fakes.make("deploy", "STACK=show", f"PARAMETERS={tmp_path / 'parameters'}").returncode == 0
    tags = [a for r in fakes.log for a in r["args"] if a.startswith("imageTag=")]
    digest = content_version(ROOT / "proxy" / "haproxy")
    assert len(tags) == 2 and tags[1] == f"imageTag=haproxy-{digest}-arm64" and tags[0].endswith("-arm64")
    folder = tmp_path / "haproxy"
    shutil.copytree(ROOT / "proxy" / "haproxy", folder)
    assert content_version(folder) == digest
    (folder / "README.md").write_text("other words")
    assert content_version(folder) == digest
    with (folder / "haproxy.cfg").open("a") as file:
        file.write("# another\n")
    assert content_version(folder) != digest
    assert fakes.deployed()["show"]["HaproxyImage"].endswith("@sha256:0a1b")


def test_a_file_of_variables_is_uploaded_once_under_a_hash_of_its_text(fakes: Fakes, tmp_path: Path):
    (tmp_path / "extra.env").write_text("MILLRACE_HTTP__FLUSH_MS=20\n")
    file = tmp_path / "parameters"
    file.write_text("EnvironmentFile=@extra.env\n")
    assert fakes.make("deploy", "STACK=show", f"PARAMETERS={file}").returncode == 0
    arn = fakes.deployed()["show"]["EnvironmentFile"]
    assert re.fullmatch(r"arn:aws:s3:::templates/variables-[0-9a-f]{16}\.env", arn)
    (copy,) = (r["args"] for r in fakes.log if r["args"][:2] == ["s3", "cp"])
    assert copy[-1] == arn.replace("arn:aws:s3:::", "s3://")
    file.write_text(f"EnvironmentFile={arn}\n")
    assert fakes.make("deploy", "STACK=show", f"PARAMETERS={file}").returncode == 0
    assert fakes.deployed()["show"]["EnvironmentFile"] == arn
    assert len([r for r in fakes.log if r["args"][:2] == ["s3", "cp"]]) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("GatewaySizes=large", "no such parameter GatewaySizes; did you mean GatewaySize?"),
        ("DataStack=other", "no such parameter DataStack"),
        ("just words", "expected Name=value"),
        ("PlaybackPublicKey=@nowhere.pem", "cannot be read"),
    ],
)
def test_a_wrong_line_among_the_parameters_is_named_before_anything_is_done(
    fakes: Fakes, tmp_path: Path, line: str, said: str
):
    (tmp_path / "parameters").write_text(f"\n{line}\n")
    done = fakes.make("deploy", f"PARAMETERS={tmp_path / 'parameters'}")
    assert done.returncode != 0
    assert f"parameters:2: {said}" in done.stderr or ("parameters:2:" in done.stderr and said in done.stderr)
    assert "Traceback" not in done.stderr and fakes.log == []


@pytest.mark.parametrize(("missing", "advice"), [("aws", "aws.amazon.com/cli"), ("docker", "docs.docker.com")])
def test_a_missing_program_gives_an_error_with_its_download_address(
    fakes: Fakes, tmp_path: Path, missing: str, advice: str
):
    (fakes.folder / missing).unlink()
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "bash", "sh", "env", "git", "expr", "getconf", "grep", "sed", "expand"):
        if path := shutil.which(name):
            (tools / name).symlink_to(path)
    done = fakes.make("deploy", "STACK=show", PATH=f"{fakes.folder}:{tools}")
    assert f"deploy: {missing} is not there" in done.stderr and advice in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_credentials_give_a_one_line_error(fakes: Fakes):
    fakes.answers["aws sts get-caller-identity"] = (253, "", "\nUnable to locate credentials.\n")
    done = fakes.make("deploy")
    assert "deploy: aws sts get-caller-identity: Unable to locate credentials." in done.stderr
    assert [r["args"][0] for r in fakes.log] == ["sts"]


def test_a_failed_stack_is_reported_with_the_reason_of_its_nested_stacks(fakes: Fakes):
    nested = "arn:aws:cloudformation:eu-central-1:123456789012:stack/show-Services/1"
    fakes.answers["aws cloudformation deploy --stack-name show --"] = (255, "", "Failed to create the stack")
    own = {
        "ResourceStatus": "CREATE_FAILED",
        "ResourceType": "AWS::CloudFormation::Stack",
        "LogicalResourceId": "Services",
        "PhysicalResourceId": nested,
        "StackId": "show",
        "ResourceStatusReason": "Embedded stack was not created",
    }
    deep = {
        "ResourceStatus": "CREATE_FAILED",
        "ResourceType": "AWS::ECS::Service",
        "LogicalResourceId": "Gateways",
        "PhysicalResourceId": "",
        "StackId": nested,
        "ResourceStatusReason": "Unable to assume the service linked role",
    }
    fakes.say("aws cloudformation describe-stack-events --stack-name show --", {"StackEvents": [own]})
    fakes.say(f"aws cloudformation describe-stack-events --stack-name {nested}", {"StackEvents": [deep]})
    done = fakes.make("deploy", "STACK=show")
    assert done.returncode != 0
    assert "stack show failed" in done.stderr
    assert "Gateways: Unable to assume the service linked role" in done.stderr


def test_a_deployment_deletes_the_remains_of_a_failed_first_one(fakes: Fakes):
    fakes.stack("show", "ROLLBACK_COMPLETE", {})
    assert fakes.make("deploy", "STACK=show").returncode == 0
    deleted = [r["args"] for r in fakes.log if r["args"][:2] == ["cloudformation", "delete-stack"]]
    assert deleted == [["cloudformation", "delete-stack", "--stack-name", "show"]]


def test_undeploying_asks_first_and_deletes_nothing_without_an_answer(fakes: Fakes):
    done = fakes.make("undeploy", "STACK=show")
    assert done.returncode != 0 and "YES=1" in done.stderr
    assert not [r for r in fakes.log if "delete-stack" in r["args"]]


def test_undeploying_keeps_the_data_stack(fakes: Fakes):
    done = fakes.make("undeploy", "STACK=show", "YES=1")
    assert done.returncode == 0
    assert [r["args"][3] for r in fakes.log if r["args"][1:2] == ["delete-stack"]] == ["show"]
    assert "kept in stack show-data: channels, media" in done.stdout


def test_undeploying_with_the_data_never_empties_a_bucket(fakes: Fakes):
    done = fakes.make("undeploy", "STACK=show", "YES=1", "DATA=delete")
    assert done.returncode == 0
    assert [r["args"][3] for r in fakes.log if r["args"][1:2] == ["delete-stack"]] == ["show", "show-data"]
    assert not [r for r in fakes.log if r["args"][0] in ("s3", "s3api")]
    assert "aws s3 rb --force s3://media" in done.stdout
