"""What servers keep of an UpstreamTrafficSetting, and what is left out because Envoy refuses it."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.policies.limits import ServerLimits, server_limits, wrong_limits
from app.mesh.snapshot import MeshSnapshot
from app.objects.upstream import UpstreamTrafficSettingSpec
from xds.policy.limits import (
    Bucket,
    ConnectionLimits,
    Counter,
    Entry,
    Fault,
    GenericKey,
    HeaderCondition,
    HeaderEntry,
    HeaderValueMatch,
    LocalLimit,
    RateLimitServer,
    RemoteAddress,
    RequestLimits,
    SharedConnectionLimit,
    SharedLimit,
)

SERVER = {"rateLimitService": {"host": "rls.out", "port": 8081}, "domain": "d"}
RLS = RateLimitServer(host="rls.out", port=8081)
MOST = 2**32 - 1
KEY = {"entries": [{"genericKey": {"value": "v"}}]}


def spec(**fields: Any) -> UpstreamTrafficSettingSpec:
    return UpstreamTrafficSettingSpec.model_validate({"host": "web", **fields})


def limits(**fields: Any) -> ServerLimits:
    return server_limits(spec(**fields), "shop/web")


def counter(**fields: Any) -> Counter:
    usual = {"timeout_seconds": None, "fail_open": True, "headers": False, "status": 429}
    return Counter(name="shop/web", server=RLS, domain="d", **{**usual, **fields})


def tcp(**fields: Any) -> dict[str, Any]:
    return {"global": {"tcp": {**SERVER, "descriptors": [KEYS], **fields}}}


KEYS = {"entries": [{"key": "a", "value": "b"}, {"key": "c", "value": "d"}]}


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        pytest.param({}, ServerLimits(), id="nothing"),
        pytest.param(
            {"rateLimit": {"local": {"tcp": {"connections": 2, "unit": "minute", "burst": 3}}}},
            ServerLimits(connections=ConnectionLimits(local=Bucket(amount=2, burst=3, seconds=60))),
            id="connections",
        ),
        pytest.param(
            {"rateLimit": tcp(timeout="50ms", failOpen=False)},
            ServerLimits(
                connections=ConnectionLimits(
                    shared=SharedConnectionLimit(
                        server=RLS,
                        domain="d",
                        descriptors=((("a", "b"), ("c", "d")),),
                        timeout_seconds=0.05,
                        fail_open=False,
                    )
                )
            ),
            id="shared-connections",
        ),
        pytest.param(
            {"rateLimit": {"local": {"http": {"requests": MOST, "unit": "hour", "burst": 9}}}},
            ServerLimits(
                host=RequestLimits(
                    local=LocalLimit(bucket=Bucket(amount=MOST, burst=0, seconds=3600))
                )
            ),
            id="more-than-a-bucket-holds",
        ),
        pytest.param(
            {
                "rateLimit": {
                    "global": {
                        "http": {
                            **SERVER,
                            "descriptors": [KEY],
                            "timeout": "1s",
                            "failOpen": False,
                            "enableXRateLimitHeaders": True,
                            "responseStatusCode": 503,
                        }
                    }
                }
            },
            ServerLimits(
                host=RequestLimits(
                    shared=SharedLimit(
                        counter=counter(
                            timeout_seconds=1.0, fail_open=False, headers=True, status=503
                        ),
                        descriptors=((GenericKey(key="generic_key", value="v"),),),
                    )
                )
            ),
            id="shared-requests",
        ),
        pytest.param(
            {
                "httpRoutes": [
                    {
                        "path": "/b",
                        "rateLimit": {
                            "local": {
                                "requests": 1,
                                "unit": "second",
                                "burst": 2,
                                "responseStatusCode": 503,
                                "responseHeadersToAdd": [{"name": "X-A", "value": "b"}],
                            }
                        },
                    },
                    {"path": "/a", "fault": {"abort": {"status": 500}}},
                    {"path": "/a", "fault": {"abort": {"status": 501}}},
                    {"path": "/c"},
                ]
            },
            ServerLimits(
                routes=(
                    (
                        "/a",
                        RequestLimits(
                            fault=Fault(delay_percent=0, abort_status=500, abort_percent=100)
                        ),
                    ),
                    (
                        "/b",
                        RequestLimits(
                            local=LocalLimit(
                                bucket=Bucket(amount=1, burst=2, seconds=1),
                                status=503,
                                headers=(("x-a", "b"),),
                            )
                        ),
                    ),
                )
            ),
            id="routes",
        ),
        pytest.param(
            {
                "rateLimit": {"global": {"http": SERVER}},
                "httpRoutes": [
                    {"path": "/a", "rateLimit": {"global": {"descriptors": [KEY]}}},
                ],
            },
            ServerLimits(
                routes=(
                    (
                        "/a",
                        RequestLimits(
                            shared=SharedLimit(
                                counter=counter(),
                                descriptors=((GenericKey(key="generic_key", value="v"),),),
                            )
                        ),
                    ),
                )
            ),
            id="shared-requests-of-a-route-only",
        ),
        pytest.param(
            {"fault": {"delay": {"duration": "2s", "percentage": 5}}},
            ServerLimits(
                host=RequestLimits(fault=Fault(delay_seconds=2.0, delay_percent=5, abort_percent=0))
            ),
            id="delay",
        ),
    ],
)
def test_limit_is_read(fields: dict[str, Any], read: ServerLimits) -> None:
    assert limits(**fields) == read
    assert wrong_limits(spec(**fields)) == ()


def condition(how: str, value: str, name: str = "x") -> HeaderCondition:
    return HeaderCondition(name=name, how=how, value=value)


def value_match(*, expect: bool, headers: tuple[HeaderCondition, ...]) -> HeaderValueMatch:
    return HeaderValueMatch(key="header_match", value="v", expect=expect, headers=headers)


@pytest.mark.parametrize(
    ("entry", "read"),
    [
        pytest.param(
            {"genericKey": {"value": "v", "key": "k"}}, GenericKey(key="k", value="v"), id="generic"
        ),
        pytest.param({"remoteAddress": {}}, RemoteAddress(), id="address"),
        pytest.param(
            {"requestHeader": {"name": "Host", "key": "h"}},
            HeaderEntry(header=":authority", key="h"),
            id="header",
        ),
        pytest.param(
            {
                "headerValueMatch": {
                    "value": "v",
                    "headers": [
                        {"name": "X", "exact": "a"},
                        {"name": "x", "suffix": "a"},
                        {"name": "x", "contains": "a"},
                        {"name": ":path", "regex": "/a.*"},
                        {"name": "x", "present": False},
                    ],
                }
            },
            value_match(
                expect=True,
                headers=(
                    condition("exact", "a"),
                    condition("suffix", "a"),
                    condition("contains", "a"),
                    condition("regex", "/a.*", ":path"),
                    condition("present", "false"),
                ),
            ),
            id="header-in-all-ways",
        ),
        pytest.param(
            {
                "headerValueMatch": {
                    "value": "v",
                    "expectMatch": False,
                    "headers": [{"name": "x", "prefix": "a"}],
                }
            },
            value_match(expect=False, headers=(condition("prefix", "a"),)),
            id="header-that-does-not-fit",
        ),
    ],
)
def test_entry_of_a_descriptor_is_read(entry: dict[str, Any], read: Entry) -> None:
    route = {"path": "/a", "rateLimit": {"global": {"descriptors": [{"entries": [entry]}]}}}
    http = {**SERVER, "descriptors": [{"entries": [entry]}]}
    found = limits(rateLimit={"global": {"http": http}}, httpRoutes=[route])
    both = [found.host, *(one for _, one in found.routes)]
    assert [one.shared.descriptors for one in both if one.shared] == [((read,),)] * 2


def header(**how: Any) -> dict[str, Any]:
    match = {"value": "v", "headers": [{"name": "x", "exact": "a"}, {"name": "x", **how}]}
    return {"entries": [{"headerValueMatch": match}]}


PLACE = "spec.rateLimit.global.http"
SECOND = f"{PLACE}.descriptors[1].entries[0].headerValueMatch.headers[1]"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param(header(prefix=""), f"{SECOND}.prefix", id="empty-prefix"),
        pytest.param(header(regex="("), f"{SECOND}.regex", id="pattern"),
        pytest.param(header(regex="a{999}b{999}"), f"{SECOND}.regex", id="pattern-too-large"),
        pytest.param(header(name="a b", exact="a"), f"{SECOND}.name", id="name"),
        pytest.param(
            {"entries": [{"remoteAddress": {}}, {"requestHeader": {"name": "\n", "key": "k"}}]},
            f"{PLACE}.descriptors[1].entries[1].requestHeader.name",
            id="name-of-a-header",
        ),
    ],
)
def test_descriptor_that_cannot_be_used_is_dropped_whole(wrong: dict[str, Any], field: str) -> None:
    fields = {"rateLimit": {"global": {"http": {**SERVER, "descriptors": [KEY, wrong, KEY]}}}}
    shared = limits(**fields).host.shared
    assert shared is not None
    assert shared.descriptors == ((GenericKey(key="generic_key", value="v"),),) * 2
    assert [problem.field for problem in wrong_limits(spec(**fields))] == [field]


def test_only_so_many_patterns_are_compiled() -> None:
    many = [header(regex=f"a{number}") for number in range(201)]
    found = wrong_limits(spec(rateLimit={"global": {"http": {**SERVER, "descriptors": many}}}))
    assert [problem.reason for problem in found] == ["is beyond the first 200"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        pytest.param(
            {"rateLimit": {"global": {"http": {**SERVER, "domain": ""}}}},
            f"{PLACE}.domain",
            id="no-domain",
        ),
        pytest.param(
            {"rateLimit": tcp(rateLimitService={"host": "shop/web", "port": 80})},
            "spec.rateLimit.global.tcp.rateLimitService.host",
            id="host-that-would-be-another-cluster",
        ),
        pytest.param(
            {"fault": {"delay": {"duration": "25h"}}}, "spec.fault.delay.duration", id="delay"
        ),
    ],
)
def test_limit_that_cannot_be_kept_is_dropped(fields: dict[str, Any], field: str) -> None:
    assert limits(**fields) == ServerLimits()
    assert [problem.field for problem in wrong_limits(spec(**fields))] == [field]


@pytest.mark.parametrize(
    ("http", "kept"),
    [
        pytest.param({"responseStatusCode": 499}, {}, id="status"),
        pytest.param({"responseHeadersToAdd": [{"name": "host", "value": "a"}]}, {}, id="host"),
        pytest.param({"responseHeadersToAdd": [{"name": "a", "value": "\r"}]}, {}, id="control"),
    ],
)
def test_limit_is_kept_without_what_envoy_refuses(
    http: dict[str, Any], kept: dict[str, Any]
) -> None:
    local = {"http": {"requests": 1, "unit": "second", **http}}
    found = limits(rateLimit={"local": local}).host.local
    assert found == LocalLimit(bucket=Bucket(amount=1, burst=0, seconds=1), **kept)
    assert len(wrong_limits(spec(rateLimit={"local": local}))) == 1


def test_setting_of_one_namespace_is_none_of_another() -> None:
    setting = factory.traffic_setting(
        "pay/s",
        host="web.shop.svc.cluster.local",
        rateLimit={"local": {"http": {"requests": 1, "unit": "second"}}},
    )
    assert mesh(setting).policies.upstreams == {}


def mesh(*objects: Any) -> MeshSnapshot:
    namespaces = [factory.namespace("shop"), factory.namespace("pay")]
    return factory.snapshot(*namespaces, factory.service("shop/web"), *objects)


def test_what_is_wrong_is_a_finding() -> None:
    setting = factory.traffic_setting("shop/s", fault={"delay": {"duration": "0s"}})
    (found,) = mesh(setting).rejected
    assert (found.field, found.code) == ("spec.fault.delay.duration", "E3002")
