"""What Envoy would refuse of a limit is left out, and told of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import xds_cases
from xds_limits import ASKED, BUCKET, CONNECTIONS, COUNTER, FAULT, GOOD, LOCAL, SHARED, SOUND

from xds.builders.sound import repair_inbound
from xds.builders.sound_limits import sound_authorization, sound_connections, sound_requests
from xds.policy.limits import (
    ConnectionLimits,
    Descriptor,
    ExternalAuthorization,
    GenericKey,
    HeaderCondition,
    HeaderEntry,
    HeaderValueMatch,
    RateLimitServer,
    RequestLimits,
)
from xds.policy.traffic import Inbound


def test_what_is_sound_stays_the_same_object() -> None:
    told: list[str] = []
    assert sound_requests(SOUND, told.append) is SOUND
    assert sound_connections(CONNECTIONS, told.append) is CONNECTIONS
    assert sound_authorization(ASKED, told.append) is ASKED
    assert told == []


def counted(**fields: Any) -> RequestLimits:
    return replace(SOUND, shared=replace(SHARED, counter=replace(COUNTER, **fields)))


def match(*headers: HeaderCondition) -> Descriptor:
    return (HeaderValueMatch(key="k", value="v", expect=True, headers=headers),)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        pytest.param(
            replace(SOUND, local=replace(LOCAL, bucket=replace(BUCKET, amount=0))),
            replace(SOUND, local=None),
            id="no-amount",
        ),
        pytest.param(
            replace(SOUND, local=replace(LOCAL, status=499)),
            replace(SOUND, local=replace(LOCAL, status=None)),
            id="status",
        ),
        pytest.param(
            replace(SOUND, local=replace(LOCAL, headers=((":a", "b"), ("a", "b"), ("c", "\n")))),
            SOUND,
            id="headers",
        ),
        pytest.param(counted(domain=""), replace(SOUND, shared=None), id="no-domain"),
        pytest.param(counted(status=499), replace(SOUND, shared=None), id="shared-status"),
        pytest.param(counted(timeout_seconds=0), replace(SOUND, shared=None), id="no-time"),
        pytest.param(
            counted(server=RateLimitServer(host="shop/web|80", port=1)),
            replace(SOUND, shared=None),
            id="name-of-another-cluster",
        ),
        pytest.param(
            replace(SOUND, shared=replace(SHARED, descriptors=((),))),
            replace(SOUND, shared=None),
            id="no-entries",
        ),
        pytest.param(
            replace(
                SOUND,
                shared=replace(
                    SHARED,
                    descriptors=(
                        (GenericKey(key="k", value=""),),
                        (HeaderEntry(header="a\r", key="k"),),
                        match(),
                        match(HeaderCondition(name="a", how="prefix")),
                        match(HeaderCondition(name="a", how="like", value="b")),
                        match(HeaderCondition(name="", how="exact", value="b")),
                        GOOD,
                    ),
                ),
            ),
            SOUND,
            id="descriptors",
        ),
        pytest.param(
            replace(SOUND, fault=replace(FAULT, delay_seconds=0)),
            replace(SOUND, fault=None),
            id="delay-of-no-time",
        ),
        pytest.param(
            replace(SOUND, fault=replace(FAULT, abort_status=600)),
            replace(SOUND, fault=None),
            id="abort-with-no-status",
        ),
        pytest.param(
            replace(SOUND, fault=replace(FAULT, abort_percent=101)),
            replace(SOUND, fault=None),
            id="more-than-all",
        ),
    ],
)
def test_what_envoy_refuses_of_requests_is_left_out(
    limits: RequestLimits, kept: RequestLimits
) -> None:
    told: list[str] = []
    assert sound_requests(limits, told.append) == kept
    assert len(told) == 1


def shared_connections(**fields: Any) -> ConnectionLimits:
    assert CONNECTIONS.shared is not None
    return replace(CONNECTIONS, shared=replace(CONNECTIONS.shared, **fields))


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        pytest.param(
            replace(CONNECTIONS, local=replace(BUCKET, seconds=0)),
            replace(CONNECTIONS, local=None),
            id="no-time",
        ),
        pytest.param(
            shared_connections(descriptors=()), replace(CONNECTIONS, shared=None), id="nothing"
        ),
        pytest.param(
            shared_connections(descriptors=((),)), replace(CONNECTIONS, shared=None), id="empty"
        ),
        pytest.param(
            shared_connections(timeout_seconds=-1), replace(CONNECTIONS, shared=None), id="timeout"
        ),
        pytest.param(shared_connections(domain=""), replace(CONNECTIONS, shared=None), id="domain"),
    ],
)
def test_what_envoy_refuses_of_connections_is_left_out(
    limits: ConnectionLimits, kept: ConnectionLimits
) -> None:
    told: list[str] = []
    assert sound_connections(limits, told.append) == kept
    assert len(told) == 1


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        pytest.param(replace(ASKED, timeout_seconds=0), ASKED, id="no-time"),
        pytest.param(replace(ASKED, port=0), replace(ASKED, port=0, host=""), id="no-port"),
    ],
)
def test_authorisation_is_never_left_out(
    asked: ExternalAuthorization, kept: ExternalAuthorization
) -> None:
    told: list[str] = []
    assert sound_authorization(asked, told.append) == kept
    assert len(told) == 1


def test_faults_of_limits_are_those_of_the_policy() -> None:
    web = xds_cases.service("shop/web", 80)
    wrong = counted(domain="")
    host = replace(
        xds_cases.inbound_host(web, xds_cases.anyone()),
        limits=wrong,
        route_limits=((".*", wrong),),
    )
    port = xds_cases.inbound_port(host)
    chain = replace(port.chains[0], connections=shared_connections(domain=""))
    feed = replace(
        xds_cases.inbound_tcp(xds_cases.service("shop/feed", 90)),
        connections=shared_connections(domain=""),
    )
    inbound = Inbound(
        http=(replace(port, chains=(chain,)),), tcp=(feed,), authorization=replace(ASKED, port=0)
    )
    repaired = repair_inbound(inbound)
    assert repaired is not None
    (sound,) = repaired.policy.http
    kept = replace(SOUND, shared=None)
    assert (sound.hosts[0].limits, sound.hosts[0].route_limits) == (kept, ((".*", kept),))
    assert sound.chains[0].connections == replace(CONNECTIONS, shared=None)
    assert repaired.policy.tcp[0].connections == replace(CONNECTIONS, shared=None)
    assert repaired.policy.authorization == replace(ASKED, port=0, host="")
    assert {fault.unit for fault in repaired.faults} == {
        "external authorisation",
        "host shop/web",
        "inbound_shop/web_80_http",
        "inbound_shop/feed_90_http",
    }
