"""Evaluates the CloudFormation templates: options exist, ports match, and permissions are minimal."""

import asyncio
import io
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gateway.api.routes import ROUTES
from gateway.lib import log
from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.nodes import Node, NodeRole
from gateway.processes.master import LATE_SECONDS
from gateway.reports.free_capacity import FreeCapacity, FreeProcessor, HostCapacity
from gateway.settings import Settings, load
from gateway.settings.layers import OPTIONS, is_secret, variable
from tests.support.cloudformation import Refused, Stack

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "deploy" / "aws"
PEM = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----\n"
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/0a1b"
NAMED = {"CNAME": "live.example.com", "PushDomain": "push.example.com", "ConsoleDomain": "console.example.com"}

VARIANTS: dict[str, dict[str, str]] = {
    "defaults": {"HaproxyImage": "haproxy"},
    "named": {
        **NAMED,
        "Certificate": CERTIFICATE,
        "CdnCertificate": CERTIFICATE.replace("eu-central-1", "us-east-1"),
        "HostedZone": "Z0123456789",
        "InstallDemoConsole": "True",
        "AdminCidr": "203.0.113.0/24",
        "UserName": "eva",
        "UserPassword": "correct horse",
        "HaproxyImage": "haproxy",
        "Nat": "each",
        "InstallCognito": "True",
        "CognitoUser": "eva@example.com",
        "AvailabilityZones": "eu-central-1b,eu-central-1c",
    },
    "sign-up": {
        **NAMED,
        "Certificate": CERTIFICATE,
        "CdnCertificate": CERTIFICATE.replace("eu-central-1", "us-east-1"),
        "HostedZone": "Z0123456789",
        "HaproxyImage": "haproxy",
        "InstallDemoConsole": "True",
        "InstallCognito": "True",
        "SignUp": "True",
        "SignUpMost": "7",
        "PlaybackFrom": "pl-0123456789abcdef0",
    },
    "signed": {
        "PlaybackAuth": "cloudfront",
        "PlaybackPublicKey": PEM,
        "PlaybackPrivateKey": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:playback-AbCdEf",
        "OriginShieldRegion": "eu-central-1",
        "HaproxyImage": "haproxy",
    },
    "second key": {"SecondPlaybackPublicKey": PEM, "CheckReferer": "False", "RtmpFront": "nlb"},
    "no distribution": {
        "Cdn": "False",
        **NAMED,
        "Certificate": CERTIFICATE,
        "HostedZone": "Z0123456789",
        "Nat": "one",
        "RtmpFront": "nlb",
    },
    "bare": {"Cdn": "False", "RtmpFront": "nlb"},
    "everything": {
        "RtmpFront": "nlb",
        "PlaybackPublicKey": PEM,
        "PlaybackPrivateKey": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:playback-AbCdEf",
        "OidcIssuer": "https://login.example.com",
        "OidcClientId": "millrace",
        "OidcClientSecret": "of the provider",
        "OidcAllow": "eva@example.com, operators",
        "HookUrl": "https://hooks.example.com/millrace",
        "HookSecret": "a secret of the hooks",
        "EgressAllow": "10.1.0.0/16, relay.lan",
        "CompatibleTargets": "*.example.com",
        "RetentionDays": "90",
        "KvsPrefix": "films/",
        "EnvironmentFile": "arn:aws:s3:::templates/variables-0a1b.env",
        "InstallIvsChannel": "True",
        "InstallKvsStream": "True",
        "Workers": "ecs",
        "ServerTable": "True",
        "WebRtc": "True",
        "UserName": "eva",
        "UserPassword": "correct horse",
        "PlaybackFrom": "pl-0123456789abcdef0",
        "SetDomains": "False",
        "Architecture": "ARM64",
    },
    "China": {
        "CNAME": "live.example.cn",
        "CdnCertificate": "ASCAEXAMPLE",
        "InstallIvsChannel": "True",
        "InstallKvsStream": "True",
        "RtmpFront": "nlb",
    },
}


@cache
def data() -> Stack:
    return Stack(TEMPLATES / "data.yaml", name="millrace-data")


@cache
def deployed(variant: str = "everything") -> Stack:
    given = {"DataStack": "millrace-data", "Image": "millrace@sha256:0", **VARIANTS[variant]}
    partition = "aws-cn" if variant == "China" else "aws"
    kept = Stack(TEMPLATES / "data.yaml", name="millrace-data", partition=partition)
    return Stack(TEMPLATES / "millrace.yaml", given, exports=kept.exports, partition=partition)


variants = pytest.mark.parametrize("variant", VARIANTS)


def containers(stack: Stack) -> dict[str, dict[str, Any]]:
    return {c["Name"]: c for t in stack.of_type("AWS::ECS::TaskDefinition").values() for c in t["ContainerDefinitions"]}


def settings_of(container: Mapping[str, Any]) -> Settings:
    """The settings that the program in a container reads from its environment variables."""
    given = {e["Name"]: e["Value"] for e in container.get("Environment", ())}
    given |= {s["Name"]: "a-secret-of-the-stack" for s in container.get("Secrets", ())}
    return load(profile="container", environ={k: v for k, v in given.items() if k.startswith("MILLRACE_")})


# ---- what runs understands what it is told ----


@variants
def test_the_variables_of_every_container_are_a_valid_configuration(variant: str):
    ours = {k: v for k, v in containers(deployed(variant)).items() if k != "haproxy"}
    assert {"gateway", "edge", "worker"} <= set(ours)
    for container in ours.values():
        settings_of(container)


@variants
def test_secrets_come_from_the_secret_store_and_never_as_values(variant: str):
    for container in containers(deployed(variant)).values():
        for secret in container.get("Secrets", ()):
            assert re.fullmatch(r"arn:aws[a-z-]*:secretsmanager:[^*]+", secret["ValueFrom"])
        for entry in container.get("Environment", ()):
            option = next((name for name in OPTIONS if variable(name) == entry["Name"]), "")
            assert not option or not is_secret(option) or re.match(r"\Z|secretsmanager:arn:", entry["Value"])


def test_all_nodes_share_stores_registry_and_secrets():
    told = {name: settings_of(containers(deployed())[name]) for name in ("gateway", "edge", "worker")}
    for name in ("channels", "registry", "cluster", "playback"):
        assert len({repr(getattr(settings, name)) for settings in told.values()}) == 1, name
    assert len({settings.cloudfront.origin_secret.get_secret_value() for settings in told.values()}) == 1
    assert len({settings.signing.secret.get_secret_value() for settings in told.values()}) == 1
    assert all(settings.admin.token.get_secret_value() for settings in told.values())  # else each prints one of its own


@variants
def test_the_stop_timeout_of_a_container_is_longer_than_its_drain_time(variant: str):
    for name, container in containers(deployed(variant)).items():
        if name not in ("haproxy", "first-user"):
            serve = settings_of(container).serve
            assert serve.drain < container["StopTimeout"] <= 120  # Fargate's most
            # The process that started the others ends those that are late.
            assert serve.workers == 1 or serve.drain + LATE_SECONDS <= container["StopTimeout"], name
        if name == "haproxy":
            (drain,) = (int(e["Value"][:-1]) for e in container["Environment"] if e["Name"] == "FRONT_DRAIN")
            assert drain < container["StopTimeout"] <= 120


def test_the_haproxy_configuration_reads_all_its_variables():
    text = (ROOT / "proxy" / "haproxy" / "haproxy.cfg").read_text()
    for entry in containers(deployed("named"))["haproxy"]["Environment"]:
        assert re.search(rf"\b{entry['Name']}\b", text)


@variants
def test_containers_can_write_only_to_their_volume(variant: str):
    for name, container in containers(deployed(variant)).items():
        assert container["ReadonlyRootFilesystem"] is True
        if name != "haproxy":
            (mount,) = container["MountPoints"]
            assert mount["ContainerPath"] == str(settings_of(container).data)
            assert {"Name": "TMPDIR", "Value": mount["ContainerPath"]} in container["Environment"]


# ---- ports ----


def test_gateways_open_the_documented_ports():
    container = containers(deployed())["gateway"]
    settings = settings_of(container)
    ports = {m["ContainerPort"] for m in container["PortMappings"] if m.get("Protocol") != "udp"}
    assert ports == {settings.rtmp.port, settings.http.port, settings.ws.port, settings.admin.port}
    assert {"ContainerPort": settings.srt.port, "Protocol": "udp"} in container["PortMappings"]
    assert {settings.rtmp.port, settings.http.port, settings.ws.port, settings.admin.port} == {1935, 8080, 8081, 8000}


def test_load_balancers_open_the_documented_ports():
    settings = settings_of(containers(deployed("named"))["gateway"])
    listeners = deployed("named").of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    found = {p["Port"]: p["Protocol"] for p in listeners}
    assert found == {
        settings.rtmp.port: "TCP",
        settings.rtmps.port: "TLS",
        settings.ws.port: "TCP",
        settings.srt.port: "UDP",
        settings.wss.port: "TLS",
        80: "HTTP",
        443: "HTTPS",
        settings.admin.port: "HTTPS",
    }
    assert settings.tls.in_front


def test_without_a_certificate_no_listener_uses_tls():
    listeners = deployed("bare").of_type("AWS::ElasticLoadBalancingV2::Listener").values()
    assert {p["Port"] for p in listeners} == {1935, 8890, 8081, 80, 8000}
    assert not any("Certificates" in p for p in listeners)
    assert not settings_of(containers(deployed("bare"))["gateway"]).tls.in_front


def test_load_balancers_use_the_readiness_route_for_health_checks():
    groups = deployed().of_type("AWS::ElasticLoadBalancingV2::TargetGroup")
    assert {name: p["HealthCheckPath"] for name, p in groups.items()} == {
        "Rtmp": "/ready",
        "Srt": "/ready",
        "WebPush": "/ready",
        "Edges": "/ready",
        "Whip": "/ready",
        "Admin": "/healthcheck",  # answers 503 in words while a store is away
    }


@variants
def test_services_use_target_groups_with_the_port_of_their_container(variant: str):
    stack = deployed(variant)
    groups = {f"<{k}>": p["Port"] for k, p in stack.of_type("AWS::ElasticLoadBalancingV2::TargetGroup").items()}
    used = [b for s in stack.of_type("AWS::ECS::Service").values() for b in s["LoadBalancers"]]
    assert sorted(b["TargetGroupArn"] for b in used) == sorted(groups)  # each once
    for balancer in used:
        assert balancer["ContainerPort"] == groups[balancer["TargetGroupArn"]]
        assert balancer["ContainerPort"] in {
            m["ContainerPort"] for m in containers(stack)[balancer["ContainerName"]]["PortMappings"]
        }


def test_gateways_expect_proxy_headers_only_behind_haproxy():
    by_haproxy = settings_of(containers(deployed("defaults"))["gateway"]).rtmp.proxy_from
    assert [str(network) for network in by_haproxy] == ["10.40.0.0/16"]
    assert settings_of(containers(deployed("bare"))["gateway"]).rtmp.proxy_from == ()


def test_haproxy_is_deployed_unless_the_load_balancer_is_chosen():
    services = deployed("defaults").of_type("AWS::ECS::Service")
    assert services["HaproxyService"]["DesiredCount"] == 2  # one in each zone
    assert "HaproxyService" not in deployed("bare").of_type("AWS::ECS::Service")


def test_api_and_console_are_closed_unless_a_network_is_given():
    def admin(variant: str) -> list[Any]:
        rules = deployed(variant).of_type("AWS::EC2::SecurityGroupIngress").values()
        return [p.get("CidrIp") for p in rules if p["FromPort"] <= 8000 <= p["ToPort"]]

    assert admin("defaults") == []
    assert admin("named") == ["203.0.113.0/24"]
    for group in deployed("defaults").of_type("AWS::EC2::SecurityGroup").values():
        for rule in group.get("SecurityGroupIngress", ()):
            assert "CidrIp" not in rule or rule["FromPort"] in (1935, 1938, 8081, 8444, 8890)


def webrtc_rules(variant: str) -> dict[str, tuple[int, int]]:
    """The publicly open WebRTC ports of tasks, by protocol."""
    rules = deployed(variant).of_type("AWS::EC2::SecurityGroupIngress").values()
    return {r["IpProtocol"]: (r["FromPort"], r["ToPort"]) for r in rules if r["FromPort"] == 8189}


def test_webrtc_ports_are_open_for_every_process_if_webrtc_is_enabled():
    assert webrtc_rules("named") == {}
    stack = deployed("everything")
    most = max(int(t["Cpu"]) for t in stack.of_type("AWS::ECS::TaskDefinition").values())
    assert most <= 4096
    for name in ("gateway", "edge"):
        settings = settings_of(containers(stack)[name])
        first = settings.webrtc.port
        assert webrtc_rules("everything") == dict.fromkeys(("udp", "tcp"), (first, first + 3)), "four processors"
        assert settings.webrtc.advertise == ("https://checkip.amazonaws.com",)
        assert settings_of(containers(deployed("named"))[name]).webrtc.advertise == ()


def test_cloudfront_and_load_balancer_route_whip_and_whep_requests():
    def behaviours(variant: str) -> dict[str, list[str]]:
        found = deployed(variant).of_type("AWS::CloudFront::Distribution")["Distribution"]
        every = found["DistributionConfig"]["CacheBehaviors"]
        return {b["PathPattern"]: b["AllowedMethods"] for b in every if "/wh" in b["PathPattern"]}

    assert behaviours("named") == {}
    assert behaviours("everything").keys() == {"*/whep", "*/whep/*", "*/whip", "*/whip/*"}
    assert all({"POST", "PATCH", "DELETE"} <= set(methods) for methods in behaviours("everything").values())
    rules = deployed("everything").of_type("AWS::ElasticLoadBalancingV2::ListenerRule")
    (paths,) = (c["PathPatternConfig"]["Values"] for c in rules["WhipPush"]["Conditions"])
    assert paths == ["/whip", "/*/whip", "/*/whip/*"]
    assert not any("Whip" in name for name in deployed("named").of_type("AWS::ElasticLoadBalancingV2::ListenerRule"))


# ---- settings by parameters ----


def test_parameters_become_settings_of_the_gateway():
    settings = settings_of(containers(deployed("everything"))["gateway"])
    oidc = settings.oidc
    assert (oidc.issuer, oidc.client_id, oidc.claim) == ("https://login.example.com", "millrace", "email")
    assert oidc.allow == ("eva@example.com", "operators")
    assert settings.hooks.url == "https://hooks.example.com/millrace"
    assert settings.egress.allow == ("10.1.0.0/16", "relay.lan")
    assert settings.ws.compatible == ("*.example.com",)
    assert settings.recording.retention_days == 90
    secrets = {s["Name"] for s in containers(deployed("everything"))["gateway"]["Secrets"]}
    assert {"MILLRACE_OIDC__CLIENT_SECRET", "MILLRACE_HOOKS__SECRET"} <= secrets
    plain = {s["Name"] for s in containers(deployed("defaults"))["gateway"]["Secrets"]}
    assert not {"MILLRACE_OIDC__CLIENT_SECRET", "MILLRACE_HOOKS__SECRET"} & plain


def test_operators_of_the_cognito_pool_may_sign_in():
    stack = deployed("named")
    oidc = settings_of(containers(stack)["gateway"]).oidc
    assert oidc.issuer.startswith("https://cognito-idp.eu-central-1.amazonaws.com/")
    assert (oidc.claim, oidc.allow) == ("cognito:groups", ("operators",))
    (client,) = stack.of_type("AWS::Cognito::UserPoolClient").values()
    assert client["CallbackURLs"] == ["https://console.example.com:8000/oidc/callback"]
    (pool,) = stack.of_type("AWS::Cognito::UserPool").values()
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is True
    (group,) = stack.of_type("AWS::Cognito::UserPoolGroup").values()
    assert group["GroupName"] in oidc.allow
    assert not deployed("defaults").of_type("AWS::Cognito::UserPool")


def test_with_sign_up_users_reach_the_console_through_cloudfront():
    stack = deployed("sign-up")
    (pool,) = stack.of_type("AWS::Cognito::UserPool").values()
    assert pool["AdminCreateUserConfig"]["AllowAdminCreateUserOnly"] is False
    settings = settings_of(containers(stack)["gateway"])
    assert (settings.oidc.allow, settings.oidc.broadcasters, settings.oidc.sign_up) == (("operators",), ("*",), 7)
    closed = settings_of(containers(deployed("named"))["gateway"])
    assert (closed.oidc.broadcasters, closed.oidc.sign_up) == ((), 0)
    (client,) = stack.of_type("AWS::Cognito::UserPoolClient").values()
    assert client["CallbackURLs"] == ["https://console.example.com/oidc/callback"]
    assert stack.outputs["LiveVideoConsoleURL"] == "https://console.example.com/"
    assert "https://console.example.com" in settings.ws.origins, "pages that may push"
    config = stack.of_type("AWS::CloudFront::Distribution")["Console"]["DistributionConfig"]
    assert config["Aliases"] == ["console.example.com"]
    (origin,) = config["Origins"]
    assert origin["CustomOriginConfig"]["HTTPSPort"] == settings.admin.port
    assert set(config["DefaultCacheBehavior"]["AllowedMethods"]) >= {route.method for route in ROUTES}
    assert "Console" not in deployed("named").of_type("AWS::CloudFront::Distribution")


def test_with_sign_up_only_cloudfront_can_connect_to_the_console():
    stack = deployed("sign-up")
    (rule,) = stack.of_type("AWS::EC2::SecurityGroup")["ConsoleSide"]["SecurityGroupIngress"]
    assert (rule["FromPort"], rule["ToPort"], rule["SourcePrefixListId"]) == (8000, 8000, "pl-0123456789abcdef0")
    assert "CidrIp" not in rule
    groups = stack.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer")["Play"]["SecurityGroups"]
    assert len(groups) == 2
    assert len(deployed("named").of_type("AWS::ElasticLoadBalancingV2::LoadBalancer")["Play"]["SecurityGroups"]) == 1
    alias = stack.of_type("AWS::Route53::RecordSet")["ConsoleAlias"]["AliasTarget"]
    assert alias == {"DNSName": "d1.cloudfront.net", "HostedZoneId": "Z2FDTNDATAQYW2"}


def test_ecs_may_read_the_file_of_additional_variables():
    file = "arn:aws:s3:::templates/variables-0a1b.env"
    for name in ("gateway", "edge", "worker"):
        assert containers(deployed("everything"))[name]["EnvironmentFiles"] == [{"Type": "s3", "Value": file}]
        assert "EnvironmentFiles" not in containers(deployed("defaults"))[name]
    granted = dict(allowed("ExecutionRole"))
    assert granted["s3:GetObject"] == file and granted["s3:GetBucketLocation"] == "arn:aws:s3:::templates"


def test_events_of_new_objects_with_the_prefix_reach_the_gateways_queue():
    stack = deployed("everything")
    kvs = settings_of(containers(stack)["gateway"]).kvs
    (stream,) = stack.of_type("AWS::KinesisVideo::Stream").values()
    assert (stream["Name"], stream["DataRetentionInHours"]) == ("ffmpeg-streaming", "24")
    assert kvs.queue.endswith("/Objects") and kvs.prefix == "films/" and kvs.stream
    detail = stack.of_type("AWS::Events::Rule")["NewObjects"]["EventPattern"]["detail"]
    assert detail["object"]["key"] == [{"prefix": kvs.prefix}]
    (media, _) = data().of_type("AWS::S3::Bucket").values()
    assert media["NotificationConfiguration"]["EventBridgeConfiguration"] == {"EventBridgeEnabled": True}
    assert detail["bucket"]["name"] == [data().outputs["MediaBucket"]]
    (policy,) = (p for p in stack.of_type("AWS::SQS::QueuePolicy").values() if p["Queues"] == [kvs.queue])
    assert policy["PolicyDocument"]["Statement"][0]["Principal"] == {"Service": "events.amazonaws.com"}
    readable = {r for a, r in allowed("GatewayRole") if a == "sqs:ReceiveMessage"}
    assert any(resource.endswith(":Objects") for resource in readable)
    assert settings_of(containers(deployed("defaults"))["gateway"]).kvs.queue == ""


def test_gateway_and_account_users_may_assume_the_kinesis_role():
    stack = deployed("everything")
    role = stack.outputs["KvsRoleArn"]
    assert role == settings_of(containers(stack)["gateway"]).kvs.role
    (statement,) = stack.of_type("AWS::IAM::Role")["KvsRole"]["AssumeRolePolicyDocument"]["Statement"]
    gateway = "arn:aws:iam::123456789012:role/GatewayRole"
    assert statement["Principal"] == {"AWS": [gateway, "arn:aws:iam::123456789012:root"]}
    assert {action for action, _ in allowed("KvsRole")} == {"kinesisvideo:PutMedia"}
    assert "KvsRoleArn" not in deployed("China").outputs


def test_the_gateway_gets_the_private_key_and_the_id_of_its_public_key():
    cloudfront = settings_of(containers(deployed("signed"))["gateway"]).cloudfront
    assert cloudfront.key_pair_id == deployed("signed").outputs["KeyPairId"]
    key = VARIANTS["signed"]["PlaybackPrivateKey"]
    assert cloudfront.private_key.get_secret_value() == f"secretsmanager:{key}"
    assert key in {r for a, r in allowed("GatewayRole") if a == "secretsmanager:GetSecretValue"}
    assert "MILLRACE_CLOUDFRONT__PRIVATE_KEY" not in {
        e["Name"] for e in containers(deployed("signed"))["edge"]["Environment"]
    }


# ---- names that people know from the original ----


@variants
def test_the_stack_has_the_outputs_of_the_original_system(variant: str):
    outputs = deployed(variant).outputs
    assert {"LiveVideoPushStreamURL", "LiveVideoPullStreamURL", "WebEndpoint"} <= outputs.keys()
    assert ("LiveVideoPullStreamAlias" in outputs) is ("CNAME" in VARIANTS[variant])
    assert ("LiveVideoConsoleURL" in outputs) is ("InstallDemoConsole" in VARIANTS[variant])


def test_outputs_contain_the_hosts_for_players_and_encoders():
    assert deployed("defaults").outputs["LiveVideoPullStreamURL"] == "d1.cloudfront.net"
    outputs = deployed("named").outputs
    assert outputs["LiveVideoPushStreamURL"] == "push.example.com"
    assert outputs["LiveVideoPullStreamAlias"] == "live.example.com"
    assert outputs["LiveVideoConsoleURL"] == "https://console.example.com:8000/"
    assert outputs["WebEndpoint"] == "https://console.example.com:8000"


def test_parameters_of_the_original_system_keep_their_defaults():
    parameters = deployed("defaults").template["Parameters"]
    assert parameters["InstallDemoConsole"]["Default"] == "False"
    assert parameters["CNAME"]["Default"] == "www.example.cn"
    assert {"UserName", "UserPassword"} <= parameters.keys()
    assert parameters["UserPassword"]["NoEcho"] is True


def test_every_parameter_is_in_a_group_and_used():
    for stack in deployed("everything").all():
        body = {k: v for k, v in stack.template.items() if k not in ("Parameters", "Metadata")}
        used = set(re.findall(r"'Ref': '(\w+)'", str(body))) | set(re.findall(r"\$\{(\w+)\}", str(body)))
        assert stack.template.get("Parameters", {}).keys() <= used
    template = deployed("everything").template
    grouped = [
        p for g in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"] for p in g["Parameters"]
    ]
    assert sorted(grouped) == sorted(template["Parameters"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PlaybackAuth": "cloudfront"}, "needs PlaybackPublicKey"),
        ({"Cdn": "False", "PlaybackPublicKey": PEM}, "needs Cdn True"),
        ({"CNAME": "live.example.com"}, "needs CdnCertificate"),
        ({"HaproxyImage": ""}, "needs HaproxyImage"),
        ({"InstallCognito": "True"}, "needs Certificate"),
        ({"InstallCognito": "True", "Certificate": CERTIFICATE, "OidcIssuer": "https://x.example"}, "has to be empty"),
        ({"OidcIssuer": "https://x.example", "OidcAllow": "*"}, "needs OidcClientId"),
        ({"OidcIssuer": "https://x.example", "OidcClientId": "x"}, "needs OidcAllow"),
        ({"CognitoUser": "eva@example.com"}, "needs InstallCognito"),
        ({"PlaybackPrivateKey": "arn:aws:secretsmanager:eu-central-1:1:secret:x"}, "needs PlaybackPublicKey"),
        ({"EnvironmentFile": "variables.env"}, "EnvironmentFile"),
        ({"HookUrl": "hooks.example.com"}, "HookUrl"),
        ({"UserName": "eva"}, "needs UserPassword"),
        ({"InstallDemoConsole": "True"}, "needs AdminCidr"),
        ({"SignUp": "True"}, "SignUp needs InstallCognito"),
        (
            {"SignUp": "True", "InstallCognito": "True", "InstallDemoConsole": "True", "Certificate": CERTIFICATE},
            "SignUp needs Cdn True, ConsoleDomain",
        ),
        ({"ServerTable": "True", "Nat": "one"}, "needs Nat none"),
        ({"WebRtc": "True", "Nat": "one"}, "WebRtc needs Nat none"),
        ({"AdminCidr": "everybody"}, "AdminCidr"),
        ({"UserName": "eva; rm"}, "UserName"),
        ({"GatewaySize": "huge"}, "GatewaySize"),
    ],
)
def test_invalid_combinations_of_parameters_are_refused(given: dict[str, str], said: str):
    with pytest.raises(Refused, match=said):
        Stack(
            TEMPLATES / "millrace.yaml",
            {"DataStack": "millrace-data", "Image": "x", "HaproxyImage": "x", **given},
            exports=data().exports,
        )


# ---- the China partition ----


def test_the_china_stack_uses_no_services_missing_in_china():
    stack = deployed("China")
    assert "Streams" not in stack.nested
    text = str([s.resources for s in stack.all()]) + str(data_in_china().resources)
    assert not re.search(r"arn:aws:|ivs:|kinesisvideo:", text)
    (distribution,) = stack.of_type("AWS::CloudFront::Distribution").values()
    config = distribution["DistributionConfig"]
    assert config["ViewerCertificate"]["IamCertificateId"] == "ASCAEXAMPLE"
    assert config["HttpVersion"] == "http2" and config["IPV6Enabled"] is False


def data_in_china() -> Stack:
    return Stack(TEMPLATES / "data.yaml", partition="aws-cn")


def test_no_template_contains_a_fixed_partition_or_domain_suffix():
    for path in TEMPLATES.glob("*.yaml"):
        text = re.sub(r"com\.amazonaws\.\$\{AWS::Region\}|[a-z0-9-]+\.amazonaws\.com\b", "", path.read_text())
        # A pattern of a parameter may know the partitions; so may a service's own name in a trust.
        text = "\n".join(line for line in text.splitlines() if "AllowedPattern" not in line)
        assert not re.search(r"arn:aws[:a-z-]|amazonaws\.com", text), path.name


# ---- the distribution ----


def behaviors(variant: str) -> dict[str, dict[str, Any]]:
    properties = deployed(variant).of_type("AWS::CloudFront::Distribution")["Distribution"]
    config = properties["DistributionConfig"]
    return {"*": config["DefaultCacheBehavior"], **{b["PathPattern"]: b for b in config["CacheBehaviors"]}}


def origins(variant: str) -> dict[str, dict[str, Any]]:
    properties = deployed(variant).of_type("AWS::CloudFront::Distribution")["Distribution"]
    return {o["Id"]: o for o in properties["DistributionConfig"]["Origins"]}


def cache_key(variant: str, pattern: str) -> dict[str, Any]:
    policies = deployed(variant).of_type("AWS::CloudFront::CachePolicy")
    policy = policies[behaviors(variant)[pattern]["CachePolicyId"].strip("<>")]
    key: dict[str, Any] = policy["CachePolicyConfig"]["ParametersInCacheKeyAndForwardedToOrigin"]
    return key


@pytest.mark.parametrize("pattern", ["*.m3u8", "*.mpd", "*"])
def test_the_cache_key_has_the_referer_but_no_cloudfront_signature(pattern: str):
    key = cache_key("signed", pattern)
    assert not {"Expires", "Policy", "Signature", "Key-Pair-Id"} & set(key["QueryStringsConfig"]["QueryStrings"])
    assert key["HeadersConfig"]["Headers"] == ["Referer", "Origin"]
    assert cache_key("second key", pattern)["HeadersConfig"] == {"HeaderBehavior": "none"}


def test_flv_is_not_cached_and_all_its_headers_are_forwarded():
    behavior = behaviors("signed")["*/live.flv"]
    policy = deployed("signed").of_type("AWS::CloudFront::CachePolicy")[behavior["CachePolicyId"].strip("<>")]
    assert policy["CachePolicyConfig"]["MaxTTL"] == 0
    request = deployed("signed").of_type("AWS::CloudFront::OriginRequestPolicy")
    everything = request[behavior["OriginRequestPolicyId"].strip("<>")]["OriginRequestPolicyConfig"]
    assert everything["HeadersConfig"]["HeaderBehavior"] == "allViewer"


def test_cloudfront_sends_the_origin_secret_only_after_checking_signatures():
    for variant in ("signed", "second key"):
        for behavior in behaviors(variant).values():
            told = "OriginCustomHeaders" in origins(variant)[behavior["TargetOriginId"]]
            assert told is ("TrustedKeyGroups" in behavior)
    assert not any("OriginCustomHeaders" in origin for origin in origins("defaults").values())
    (header,) = origins("signed")["media"]["OriginCustomHeaders"]
    assert header["HeaderName"].lower() == "x-millrace-origin"
    assert re.fullmatch(r"\{\{resolve:secretsmanager:arn:aws:secretsmanager:\S+\}\}", header["HeaderValue"])
    protected = {pattern for pattern, b in behaviors("signed").items() if "TrustedKeyGroups" in b}
    assert {"*", "*.m3u8", "*.mpd", "*/live.flv", "*/report"} == protected


def test_cloudfront_does_not_cache_errors():
    properties = deployed().of_type("AWS::CloudFront::Distribution")["Distribution"]
    responses = properties["DistributionConfig"]["CustomErrorResponses"]
    assert {r["ErrorCode"] for r in responses} >= {403, 404, 502, 503, 504}
    assert {r["ErrorCachingMinTTL"] for r in responses} == {0}


# ---- what is kept ----


def test_tables_have_the_expected_names_keys_and_expiry():
    tables = {p["TableName"]: p for p in data().of_type("AWS::DynamoDB::Table").values()}
    keys = {name: [k["AttributeName"] for k in p["KeySchema"]] for name, p in tables.items()}
    assert keys == {
        "video-metadata": ["id"],
        "video-streaming": ["UUID"],
        "video-jobs": ["id"],
        "video-films": ["kind", "key"],
        "video-console": ["kind", "key"],
        "video-events": ["type", "id"],
        "video-servers": ["role"],
    }
    for table in tables.values():
        assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is True
    assert tables["video-metadata"]["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
    expiring = {
        n
        for n, p in tables.items()
        if p.get("TimeToLiveSpecification") == {"AttributeName": "expires", "Enabled": True}
    }
    assert expiring == {"video-streaming", "video-console", "video-events", "video-servers"}


def test_the_media_bucket_is_private_and_allows_only_uploads_by_browsers():
    (media, _) = (p for p in data().of_type("AWS::S3::Bucket").values())
    assert set(media["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = media["CorsConfiguration"]["CorsRules"]
    assert rule["AllowedMethods"] == ["PUT"] and rule["AllowedHeaders"] == ["Content-Type", "If-None-Match"]


def reported() -> set[str]:
    """The suffixes of new objects that the bucket reports."""
    (media, _) = (p for p in data().of_type("AWS::S3::Bucket").values())
    found = media["NotificationConfiguration"]["QueueConfigurations"]
    assert {c["Event"] for c in found} == {"s3:ObjectCreated:*"}
    return {c["Filter"]["S3Key"]["Rules"][0]["Value"] for c in found}


def test_the_bucket_sends_events_for_all_film_suffixes_in_both_cases():
    suffixes = settings_of(containers(deployed())["gateway"]).vod.suffixes
    assert {case for suffix in suffixes for case in (suffix, suffix.upper())} <= reported()


def test_segments_of_recordings_and_films_are_not_reported():
    assert not {".ts", ".m3u8", ".m4s", ".jpg", ".vtt"} & reported()


def test_lifecycle_rules_equal_those_of_the_storage_command():
    from gateway.adapters.aws.lifecycle import rules

    stack = Stack(TEMPLATES / "data.yaml", {"ColdAfterDays": "30", "ArchiveAfterDays": "90"})
    settings = load(
        environ={"MILLRACE_RECORDING__COLD_AFTER_DAYS": "30", "MILLRACE_RECORDING__ARCHIVE_AFTER_DAYS": "90"}
    )
    ours = {r["ID"]: r for r in rules(settings.recording)}
    (media, _) = (p for p in stack.of_type("AWS::S3::Bucket").values())
    made = {r["Id"]: r for r in media["LifecycleConfiguration"]["Rules"]}
    assert made.keys() == ours.keys()
    tiers = [(int(t["TransitionInDays"]), t["StorageClass"]) for t in made["millrace-storage-classes"]["Transitions"]]
    assert tiers == [(t["Days"], t["StorageClass"]) for t in ours["millrace-storage-classes"]["Transitions"]]
    assert int(made["millrace-storage-classes"]["ObjectSizeGreaterThan"]) == 131_072


def test_every_export_of_the_data_stack_is_used():
    needed = {name for variant in VARIANTS for name in deployed(variant).imported}
    printed = {"millrace-data-images"}  # by the deployment itself
    assert data().exports.keys() - needed == printed


# ---- permissions ----

EVERYTHING = {
    "ecr:GetAuthorizationToken": "knows no resource",
    "ecs:ListTasks": "knows no resource without container instances; a condition names the cluster",
    "ec2:DescribeNetworkInterfaces": "knows no resource",
}


def statements(role: str) -> list[dict[str, Any]]:
    stack = deployed("everything")
    documents = [p["PolicyDocument"] for p in stack.of_type("AWS::IAM::Role")[role]["Policies"]]
    documents += [
        p["PolicyDocument"] for p in stack.of_type("AWS::IAM::Policy").values() if p["Roles"] == [f"<{role}>"]
    ]
    return [s for d in documents for s in d["Statement"]]


def listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def allowed(role: str) -> Iterator[tuple[str, str]]:
    for statement in statements(role):
        assert statement["Effect"] == "Allow"
        for action in listed(statement["Action"]):
            for resource in listed(statement["Resource"]):
                yield action, resource


def test_no_role_has_wildcard_permissions_without_a_reason():
    everywhere = set()
    for role in deployed("everything").of_type("AWS::IAM::Role"):
        for action, resource in allowed(role):
            assert "*" not in action, f"{role}: {action}"
            if resource == "*":
                everywhere.add(action)
    assert everywhere == EVERYTHING.keys()


def test_containers_run_with_their_own_roles():
    roles = {
        c["Name"]: (t.get("TaskRoleArn", "").rpartition("/")[2], t["ExecutionRoleArn"].rpartition("/")[2])
        for variant in ("everything", "named")
        for t in deployed(variant).of_type("AWS::ECS::TaskDefinition").values()
        for c in t["ContainerDefinitions"][:1]
    }
    assert roles == {
        "gateway": ("GatewayRole", "ExecutionRole"),
        "edge": ("EdgeRole", "ExecutionRole"),
        "worker": ("EdgeRole", "ExecutionRole"),
        "haproxy": ("", "ExecutionRole"),
    }


def test_ecs_may_read_exactly_the_secrets_of_the_containers():
    readable = {r for a, r in allowed("ExecutionRole") if a == "secretsmanager:GetSecretValue"}
    given = {s["ValueFrom"] for c in containers(deployed("everything")).values() for s in c.get("Secrets", ())}
    assert readable == given


# ---- growing ----


def policies() -> dict[str, dict[str, Any]]:
    return deployed().of_type("AWS::ApplicationAutoScaling::ScalingPolicy")


def specification(policy: str) -> dict[str, Any]:
    """The metric of a policy, for a metric that AWS does not define."""
    found: dict[str, Any] = policies()[policy]["TargetTrackingScalingPolicyConfiguration"][
        "CustomizedMetricSpecification"
    ]
    return found


def test_services_scale_by_cpu_gateways_also_by_load_and_edges_by_traffic():
    assert {name: p["ScalingTargetId"] for name, p in policies().items()} == {
        "GatewaysByCpu": "<GatewayScale>",
        "GatewaysByLoad": "<GatewayScale>",
        "EdgesByCpu": "<EdgeScale>",
        "EdgesByTraffic": "<EdgeScale>",
    }
    metrics = specification("EdgesByTraffic")["Metrics"]
    (result,) = (m for m in metrics if m["ReturnData"])
    assert set(re.findall(r"[a-z]+", result["Expression"])) == {m["Id"] for m in metrics} - {result["Id"]}


@variants
def test_gateways_and_edges_use_all_cores(variant: str):
    for name in ("gateway", "edge"):
        assert settings_of(containers(deployed(variant))[name]).serve.workers == 0
    assert settings_of(containers(deployed(variant))["gateway"]).log.load == 60  # a metric has one value a minute


async def test_one_busy_process_of_a_gateway_exceeds_the_target_of_its_scaling():
    """The line is that of a gateway with two processes, of which one is full and one idle."""
    (metric,) = deployed().of_type("AWS::Logs::MetricFilter").values()
    (value,) = metric["MetricTransformations"]
    busy = Node("a.2", NodeRole.GATEWAY, "h:1", shown={"free": {"percent": 0.0}})
    host = HostCapacity(FreeCapacity(FreeProcessor(loop=lambda: 0.0), ViewerLimits(0, {}), int), lambda: [busy])
    written = io.StringIO()
    log.configure("info", settings_of(containers(deployed())["gateway"]).log.format, written)
    task = asyncio.create_task(host.log_load(0))
    while not written.getvalue():
        await asyncio.sleep(0)
    task.cancel()
    log.configure("info", "json")
    line = json.loads(written.getvalue().splitlines()[0])
    selector = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', metric["FilterPattern"])
    assert selector is not None and line[selector[1]] == selector[2]
    load = line[value["MetricValue"].removeprefix("$.")]
    target = policies()["GatewaysByLoad"]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"]
    assert load == 100 > target
    names = {"MetricName": value["MetricName"], "Namespace": value["MetricNamespace"], "Unit": value["Unit"]}
    assert specification("GatewaysByLoad") == {**names, "Statistic": "Average"}


def test_deployments_do_not_reset_the_scaled_number_of_tasks():
    services = deployed("named").of_type("AWS::ECS::Service")
    assert {name for name, p in services.items() if "DesiredCount" in p} == {"HaproxyService"}
    for properties in services.values():
        assert properties["DeploymentConfiguration"]["MinimumHealthyPercent"] == 100
