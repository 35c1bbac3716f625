"""Runs in a Pod outside the mesh: the rate-limit and authorisation service of the tests.

On the first port it speaks gRPC, as Envoy asks it; on the second one HTTP: ``GET /asked`` tells
what it was asked since ``GET /forget``. Of what has a limit in ``LIMITS`` by domain, so many pass
per descriptor until it forgets. A request with the header ``x-wish: deny`` is not authorised.
"""

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse

LIMITS = {"three": 3, "two": 2, "none": 0}
ASKED: list[dict[str, Any]] = []
COUNTS: Counter[str] = Counter()


def should_limit(request: RateLimitRequest, _: grpc.ServicerContext) -> RateLimitResponse:
    """Over the limit where one of the descriptors is."""
    found = RateLimitResponse(overall_code=RateLimitResponse.OK)
    limit = LIMITS[request.domain]
    for descriptor in request.descriptors:
        entries = [[entry.key, entry.value] for entry in descriptor.entries]
        ASKED.append({"domain": request.domain, "entries": entries})
        counted = json.dumps([request.domain, entries])
        COUNTS[counted] += 1
        status = found.statuses.add(code=RateLimitResponse.OK)
        status.current_limit.requests_per_unit = limit
        status.current_limit.unit = RateLimitResponse.RateLimit.MINUTE
        status.limit_remaining = max(0, limit - COUNTS[counted])
        if COUNTS[counted] > limit:
            status.code = found.overall_code = RateLimitResponse.OVER_LIMIT
    return found


def check(request: CheckRequest, _: grpc.ServicerContext) -> CheckResponse:
    """Allowed with a header more, or denied with a status, a header and a body."""
    attributes = request.attributes
    http = attributes.request.http
    ASKED.append(
        {
            "method": http.method,
            "path": http.path,
            "host": http.host,
            "body": http.body,
            "source": attributes.source.principal,
        }
    )
    found = CheckResponse()
    if http.headers.get("x-wish") == "deny":
        found.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
        found.denied_response.status.code = 402
        found.denied_response.body = "pay first"
        found.denied_response.headers.add().header.MergeFrom(header("x-price", "9"))
    else:
        found.ok_response.headers.add().header.MergeFrom(header("x-verdict", "fine"))
    return found


def header(name: str, value: str) -> Any:
    """A header in Envoy's words."""
    found = CheckResponse().ok_response.headers.add().header
    found.key, found.value = name, value
    return found


class Told(BaseHTTPRequestHandler):
    """What the test asks."""

    def do_GET(self) -> None:
        if self.path == "/forget":
            ASKED.clear()
            COUNTS.clear()
        body = json.dumps(ASKED).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def method(call: Any, request: Any) -> grpc.RpcMethodHandler:
    """One message in, one out."""
    return grpc.unary_unary_rpc_method_handler(
        call,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )


def main() -> None:
    """Serves until it is ended."""
    rpc, told = map(int, sys.argv[1:])
    limits = {"ShouldRateLimit": method(should_limit, RateLimitRequest)}
    checks = {"Check": method(check, CheckRequest)}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "envoy.service.ratelimit.v3.RateLimitService", limits
            ),
            grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", checks),
        ]
    )
    server.add_insecure_port(f"0.0.0.0:{rpc}")
    server.start()
    ThreadingHTTPServer(("", told), Told).serve_forever(0.05)


main()
