"""GET /policies tells of denials as users wrote them."""

import factory

from app.api.policies import list_policies


def test_denials_are_listed() -> None:
    account = {"kind": "ServiceAccount"}
    spec = {"destination": {**account, "name": "web"}, "sources": [{**account, "name": "bob"}]}
    named = factory.raw("TrafficDeny", "shop/d", api=factory.POLICY, spec=spec)
    route = {"kind": "HTTPRouteGroup", "name": "g"}
    all_of_it = {"destination": {**account, "name": "api"}, "rules": [route]}
    some = factory.raw("TrafficDeny", "shop/e", api=factory.POLICY, spec=all_of_it)
    group = factory.route_group("shop/g", all="/x")
    found = list_policies(factory.snapshot(factory.namespace("shop"), group, named, some))
    listed = [(d.name, d.destination, d.sources, d.requests, d.ports) for d in found.denials]
    (first, second) = listed
    assert first[:3] == ("e", "api.shop", ("*",))
    assert (len(first[3]), first[4]) == (1, ())
    assert second == ("d", "web.shop", ("bob.shop",), (), ("any",))
