"""The template for the CloudFormation console: its function and its build, with recorded commands."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.integration.deploy.test_templates import AWS, ROOT, Fakes
from tests.support.cloudformation import Refused, Stack
from tests.support.time_outs import at_most
from tests.support.tools import need

GIVEN = {"Source": "https://git.example.com/millrace.git", "AdminCidr": "203.0.113.7/32", "UserName": "eva"}
STACK = "arn:aws:cloudformation:eu-central-1:123456789012:stack/launch/0a1b"
GIVEN |= {
    "UserPassword": "correct horse; 'quoted' $HOME",
    "Settings": "RtmpFront=nlb; ColdAfterDays=30",
    "Name": "show",
}


def launched(**given: str) -> Stack:
    return Stack(AWS / "launch.yaml", {**GIVEN, **given}, name="launch")


def test_the_template_refuses_a_form_without_required_values():
    (project,) = launched().of_type("AWS::CodeBuild::Project").values()
    assert project["Environment"]["PrivilegedMode"] is True and project["TimeoutInMinutes"] < 60
    secrets = [v["Name"] for v in project["Environment"]["EnvironmentVariables"] if v.get("Type") == "SECRETS_MANAGER"]
    assert secrets == ["USER_PASSWORD"] and "correct horse" not in str(project)
    for given, said in (({"UserPassword": "-"}, "needs UserPassword"), ({"Source": "ftp://x"}, "Source")):
        with pytest.raises(Refused, match=said):
            launched(**given)


# ---- the build ----


def build(fakes: Fakes, action: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Runs the commands of the build in a folder of its own; git gives a copy of this source."""
    (project,) = launched(**given).of_type("AWS::CodeBuild::Project").values()
    variables = {v["Name"]: v["Value"] for v in project["Environment"]["EnvironmentVariables"]}
    variables |= {"USER_PASSWORD": GIVEN["UserPassword"], "ACTION": action, "NAME": GIVEN["Name"]}
    copied = " ".join(str(ROOT / name) for name in ("tools", "deploy", "proxy", "Makefile"))
    clone = f'for last; do :; done; mkdir "$last"; cp -r {copied} "$last"'
    git = f'#!/bin/sh\ncase "$1" in clone) {clone};; *) echo 0a1b2c3;; esac\n'
    path = fakes.folder / "git"
    path.write_text(git)
    path.chmod(0o755)
    (fakes.folder / "answers").write_text(json.dumps(fakes.answers))
    here = fakes.folder / "build"
    here.mkdir()
    (command,) = yaml.safe_load(project["Source"]["BuildSpec"])["phases"]["build"]["commands"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environ = {**clean, **variables, "PATH": f"{fakes.folder}:{os.environ['PATH']}", "FAKES": str(fakes.folder)}
    return subprocess.run(["bash", "-c", command], cwd=here, env={**environ, "AWS_REGION": "eu-central-1"},
                          capture_output=True, text=True, timeout=at_most(60))  # fmt: skip


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    need("bash")
    return Fakes(tmp_path)


def test_the_build_deploys_with_the_parameters_of_the_form(fakes: Fakes):
    done = build(fakes, "up")
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["args"][0] for r in fakes.log if r["program"] == "docker"] == ["info", "login", "build", "push"]
    deployed = fakes.deployed()
    assert deployed["show-data"] == {"ColdAfterDays": "30"}
    expected = {"AdminCidr": "203.0.113.7/32", "InstallDemoConsole": "True", "RtmpFront": "nlb", "UserName": "eva"}
    assert deployed["show"].items() >= {**expected, "Architecture": "X86_64"}.items()
    assert deployed["show"]["UserPassword"] == GIVEN["UserPassword"]
    assert "correct horse" not in done.stdout


def test_named_images_are_not_built(fakes: Fakes):
    images = {"Image": "registry.example.com/millrace@sha256:1", "HaproxyImage": "registry.example.com/front:1"}
    assert build(fakes, "up", Settings="", **images).returncode == 0
    assert not [r for r in fakes.log if r["program"] == "docker"]
    assert fakes.deployed()["show"].items() >= images.items()


def test_deleting_the_stack_deletes_the_services_and_keeps_the_data(fakes: Fakes):
    assert build(fakes, "down").returncode == 0
    assert [r["args"][3] for r in fakes.log if r["args"][1:2] == ["delete-stack"]] == ["show"]


def test_a_build_that_cannot_deploy_fails(fakes: Fakes):
    fakes.answers["aws cloudformation deploy --stack-name show --"] = (255, "", "Failed to create the stack")
    assert build(fakes, "up").returncode != 0


# ---- the function between CloudFormation and the build ----


class Answers(BaseHTTPRequestHandler):
    """An HTTP server that receives the answers to CloudFormation."""

    bodies: list[dict[str, Any]]

    def do_PUT(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


class Aws:
    """The clients of the function: CodeBuild, which may refuse, and CloudFormation."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.problem = ""

    def start_build(self, **call: Any) -> None:
        if self.problem:
            raise RuntimeError(self.problem)
        self.started.append(call)

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        if StackName != "show":
            raise RuntimeError("does not exist")
        return {"Stacks": [{"Outputs": [{"OutputKey": "WebEndpoint", "OutputValue": "https://x:8000"}]}]}


@pytest.fixture
def starter(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Callable[..., Any], Aws, dict[str, Any]]]:
    """The function's handler, its clients, and an event for it."""
    (function,) = launched().of_type("AWS::Lambda::Function").values()
    code: dict[str, Any] = {}
    assert len(function["Code"]["ZipFile"]) <= 4096
    exec(compile(function["Code"]["ZipFile"], "index.py", "exec"), code)
    aws, server = Aws(), HTTPServer(("127.0.0.1", 0), Answers)
    Answers.bodies = []
    monkeypatch.setattr(boto3, "client", lambda name: aws)
    monkeypatch.setenv("PROJECT", "build-1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    event = {"RequestType": "Create", "StackId": STACK, "RequestId": "r1", "LogicalResourceId": "Deployment",
             "ResponseURL": f"http://127.0.0.1:{server.server_port}/x?signature=1",
             "ResourceProperties": {"Name": "show"}}  # fmt: skip
    try:
        yield code["handler"], aws, event
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ended(started: dict[str, Any], status: str) -> dict[str, Any]:
    """The event of the end of a build, with its variables."""
    variables = [{"type": "PLAINTEXT", **v} for v in started["environmentVariablesOverride"]]
    information = {"environment": {"environment-variables": variables}, "logs": {"deep-link": "https://logs"}}
    return {"detail": {"build-status": status, "additional-information": information}}


def given(started: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v["value"] for v in started["environmentVariablesOverride"]}


def test_cloudformation_is_answered_when_the_build_has_ended(starter: Any):
    handler, aws, event = starter
    handler(event, None)
    (started,) = aws.started
    assert started["projectName"] == "build-1"
    assert (given(started)["ACTION"], given(started)["NAME"], Answers.bodies) == ("up", "show", [])
    handler(ended(started, "SUCCEEDED"), None)
    (answer,) = Answers.bodies
    expected = {"Status": "SUCCESS", "PhysicalResourceId": "show", "StackId": STACK, "RequestId": "r1"}
    assert answer.items() >= {**expected, "LogicalResourceId": "Deployment"}.items()
    assert answer["Data"]["WebEndpoint"] == "https://x:8000"
    stack = launched()
    outputs = {name.removeprefix("<Deployment.").removesuffix(">") for name in stack.outputs.values()}
    assert outputs == answer["Data"].keys()


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "STOPPED", "FAULT"])
def test_a_failed_build_makes_the_stack_fail(starter: Any, status: str):
    handler, aws, event = starter
    handler(event, None)
    handler(ended(aws.started[0], status), None)
    assert (Answers.bodies[0]["Status"], "https://logs" in Answers.bodies[0]["Reason"]) == ("FAILED", True)
    (rule,) = launched().of_type("AWS::Events::Rule").values()
    assert status in rule["EventPattern"]["detail"]["build-status"]


def test_a_build_that_does_not_start_is_reported_at_once(starter: Any):
    handler, aws, event = starter
    aws.problem = "no permission"
    handler(event, None)
    assert (Answers.bodies[0]["Status"], Answers.bodies[0]["Reason"]) == ("FAILED", "no permission")


def test_the_stack_of_the_form_must_differ_from_the_deployed_stack(starter: Any):
    handler, aws, event = starter
    handler({**event, "StackId": STACK.replace("launch", "show")}, None)
    assert aws.started == []
    assert (Answers.bodies[0]["Status"], Answers.bodies[0]["Reason"][:16]) == ("FAILED", "Name must differ")


def test_a_deletion_deletes_the_created_stack_without_its_outputs(starter: Any):
    handler, aws, event = starter
    handler({**event, "RequestType": "Delete", "PhysicalResourceId": "earlier"}, None)
    assert (given(aws.started[0])["ACTION"], given(aws.started[0])["NAME"]) == ("down", "earlier")
    handler(ended(aws.started[0], "SUCCEEDED"), None)
    assert (Answers.bodies[0]["Status"], Answers.bodies[0]["PhysicalResourceId"]) == ("SUCCESS", "earlier")
