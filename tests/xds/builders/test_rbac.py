"""Principals and permissions: an empty list never means anyone."""

from __future__ import annotations

import pytest
import xds_cases
from google.protobuf import json_format

from xds.builders import rbac
from xds.policy.http import HeaderMatch, HttpMatch
from xds.policy.identity import NameType, SubjectName
from xds.policy.traffic import InboundRule, TcpPermission
from xds.protos import RBACPerRoute

BUYER = SubjectName(type=NameType.DNS, value="buyer")
THIEF = SubjectName(type=NameType.URI, value="spiffe://mesh/thief/ns")
EXTENSION = "type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config"


def principal(**config: object) -> dict[str, object]:
    name = "envoy.rbac.principals.mtls_authenticated"
    return {"custom": {"name": name, "typedConfig": {"@type": EXTENSION, **config}}}


def named(kind: str, text: str) -> dict[str, object]:
    return principal(sanMatcher={"sanType": kind, "matcher": {"exact": text}})


def regex(text: str) -> dict[str, object]:
    return {"safeRegex": {"regex": text}}


def rules(built: RBACPerRoute) -> dict[str, object]:
    return dict(json_format.MessageToDict(built)["rbac"]["rules"]["policies"])


@pytest.mark.parametrize(
    "principals",
    [pytest.param((), id="no-rules"), pytest.param((None, None), id="anyone")],
)
def test_without_named_principals_there_is_nothing_to_check(principals: tuple[None, ...]) -> None:
    found = [
        InboundRule(match=HttpMatch(path=f"/{number}"), principals=who)
        for number, who in enumerate(principals)
    ]
    assert rbac.host_rbac(found) is None


def test_policy_per_match_with_all_its_conditions() -> None:
    match = HttpMatch(
        path="/buy/.*", methods=("GET", "POST"), headers=(HeaderMatch(name="app", pattern="b.*"),)
    )
    built = rbac.host_rbac(
        [
            InboundRule(match=match, principals=(BUYER, THIEF)),
            InboundRule(match=HttpMatch(), principals=None),
        ]
    )
    assert built is not None
    methods = [
        {"header": {"name": ":method", "stringMatch": {"exact": name}}} for name in ("GET", "POST")
    ]
    assert rules(built) == {
        "GET,POST '/buy/.*' app='b.*'": {
            "permissions": [
                {
                    "andRules": {
                        "rules": [
                            {"urlPath": {"path": regex("/buy/.*")}},
                            {"orRules": {"rules": methods}},
                            {"header": {"name": "app", "stringMatch": regex("b.*")}},
                        ]
                    }
                }
            ],
            "principals": [named("DNS", "buyer"), named("URI", "spiffe://mesh/thief/ns")],
        },
        "* '.*'": {
            "permissions": [{"andRules": {"rules": [{"urlPath": {"path": regex(".*")}}]}}],
            "principals": [principal(anyValidatedClientCertificate=True)],
        },
    }


def test_network_policy_per_permission() -> None:
    built = rbac.network_rbac(
        [
            TcpPermission(name="ns/one", principals=(BUYER,)),
            TcpPermission(name="ns/two", principals=(THIEF,)),
        ]
    )
    config = json_format.MessageToDict(built)["typedConfig"]
    assert config["statPrefix"] == "network-"
    assert config["rules"]["policies"] == {
        "ns/one": {"permissions": [{"any": True}], "principals": [named("DNS", "buyer")]},
        "ns/two": {
            "permissions": [{"any": True}],
            "principals": [named("URI", "spiffe://mesh/thief/ns")],
        },
    }


def test_equal_names_of_permissions_are_united() -> None:
    one, two = (
        TcpPermission(name="ns/tt", principals=xds_cases.peers(who))
        for who in (xds_cases.BUYER, xds_cases.THIEF)
    )
    config = json_format.MessageToDict(rbac.network_rbac([one, two]))["typedConfig"]
    assert len(config["rules"]["policies"]["ns/tt"]["principals"]) == 2
