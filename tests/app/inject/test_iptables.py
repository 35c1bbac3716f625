"""What is redirected: annotations and MeshConfig to lists, lists to rules in the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from envoy_harness.netns import Namespace, namespace

from app.errors import ExclusionError
from app.inject.iptables import Redirection, init_script, redirection
from app.objects.config import MeshConfigSpec

PREFIX = "openservicemesh.io/"
OUT_PORTS, IN_PORTS = (
    f"{PREFIX}outbound-port-exclusion-list",
    f"{PREFIX}inbound-port-exclusion-list",
)
EXCLUDED = f"{PREFIX}outbound-ip-range-exclusion-list"
INCLUDED = f"{PREFIX}outbound-ip-range-inclusion-list"


def traffic(**fields: Any) -> MeshConfigSpec:
    return MeshConfigSpec.model_validate({"traffic": fields})


@pytest.mark.parametrize(
    ("config", "annotations", "wanted"),
    [
        pytest.param(MeshConfigSpec(), {}, Redirection(), id="nothing-excluded"),
        pytest.param(
            traffic(inboundPortExclusionList=[6379, 80], outboundPortExclusionList=[443]),
            {IN_PORTS: " 7070, 80 ", OUT_PORTS: "443,1"},
            Redirection(inbound_ports=(6379, 80, 7070), outbound_ports=(443, 1)),
            id="ports-global-first-without-repeats",
        ),
        pytest.param(
            traffic(
                outboundIPRangeExclusionList=["10.0.0.0/8", "1.2.3.4/32"],
                outboundIPRangeInclusionList=["0.0.0.0/0"],
            ),
            {EXCLUDED: "192.168.1.7/16 , 10.0.0.0/8", INCLUDED: "172.16.0.0/12"},
            Redirection(
                excluded_ranges=("192.168.0.0/16", "10.0.0.0/8", "1.2.3.4/32"),
                included_ranges=("172.16.0.0/12", "0.0.0.0/0"),
            ),
            id="ranges-pod-first-without-host-bits",
        ),
        pytest.param(
            traffic(
                networkInterfaceExclusionList=["eth1", "a b", "x;reboot", "", "n" * 16, "eth1"]
            ),
            {},
            Redirection(interfaces=("eth1",)),
            id="interfaces-the-kernel-would-not-take-are-dropped",
        ),
        pytest.param(
            MeshConfigSpec.model_validate({"sidecar": {"localProxyMode": "PodIP"}}),
            {},
            Redirection(deliver_to_pod_ip=True),
            id="pod-ip",
        ),
    ],
)
def test_lists_of_mesh_and_pod_are_united(
    config: MeshConfigSpec, annotations: Mapping[str, str], wanted: Redirection
) -> None:
    assert redirection(config, annotations, ()) == wanted


def test_ports_that_the_kubelet_probes_itself_are_not_redirected() -> None:
    found = redirection(MeshConfigSpec(), {IN_PORTS: "80"}, (8443, 80))
    assert found == Redirection(inbound_ports=(80, 8443))


@pytest.mark.parametrize("annotation", [IN_PORTS, OUT_PORTS])
@pytest.mark.parametrize(
    "value", ["http", "0", "-1", "65536", "", "80,", "8 0", "٣", "1e3", "9" * 5000, "+80", "1_0"]
)
def test_bad_port_is_an_error(annotation: str, value: str) -> None:
    with pytest.raises(ExclusionError, match=f"^Pod annotation {annotation}: .* is not a port"):
        redirection(MeshConfigSpec(), {annotation: value}, ())


@pytest.mark.parametrize("annotation", [IN_PORTS, OUT_PORTS])
def test_port_listed_twice_is_an_error(annotation: str) -> None:
    with pytest.raises(ExclusionError) as error:
        redirection(MeshConfigSpec(), {annotation: "80, 81,80"}, ())
    assert str(error.value) == f"Pod annotation {annotation}: port 80 is listed twice"
    assert error.value.code == "E6110"


@pytest.mark.parametrize("annotation", [EXCLUDED, INCLUDED])
@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/255.0.0.0",
        "fd00::/8",
        "10.0.0/8",
        "",
        "a/8",
    ],
)
def test_bad_range_is_an_error(annotation: str, value: str) -> None:
    with pytest.raises(ExclusionError, match=f"^Pod annotation {annotation}: .* is not an IPv4"):
        redirection(MeshConfigSpec(), {annotation: value}, ())


@pytest.fixture
def net() -> Iterator[Namespace]:
    with namespace() as inner:
        yield inner


def run_script(net: Namespace, wanted: Redirection, pod_ip: str = "10.9.8.7") -> None:
    done = subprocess.run(
        [*net.prefix, "/bin/sh", "-c", init_script(wanted)],
        env={"PATH": os.environ["PATH"], "POD_IP": pod_ip},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def rules(net: Namespace) -> list[str]:
    """The nat table as the kernel has it, without policies and chains."""
    shown = subprocess.run(
        [*net.prefix, "iptables", "-t", "nat", "-S"], capture_output=True, text=True, check=True
    )
    return [line for line in shown.stdout.splitlines() if line.startswith("-A")]


IN, OUT = "-A OSM_PROXY_INBOUND", "-A OSM_PROXY_OUTBOUND"
JUMP_IN = "-A PREROUTING -p tcp -j OSM_PROXY_INBOUND"
JUMP_OUT = "-A OUTPUT -p tcp -j OSM_PROXY_OUTBOUND"
OWN_PORTS = [
    f"{IN} -p tcp -m tcp --dport {port} -j RETURN" for port in (15010, 15901, 15902, 15903)
]
IN_REDIRECT = f"{IN} -p tcp -j OSM_PROXY_IN_REDIRECT"
REDIRECT_IN = "-A OSM_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15003"
REDIRECT_OUT = "-A OSM_PROXY_OUT_REDIRECT -p tcp -j REDIRECT --to-ports 15001"
EXEMPT = [
    f"{OUT} ! -d 127.0.0.1/32 -o lo -m owner --uid-owner 1500 -j OSM_PROXY_IN_REDIRECT",
    f"{OUT} -o lo -m owner ! --uid-owner 1500 -j RETURN",
    f"{OUT} -m owner --uid-owner 1500 -j RETURN",
    f"{OUT} -d 127.0.0.1/32 -j RETURN",
]
TO_OWN_LOOPBACK = "-A OUTPUT -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1500"
OUT_REDIRECT = f"{OUT} -j OSM_PROXY_OUT_REDIRECT"


def multiport(chain: str, *ports: int) -> str:
    return f"{chain} -p tcp -m multiport --dports {','.join(map(str, ports))} -j RETURN"


@pytest.mark.root
@pytest.mark.parametrize(
    ("wanted", "kernel"),
    [
        pytest.param(
            Redirection(),
            [
                JUMP_IN,
                JUMP_OUT,
                *OWN_PORTS,
                IN_REDIRECT,
                REDIRECT_IN,
                *EXEMPT,
                OUT_REDIRECT,
                REDIRECT_OUT,
            ],
            id="everything-is-redirected",
        ),
        pytest.param(
            Redirection(
                inbound_ports=(6379,),
                outbound_ports=(3306, 443),
                excluded_ranges=("10.0.0.0/8",),
                interfaces=("eth1", "eth2"),
            ),
            [
                JUMP_IN,
                JUMP_OUT,
                multiport(IN, 6379),
                f"{IN} -i eth2 -j RETURN",
                f"{IN} -i eth1 -j RETURN",
                *OWN_PORTS,
                IN_REDIRECT,
                REDIRECT_IN,
                *EXEMPT,
                f"{OUT} -o eth1 -j RETURN",
                f"{OUT} -o eth2 -j RETURN",
                f"{OUT} -d 10.0.0.0/8 -j RETURN",
                multiport(OUT, 3306, 443),
                OUT_REDIRECT,
                REDIRECT_OUT,
            ],
            id="exclusions",
        ),
        pytest.param(
            Redirection(included_ranges=("10.0.0.0/8", "1.2.3.4/32"), outbound_ports=(1,)),
            [
                JUMP_IN,
                JUMP_OUT,
                *OWN_PORTS,
                IN_REDIRECT,
                REDIRECT_IN,
                *EXEMPT,
                multiport(OUT, 1),
                f"{OUT} -d 10.0.0.0/8 -j OSM_PROXY_OUT_REDIRECT",
                f"{OUT} -d 1.2.3.4/32 -j OSM_PROXY_OUT_REDIRECT",
                f"{OUT} -j RETURN",
                REDIRECT_OUT,
            ],
            id="only-what-is-included",
        ),
        pytest.param(
            Redirection(inbound_ports=tuple(range(1, 17)), outbound_ports=tuple(range(1, 32))),
            [
                JUMP_IN,
                JUMP_OUT,
                multiport(IN, 16),
                multiport(IN, *range(1, 16)),
                *OWN_PORTS,
                IN_REDIRECT,
                REDIRECT_IN,
                *EXEMPT,
                multiport(OUT, *range(1, 16)),
                multiport(OUT, *range(16, 31)),
                multiport(OUT, 31),
                OUT_REDIRECT,
                REDIRECT_OUT,
            ],
            id="more-ports-than-one-rule-takes",
        ),
        pytest.param(
            Redirection(deliver_to_pod_ip=True),
            [
                JUMP_IN,
                f"{TO_OWN_LOOPBACK} -m tcp --dport 15000 -j RETURN",
                f"{TO_OWN_LOOPBACK} -j DNAT --to-destination 10.9.8.7",
                JUMP_OUT,
                *OWN_PORTS,
                IN_REDIRECT,
                REDIRECT_IN,
                *EXEMPT,
                OUT_REDIRECT,
                REDIRECT_OUT,
            ],
            id="delivered-to-the-pod-ip",
        ),
    ],
)
def test_script_makes_the_same_rules_however_often_it_runs(
    net: Namespace, wanted: Redirection, kernel: list[str]
) -> None:
    run_script(net, wanted)
    assert rules(net) == kernel
    run_script(net, wanted)
    assert rules(net) == kernel


@pytest.mark.root
def test_script_replaces_the_rules_of_an_earlier_one(net: Namespace) -> None:
    run_script(net, Redirection(inbound_ports=(80,), excluded_ranges=("10.0.0.0/8",)))
    run_script(net, Redirection())
    assert not [rule for rule in rules(net) if "10.0.0.0/8" in rule or "dports 80" in rule]


@pytest.mark.root
def test_script_leaves_other_rules_alone(net: Namespace) -> None:
    net.run("iptables", "-t", "nat", "-A", "PREROUTING", "-p", "udp", "-j", "RETURN")
    run_script(net, Redirection())
    assert rules(net)[:2] == ["-A PREROUTING -p udp -j RETURN", JUMP_IN]


@pytest.mark.root
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        pytest.param(
            {"PATH": os.environ["PATH"]},
            "osm-init: POD_IP is empty, but localProxyMode PodIP needs the address of the Pod\n",
            id="no-pod-ip",
        ),
        pytest.param(
            {"PATH": "/nowhere", "POD_IP": "10.9.8.7"},
            "osm-init: no iptables works: the kernel has no nat table, or NET_ADMIN is refused\n"
            "(then set sidecar.enablePrivilegedInitContainer, or exempt the namespace)\n",
            id="no-iptables",
        ),
    ],
)
def test_script_that_cannot_work_says_why(
    net: Namespace, environment: dict[str, str], message: str
) -> None:
    script = init_script(Redirection(deliver_to_pod_ip=True))
    command = ["/sbin/ip", *net.prefix[1:], "/bin/sh", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, message)
    assert rules(net) == []
