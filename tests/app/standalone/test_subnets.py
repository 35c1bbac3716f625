from ipaddress import IPv4Network

import pytest

from app.standalone.subnets import Subnets, candidates, routed


def _subnets(pods: str, services: str, link: str) -> Subnets:
    return Subnets(pods=IPv4Network(pods), services=IPv4Network(services), link=IPv4Network(link))


@pytest.mark.parametrize(
    ("taken", "first"),
    [
        pytest.param([], ("10.42.0.0/16", "10.43.0.0/16", "10.44.0.0/30"), id="nothing-taken"),
        pytest.param(
            ["10.42.3.0/24"], ("10.46.0.0/16", "10.47.0.0/16", "10.48.0.0/30"), id="pods-taken"
        ),
        pytest.param(
            ["10.43.0.1/32"], ("10.46.0.0/16", "10.47.0.0/16", "10.48.0.0/30"), id="services-taken"
        ),
        pytest.param(
            ["10.44.0.0/16"], ("10.46.0.0/16", "10.47.0.0/16", "10.48.0.0/30"), id="link-taken"
        ),
        pytest.param(
            ["10.0.0.0/8"], ("172.20.0.0/16", "172.21.0.0/16", "172.22.0.0/30"), id="vpn-takes-10"
        ),
        pytest.param(
            ["10.0.0.0/8", "172.16.0.0/12"],
            ("198.18.0.0/16", "198.19.0.0/17", "198.19.128.0/30"),
            id="only-the-benchmark-range-left",
        ),
    ],
)
def test_first_candidate_overlaps_no_route(taken: list[str], first: tuple[str, str, str]) -> None:
    assert next(candidates(IPv4Network(cidr) for cidr in taken)) == _subnets(*first)


def test_no_candidate_when_every_range_is_taken() -> None:
    assert list(candidates([IPv4Network("0.0.0.0/0")])) == []


def test_no_candidate_uses_a_range_that_clusters_like() -> None:
    clusters = [IPv4Network(cidr) for cidr in ("10.244.0.0/16", "10.96.0.0/12", "10.98.0.0/16")]
    ranges = [
        network
        for subnets in candidates([])
        for network in (subnets.pods, subnets.services, subnets.link)
    ]
    assert [one for one in ranges for other in clusters if one.overlaps(other)] == []
    assert len(ranges) > 100


def test_addresses_with_a_meaning() -> None:
    subnets = _subnets("10.42.0.0/16", "10.43.0.0/16", "10.44.0.0/30")
    assert (subnets.gateway, subnets.host, subnets.node) == ("10.42.0.1", "10.44.0.1", "10.44.0.2")


def test_default_routes_and_their_halves_take_no_range() -> None:
    destinations = ["default", "0.0.0.0/1", "128.0.0.0/1", "192.0.2.0/24", "192.0.2.7"]
    assert routed(destinations) == (IPv4Network("192.0.2.0/24"), IPv4Network("192.0.2.7/32"))
