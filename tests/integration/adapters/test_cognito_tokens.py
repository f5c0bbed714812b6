"""Tokens of Amazon Cognito, made by moto: ID tokens, access tokens without an audience, groups."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.api.tokens import TokenRefused, TokenRules, key_id, parse_jwks, verified
from tests.support.oidc import settings
from tests.support.time_outs import at_most

REGION = "eu-central-1"
PASSWORD = "Correct-horse-7"


@dataclass
class Pool:
    id: str
    client: str
    tokens: dict[str, str]
    keys: dict[str, Any]

    @property
    def rules(self) -> TokenRules:
        return self.rules_with()

    def rules_with(self, **options: Any) -> TokenRules:
        issuer = f"https://cognito-idp.{REGION}.amazonaws.com/{self.id}"
        values = {"issuer": issuer, "client_id": self.client, "claim": "cognito:groups", "allow": ["operators"]}
        return TokenRules(settings(**values | options))

    def judged(self, which: str, rules: TokenRules | None = None) -> dict[str, Any]:
        token, rules = self.tokens[which], rules or self.rules
        claims = verified(token, self.keys[key_id(token)], rules)
        rules.user(claims)
        return claims


@pytest.fixture
def pool(aws: str) -> Pool:
    import boto3

    cognito = boto3.client("cognito-idp", region_name=REGION)
    id = cognito.create_user_pool(PoolName="people")["UserPool"]["Id"]
    client = cognito.create_user_pool_client(UserPoolId=id, ClientName="console")["UserPoolClient"]["ClientId"]
    attributes = [{"Name": "email", "Value": "eva@example.com"}, {"Name": "email_verified", "Value": "true"}]
    cognito.admin_create_user(UserPoolId=id, Username="eva", UserAttributes=attributes)
    cognito.admin_set_user_password(UserPoolId=id, Username="eva", Password=PASSWORD, Permanent=True)
    cognito.create_group(UserPoolId=id, GroupName="operators")
    cognito.admin_add_user_to_group(UserPoolId=id, Username="eva", GroupName="operators")
    tokens = cognito.admin_initiate_auth(
        UserPoolId=id,
        ClientId=client,
        AuthFlow="ADMIN_USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "eva", "PASSWORD": PASSWORD},
    )["AuthenticationResult"]
    with urllib.request.urlopen(f"{aws}/{id}/.well-known/jwks.json", timeout=at_most(10)) as reply:
        keys = parse_jwks(json.load(reply))
    return Pool(id, client, tokens, keys)


@pytest.mark.parametrize("which", ["IdToken", "AccessToken"])
def test_id_tokens_and_access_tokens_of_an_allowed_group_are_accepted(pool: Pool, which: str) -> None:
    claims = pool.judged(which)
    assert claims["cognito:groups"] == ["operators"]
    assert claims["token_use"] == ("id" if which == "IdToken" else "access")


@pytest.mark.parametrize("which", ["IdToken", "AccessToken"])
def test_tokens_of_another_client_or_pool_are_refused(pool: Pool, which: str) -> None:
    for rules in (pool.rules_with(client_id="another"), pool.rules_with(issuer=pool.rules.oidc.issuer + "x")):
        with pytest.raises(TokenRefused):
            pool.judged(which, rules)


def test_a_token_without_an_allowed_group_is_refused(pool: Pool) -> None:
    with pytest.raises(TokenRefused):
        pool.judged("IdToken", pool.rules_with(allow=["admins"]))
