from pathlib import Path

import pytest

from app.errors import RightsError
from app.standalone import rights


@pytest.mark.parametrize(
    ("effective", "lacking"),
    [
        pytest.param("000001ffffffffff", (), id="all"),
        pytest.param("00000000000030e3", ("CAP_SYS_ADMIN",), id="no-sys-admin"),
        pytest.param("00000000a80425fb", ("CAP_NET_ADMIN", "CAP_SYS_ADMIN"), id="docker-default"),
    ],
)
def test_lacking_capabilities(effective: str, lacking: tuple[str, ...]) -> None:
    status = f"Name:\tpython\nCapEff:\t{effective}\nSeccomp:\t0\n"
    assert rights.lacking_capabilities(status) == lacking


@pytest.mark.parametrize(
    ("found", "clauses"),
    [
        pytest.param({"ip": "/sbin/ip", "iptables": "/sbin/iptables"}, (), id="all"),
        pytest.param(
            {"ip": None, "iptables": "/sbin/iptables"},
            ("missing ip: install with apt-get install iproute2",),
            id="one",
        ),
        pytest.param(
            {"iptables-restore": None, "ip": None, "iptables": None},
            (
                (
                    "missing ip, iptables, iptables-restore:"
                    " install with apt-get install iproute2 iptables"
                ),
            ),
            id="all-missing-is-one-clause",
        ),
    ],
)
def test_missing_programs(found: dict[str, str | None], clauses: tuple[str, ...]) -> None:
    assert rights.missing_programs(found) == clauses


def test_the_refusal_is_one_sentence() -> None:
    with pytest.raises(RightsError) as refusal:
        rights.refuse(("you are not root: run it with sudo",))
    assert str(refusal.value) == (
        "standalone mode cannot run on this machine: you are not root: run it with sudo"
    )
    rights.refuse(())


@pytest.mark.root
def test_this_machine_lacks_nothing_but_the_programs_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rights.missing_rights() == ()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RightsError) as refusal:
        rights.require_rights()
    assert str(refusal.value) == (
        "standalone mode cannot run on this machine: missing ip, iptables, iptables-restore:"
        " install with apt-get install iproute2 iptables"
    )
