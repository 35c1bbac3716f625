"""Limits that Envoy takes, one of each: parts for tables and for a golden case."""

from __future__ import annotations

from xds.policy.limits import (
    Bucket,
    ConnectionLimits,
    Counter,
    Descriptor,
    ExternalAuthorization,
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

SERVER = RateLimitServer(host="rls", port=8081)
COUNTER = Counter(
    name="shop/web",
    server=SERVER,
    domain="d",
    timeout_seconds=None,
    fail_open=True,
    headers=False,
    status=429,
)
GOOD: Descriptor = (GenericKey(key="k", value="v"), RemoteAddress())
BUCKET = Bucket(amount=1, burst=0, seconds=1)
LOCAL = LocalLimit(bucket=BUCKET, status=503, headers=(("a", "b"),))
SHARED = SharedLimit(counter=COUNTER, descriptors=(GOOD,))
FAULT = Fault(delay_seconds=1, abort_status=500)
SOUND = RequestLimits(local=LOCAL, shared=SHARED, fault=FAULT)
CONNECTIONS = ConnectionLimits(
    local=BUCKET,
    shared=SharedConnectionLimit(
        server=SERVER,
        domain="d",
        descriptors=((("k", "v"),),),
        timeout_seconds=None,
        fail_open=True,
    ),
)
ASKED = ExternalAuthorization(
    host="authz", port=1, stat_prefix="s", timeout_seconds=1, allow_on_failure=False
)
ALL_WAYS: Descriptor = (
    HeaderEntry(header="x-user", key="user"),
    HeaderValueMatch(
        key="header_match",
        value="v",
        expect=False,
        headers=(
            HeaderCondition(name="a", how="exact", value="b"),
            HeaderCondition(name="a", how="prefix", value="b"),
            HeaderCondition(name="a", how="suffix", value="b"),
            HeaderCondition(name="a", how="contains", value="b"),
            HeaderCondition(name=":path", how="regex", value="/b.*"),
            HeaderCondition(name="a", how="present", value="false"),
        ),
    ),
)
OF_A_ROUTE = RequestLimits(
    local=LocalLimit(bucket=Bucket(amount=5, burst=2, seconds=60)),
    shared=SharedLimit(counter=COUNTER, descriptors=(ALL_WAYS,)),
    fault=Fault(delay_seconds=0.5, delay_percent=12.5, abort_status=503, abort_percent=0.1),
)
