"""What proxies tell about traffic: access logs on stdout, request counters, the tap.

Workloads come in, access loggers go out. Names of loggers are constant, and what differs between
replicas comes from Envoy's environment, so that replicas share resources. Specification: data-plane
5.8 and appendix B.
"""

from __future__ import annotations

from functools import cache

from xds.builders import names
from xds.policy.service import Workload
from xds.protos import (
    AccessLog,
    AccessLogFilter,
    ApiVersion,
    CommonGrpcAccessLogConfig,
    FractionalPercent,
    GrpcService,
    HttpGrpcAccessLogConfig,
    ResponseFlagFilter,
    RuntimeFilter,
    StatsAccessLog,
    StdoutAccessLog,
    Struct,
    SubstitutionFormatString,
    UInt64Value,
    pack,
)

LOG_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "time_to_first_byte": "%RESPONSE_DURATION%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
}

ENDPOINT_METADATA = "osm"
"""Metadata key under which endpoints carry pod, namespace, kind and name of their workload."""

_TAGS = ("pod", "namespace", "kind", "name")
_NO_CHAIN = "NR"


@cache
def stdout_log() -> AccessLog:
    """One JSON line per request or connection on Envoy's stdout."""
    fields = Struct()
    fields.update(LOG_FIELDS)
    config = StdoutAccessLog(log_format=SubstitutionFormatString(json_format=fields))
    return AccessLog(name="stdout", typed_config=pack(config))


@cache
def unmatched_log() -> AccessLog:
    """For listeners: logs only connections that no filter chain took; the rest is logged there."""
    flags = AccessLogFilter(response_flag_filter=ResponseFlagFilter(flags=[_NO_CHAIN]))
    log = AccessLog(filter=flags)
    log.MergeFrom(stdout_log())
    return log


@cache
def tap_log() -> AccessLog:
    """Sends a share of requests to the controller; the share is a runtime key, 0 until set."""
    nothing = FractionalPercent(numerator=0, denominator=FractionalPercent.MILLION)
    switch = RuntimeFilter(runtime_key=names.TAP_RUNTIME_KEY, percent_sampled=nothing)
    common = CommonGrpcAccessLogConfig(
        log_name="tap",
        grpc_service=GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=names.CONTROLLER)),
        transport_api_version=ApiVersion.V3,
    )
    return AccessLog(
        name="tap",
        filter=AccessLogFilter(runtime_filter=switch),
        typed_config=pack(HttpGrpcAccessLogConfig(common_config=common)),
    )


def stats_log(source: Workload) -> AccessLog:
    """Counts requests and measures their time, labelled with both workloads.

    ``stat_prefix`` is deprecated on Envoy 1.40; its successor is missing from the messages.
    """
    tags = _stat_tags(source)
    stats = StatsAccessLog(
        stat_prefix="osm",
        counters=[
            StatsAccessLog.Counter(
                stat=StatsAccessLog.Stat(name="request_total", tags=tags),
                value_fixed=UInt64Value(value=1),
            )
        ],
        histograms=[
            StatsAccessLog.Histogram(
                stat=StatsAccessLog.Stat(name="request_duration_ms", tags=tags),
                unit=StatsAccessLog.Histogram.Milliseconds,
                value_format="%DURATION%",
            )
        ],
    )
    return AccessLog(name="stats", typed_config=pack(stats))


def _stat_tags(source: Workload) -> list[StatsAccessLog.Tag]:
    constants = {"namespace": source.namespace, "kind": source.kind, "name": source.name}
    values = {"response_code": "%RESPONSE_CODE%", "source_pod": "%ENVIRONMENT(POD_NAME)%"}
    for tag, text in constants.items():
        values[f"source_{tag}"] = text.replace("%", "%%") or "unknown"  # Envoy refuses ""
    for tag in _TAGS:
        values[f"destination_{tag}"] = f"%UPSTREAM_METADATA({ENDPOINT_METADATA}:{tag})%"
    return [StatsAccessLog.Tag(name=name, value_format=form) for name, form in values.items()]
