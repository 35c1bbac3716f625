from ipaddress import IPv4Network

import pytest

from app.standalone.nat import ServiceForward, build_rules

SERVICES = IPv4Network("10.43.0.0/16")
TO = "-A OSM_SERVICES -d 10.43.0.16/32"


def _rules(*forwards: ServiceForward) -> list[str]:
    lines = build_rules(SERVICES, forwards).splitlines()
    return [line for line in lines if line.startswith(("-A OSM_SERVICES", "-A POSTROUTING"))]


def _web(*targets: tuple[str, int], protocol: str = "TCP") -> ServiceForward:
    return ServiceForward(address="10.43.0.16", port=80, protocol=protocol, targets=targets)


def _hairpin(address: str) -> str:
    return f"-A POSTROUTING -s {address}/32 -d {address}/32 -j MASQUERADE"


@pytest.mark.parametrize(
    ("forwards", "rules"),
    [
        pytest.param([], [], id="no-service"),
        pytest.param([_web()], [], id="no-target"),
        pytest.param(
            [_web(("10.42.0.16", 8080))],
            [
                f"{TO} -p tcp --dport 80 -j DNAT --to-destination 10.42.0.16:8080",
                _hairpin("10.42.0.16"),
            ],
            id="one-target",
        ),
        pytest.param(
            [_web(("10.42.0.18", 80), ("10.42.0.16", 80), ("10.42.0.17", 80), ("10.42.0.16", 80))],
            [
                (
                    f"{TO} -p tcp --dport 80 -m statistic --mode random --probability 0.3333333333"
                    " -j DNAT --to-destination 10.42.0.16:80"
                ),
                (
                    f"{TO} -p tcp --dport 80 -m statistic --mode random --probability 0.5000000000"
                    " -j DNAT --to-destination 10.42.0.17:80"
                ),
                f"{TO} -p tcp --dport 80 -j DNAT --to-destination 10.42.0.18:80",
                _hairpin("10.42.0.16"),
                _hairpin("10.42.0.17"),
                _hairpin("10.42.0.18"),
            ],
            id="three-targets-share-evenly",
        ),
        pytest.param(
            [_web(("10.42.0.16", 53), protocol="UDP")],
            [
                f"{TO} -p udp --dport 80 -j DNAT --to-destination 10.42.0.16:53",
                _hairpin("10.42.0.16"),
            ],
            id="udp",
        ),
    ],
)
def test_rules_of_services(forwards: list[ServiceForward], rules: list[str]) -> None:
    assert _rules(*forwards) == rules


def test_order_of_services_does_not_matter() -> None:
    one = _web(("10.42.0.16", 80))
    other = ServiceForward(address="10.43.0.17", port=80, targets=(("10.42.0.16", 80),))
    assert build_rules(SERVICES, [one, other]) == build_rules(SERVICES, [other, one])


def test_every_table_is_complete() -> None:
    assert build_rules(SERVICES, []).splitlines() == [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        ":OSM_SERVICES - [0:0]",
        "-A PREROUTING -d 10.43.0.0/16 -j OSM_SERVICES",
        "-A OUTPUT -d 10.43.0.0/16 -j OSM_SERVICES",
        "COMMIT",
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "-A FORWARD -d 10.43.0.0/16 -p tcp -j REJECT --reject-with tcp-reset",
        "-A FORWARD -d 10.43.0.0/16 -j REJECT",
        "-A OUTPUT -d 10.43.0.0/16 -p tcp -j REJECT --reject-with tcp-reset",
        "-A OUTPUT -d 10.43.0.0/16 -j REJECT",
        "COMMIT",
    ]
