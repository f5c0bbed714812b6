"""Puts Millrace up on AWS, and takes it down: `make deploy` and `make undeploy`; docs/deploy-aws.md explains them.

Needs the AWS command line and docker, and nothing of this repository's own environment. Of the templates in deploy/aws
two stacks are made: STACK-data, which keeps channels, media, secrets and images, and STACK, which runs.

    python3 tools/deploy.py up                     also: --stack NAME --parameters FILE
    python3 tools/deploy.py down                   removes what runs, after a question (--yes: without)
    python3 tools/deploy.py down --data delete     and what is kept, but the media
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "deploy" / "aws"
# Set here, and not by a file of parameters.
OWN = ("DataStack",)
PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}
EDGE_LOCATIONS = "com.amazonaws.global.cloudfront.origin-facing"
INSTALL = {
    "aws": "install the AWS command line, https://aws.amazon.com/cli/",
    "docker": "install docker, https://docs.docker.com/engine/install/",
}


class DeployError(Exception):
    """What somebody has to put right, in one line."""


# ---- programs ----


def run(*command: str, input: str | None = None, quiet: bool = True) -> str:
    """What a program prints; DeployError with its own last words where it fails. quiet False: people see its output."""
    try:
        done = subprocess.run(command, input=input, text=True, stdout=subprocess.PIPE if quiet else None,
                              stderr=subprocess.PIPE if quiet else None)  # fmt: skip
    except FileNotFoundError:
        raise DeployError(f"{command[0]} is not there: {INSTALL[command[0]]}") from None
    if done.returncode:
        said = " ".join((done.stderr or "").split())[-400:] or f"exit code {done.returncode}"
        raise DeployError(f"{' '.join(command[:3])}: {said}")
    return done.stdout or ""


def aws(*arguments: str) -> object:
    """The JSON answer of the AWS command line; None where it says nothing."""
    answer = run("aws", *arguments, "--output", "json")
    return json.loads(answer) if answer.strip() else None


# ---- parameters ----


def declared(template: Path) -> dict[str, str]:
    """The parameters of a template with their defaults, "" without one; of our own templates, by their indentation."""
    section = re.search(r"^Parameters:\n(.*?)(?=^\S)", template.read_text(), re.M | re.S)
    assert section, f"{template} has no parameters"
    found = {}
    for name, body in re.findall(r"^  (\w+):\n((?:    .*\n|\n)+)", section[1], re.M):
        default = re.search(r"^    Default: (.*)$", body, re.M)
        found[name] = default[1].strip("\"'") if default else ""
    return found


def read_parameters(file: Path, known: Sequence[str]) -> dict[str, str]:
    """`Name=value` lines; `Name=@file` takes the text of a file beside this one. DeployError otherwise."""
    given: dict[str, str] = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        where = f"{file}:{number}"
        if not equals:
            raise DeployError(f"{where}: expected Name=value")
        if name not in known or name in OWN:
            close = difflib.get_close_matches(name, known, 1)
            raise DeployError(f"{where}: no such parameter {name}{f'; did you mean {close[0]}?' if close else ''}")
        if value.startswith("@"):
            path = file.parent / value[1:]
            try:
                value = path.read_text()
            except OSError as error:
                raise DeployError(f"{where}: {path} cannot be read: {error.strerror}") from None
        given[name] = value
    return given


# ---- stacks ----


@dataclass(frozen=True)
class Account:
    """Where everything goes."""

    id: str
    region: str

    @property
    def china(self) -> bool:
        return self.region.startswith("cn-")


def account() -> Account:
    """Asks AWS, which also shows that there are credentials. DeployError without a region."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        try:
            region = run("aws", "configure", "get", "region").strip()
        except DeployError as error:
            if "is not there" in str(error):
                raise
    if not region:
        raise DeployError("no region: set AWS_REGION, such as AWS_REGION=eu-central-1")
    os.environ["AWS_REGION"] = os.environ["AWS_DEFAULT_REGION"] = region
    identity = aws("sts", "get-caller-identity")
    assert isinstance(identity, dict)
    return Account(str(identity["Account"]), region)


@dataclass(frozen=True)
class Stack:
    """As CloudFormation has it; status "" where there is none."""

    status: str
    parameters: dict[str, str]
    outputs: dict[str, str]


def describe(stack: str) -> Stack:
    try:
        answer = aws("cloudformation", "describe-stacks", "--stack-name", stack)
    except DeployError as error:
        if "does not exist" in str(error):
            return Stack("", {}, {})
        raise
    assert isinstance(answer, dict)
    told = answer["Stacks"][0]
    return Stack(
        told["StackStatus"],
        {p["ParameterKey"]: p["ParameterValue"] for p in told.get("Parameters", ())},
        {o["OutputKey"]: o["OutputValue"] for o in told.get("Outputs", ())},
    )


def deploy_stack(stack: str, template: Path, parameters: Mapping[str, str], *more: str) -> None:
    """Creates or updates a stack and waits. Parameters that are not given stay as they are; some are secret: a file."""
    if describe(stack).status == "ROLLBACK_COMPLETE":  # nothing is left of it but its name
        delete_stack(stack)
    with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="parameters-") as file:
        json.dump([{"ParameterKey": k, "ParameterValue": v} for k, v in sorted(parameters.items())], file)
        file.flush()
        overrides = ("--parameter-overrides", f"file://{file.name}") if parameters else ()
        try:
            run("aws", "cloudformation", "deploy", "--stack-name", stack, "--template-file", str(template),
                "--no-fail-on-empty-changeset", *overrides, *more, quiet=False)  # fmt: skip
        except DeployError:
            raise DeployError("\n".join([f"stack {stack} failed", *failures(stack)])) from None


def delete_stack(stack: str) -> None:
    """Deletes a stack and waits."""
    run("aws", "cloudformation", "delete-stack", "--stack-name", stack)
    try:
        run("aws", "cloudformation", "wait", "stack-delete-complete", "--stack-name", stack)
    except DeployError:
        raise DeployError("\n".join([f"stack {stack} is not deleted", *failures(stack)])) from None


def failures(stack: str) -> list[str]:
    """Why a stack failed, as its events say, the nested stacks' own before those that only tell of them."""
    found, waiting, seen = list[str](), [stack], set[str]()
    while waiting and len(seen) < 10:
        name = waiting.pop(0)
        seen.add(name)
        try:
            answer = aws("cloudformation", "describe-stack-events", "--stack-name", name, "--max-items", "200")
        except DeployError as error:
            return [*found, str(error)]
        assert isinstance(answer, dict)
        for event in reversed(answer["StackEvents"]):
            reason = str(event.get("ResourceStatusReason", ""))
            if not str(event.get("ResourceStatus", "")).endswith("_FAILED") or "cancelled" in reason:
                continue
            nested = str(event.get("PhysicalResourceId", ""))
            if event["ResourceType"] == "AWS::CloudFormation::Stack" and nested not in (*seen, *waiting, name, ""):
                if nested != event.get("StackId"):
                    waiting.append(nested)
            elif event["ResourceType"] != "AWS::CloudFormation::Stack":
                found.append(f"  {event['LogicalResourceId']}: {reason}")
    return found[:8]


# ---- images ----


def version() -> str:
    """Of what is built: the commit, with the time where something is changed besides it."""
    try:
        said = run("git", "-C", str(ROOT), "describe", "--always", "--dirty").strip()
    except (DeployError, KeyError):
        said = "unversioned-dirty"
    return f"{said}-{int(time.time())}" if said.endswith("-dirty") else said


def content_version(folder: Path) -> str:
    """Of the files of a folder. Replacing HAProxy ends the pushes through it, so its image changes only with them."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file() and path.suffix != ".md"):
        digest.update(f"{file.name}\n{file.stat().st_size}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def image(repository: str, tag: str, platform: str, context: Path) -> str:
    """Builds and pushes an image that is not there yet; its name with the digest, so that it is always this one."""
    name = repository.partition("/")[2]
    find = ("ecr", "describe-images", "--repository-name", name, "--image-ids", f"imageTag={tag}")
    try:
        found = aws(*find)
    except DeployError as error:
        if "ImageNotFound" not in str(error):
            raise
        run("docker", "info")
        password = run("aws", "ecr", "get-login-password")
        run("docker", "login", "--username", "AWS", "--password-stdin", repository.partition("/")[0], input=password)
        run("docker", "build", "--platform", platform, "--tag", f"{repository}:{tag}", str(context), quiet=False)
        run("docker", "push", f"{repository}:{tag}", quiet=False)
        found = aws(*find)
    assert isinstance(found, dict)
    return f"{repository}@{found['imageDetails'][0]['imageDigest']}"


# ---- up and down ----


def up(stack: str, file: Path | None) -> None:
    data_known, main_known = declared(TEMPLATES / "data.yaml"), declared(TEMPLATES / "millrace.yaml")
    given = read_parameters(file, [*data_known, *main_known]) if file else {}
    where, data = account(), f"{stack}-data"
    say(f"account {where.id}, region {where.region}: stacks {data} and {stack}")
    deploy_stack(data, TEMPLATES / "data.yaml", {k: v for k, v in given.items() if k in data_known})
    kept = describe(data).outputs
    parameters = {k: v for k, v in given.items() if k in main_known} | {"DataStack": data}
    known = main_known | describe(stack).parameters | parameters
    platform, tag = PLATFORMS[known["Architecture"]], f"{version()}-{known['Architecture'].lower()}"
    if not given.get("Image"):
        parameters["Image"] = image(kept["ImageRepository"], tag, platform, ROOT)
    if known["RtmpFront"] == "haproxy" and not given.get("HaproxyImage"):
        folder = ROOT / "proxy" / "haproxy"
        haproxy_tag = f"haproxy-{content_version(folder)}-{known['Architecture'].lower()}"
        parameters["HaproxyImage"] = image(kept["ImageRepository"], haproxy_tag, platform, folder)
    variables = given.get("EnvironmentFile", "")
    if variables and not variables.startswith("arn:"):
        parameters["EnvironmentFile"] = store_variables(variables, kept["TemplatesBucket"], where)
    if "PlaybackFrom" not in given and not where.china:
        if known["Cdn"] == "True":
            parameters["PlaybackFrom"] = edge_locations()
        elif known["PlaybackFrom"] and known["PlaybackFrom"] == edge_locations():
            parameters["PlaybackFrom"] = ""  # kept from a deployment with CloudFront, it would let no viewer in
    with tempfile.TemporaryDirectory() as folder_:
        packaged = Path(folder_) / "millrace.yaml"
        run("aws", "cloudformation", "package", "--template-file", str(TEMPLATES / "millrace.yaml"),
            "--s3-bucket", kept["TemplatesBucket"], "--s3-prefix", "templates",
            "--output-template-file", str(packaged))  # fmt: skip
        deploy_stack(stack, packaged, parameters, "--capabilities", "CAPABILITY_IAM")
    for name, value in describe(stack).outputs.items():
        say(f"{name:<26}{value}")
    say("the admin token: aws secretsmanager get-secret-value --query SecretString --output text "
        f"--secret-id {kept['AdminTokenArn']}")  # fmt: skip


def store_variables(text: str, bucket: str, where: Account) -> str:
    """Stores the text of an environment file; its ARN. Its name follows from the text, so that tasks take a change."""
    key = f"variables-{hashlib.sha256(text.encode()).hexdigest()[:16]}.env"
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        file.write(text)
        file.flush()
        run("aws", "s3", "cp", "--only-show-errors", file.name, f"s3://{bucket}/{key}")
    return f"arn:{'aws-cn' if where.china else 'aws'}:s3:::{bucket}/{key}"


def edge_locations() -> str:
    """The prefix list of CloudFront's addresses; "" where the region has none, and playback stays open to everybody."""
    answer = aws("ec2", "describe-managed-prefix-lists", "--filters", f"Name=prefix-list-name,Values={EDGE_LOCATIONS}")
    assert isinstance(answer, dict)
    lists = answer["PrefixLists"]
    if not lists:
        say("this region has no prefix list of CloudFront: the playback load balancer is open to everybody")
    return str(lists[0]["PrefixListId"]) if lists else ""


def down(stack: str, data: str, sure: bool) -> None:
    where, kept = account(), describe(f"{stack}-data").outputs
    what = f"stack {stack}" + (f" and stack {stack}-data: channels, secrets and images" if data == "delete" else "")
    if not sure:
        if not sys.stdin.isatty():
            raise DeployError("there is no terminal to ask on: say YES=1 (--yes)")
        answer = input(f"delete {what} in {where.region} of account {where.id}? Type the stack's name: ")
        if answer.strip() != stack:
            raise DeployError("nothing was deleted")
    for name in [stack, f"{stack}-data"][: 2 if data == "delete" else 1]:
        delete_stack(name)
        say(f"stack {name} is deleted")
    if data != "delete" and kept:
        say(f"kept in stack {stack}-data: channels, media, secrets, images (`make undeploy DATA=delete` deletes these)")
    elif kept:
        for name in ("MediaBucket", "TemplatesBucket"):
            say(f"kept, because nobody empties it but you: aws s3 rb --force s3://{kept[name]}")
        say("the tables left backups, which DynamoDB keeps for 35 days")


def say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deploy", description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--stack", default=os.environ.get("STACK") or "millrace")
    what = parser.add_subparsers(dest="what", required=True)
    to_up = what.add_parser("up", help="build, push, deploy, print the outputs")
    to_up.add_argument("--parameters", type=Path, default=os.environ.get("PARAMETERS") or None)
    to_down = what.add_parser("down", help="delete what runs")
    to_down.add_argument("--data", choices=("keep", "delete"), default=os.environ.get("DATA") or "keep")
    to_down.add_argument("--yes", action="store_true", default=os.environ.get("YES") == "1")
    given = parser.parse_args(arguments)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,100}", given.stack):
        parser.error(f"{given.stack} is no name of a stack: letters, digits and -")
    try:
        if given.what == "up":
            if given.parameters and not given.parameters.is_file():
                raise DeployError(f"{given.parameters} is no file of parameters")
            up(given.stack, given.parameters)
        else:
            down(given.stack, given.data, given.yes)
    except DeployError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
