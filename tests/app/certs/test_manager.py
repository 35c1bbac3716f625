from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from fakes.clock import START, FakeClock
from fakes.provider import FakeProvider

from app.certs.manager import Certificates, IssuePolicy, renewal_time
from app.events import CertificatesIssued, Event
from app.metrics import Metrics
from app.ports import CertificateRequest, IssuedCertificate
from xds.policy.identity import Issuer, ProxyId, ServiceIdentity
from xds.policy.proxy import KeyPair, SecretTable, TrustBundle

UUID = "7e6ed1a4-3a45-4f66-9a40-0a8d0e5f2a11"
DAY = timedelta(hours=24)


def identity(account: str, namespace: str = "shop") -> ServiceIdentity:
    return ServiceIdentity(namespace=namespace, service_account=account)


class Desk:
    """Certificates with a fake provider and clock, and what they posted."""

    def __init__(self, policy: IssuePolicy | None = None, jitter: float = 0.0) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock)
        self.metrics = Metrics()
        self.posted: list[SecretTable] = []
        self.heard = threading.Condition()
        self.certificates = Certificates(
            self.provider,
            self.clock,
            post=self._post,
            metrics=self.metrics,
            policy=policy,
            jitter=lambda: jitter,
        )

    def _post(self, event: Event) -> None:
        assert isinstance(event, CertificatesIssued)
        with self.heard:
            self.posted.append(event.secrets)
            self.heard.notify_all()

    def want(self, *accounts: str) -> None:
        self.certificates.want(frozenset(identity(account) for account in accounts))
        self.certificates.step()

    def chains(self) -> list[dict[str, bytes]]:
        """Per posted table: account → chain."""
        return [
            {who.service_account: pair.certificate_chain for who, pair in table.workloads.items()}
            for table in self.posted
        ]


def test_new_identities_are_issued_in_one_batch() -> None:
    desk = Desk()
    desk.want(*(f"a{number}" for number in range(1000)))
    assert [len(table.workloads) for table in desk.posted] == [1000]
    assert desk.posted[0].trust == TrustBundle(roots=b"roots-1\n")
    assert desk.metrics.certificates_issued.get() == 1000


def test_slow_issuing_is_told_in_slices() -> None:
    desk = Desk()
    issue = desk.provider.issue

    def slow(request: CertificateRequest) -> IssuedCertificate:
        desk.clock.advance(timedelta(milliseconds=200))
        return issue(request)

    desk.provider.issue = slow  # type: ignore[method-assign]
    desk.want("a", "b", "c", "d", "e")
    assert [len(table.workloads) for table in desk.posted] == [3, 5]


def test_nothing_new_posts_nothing() -> None:
    desk = Desk()
    desk.want("a")
    desk.want("a")
    desk.certificates.step()
    assert desk.chains() == [{"a": b"chain a.shop.cluster.local 1\n"}]


def test_identity_without_pods_is_dropped_and_the_others_kept() -> None:
    desk = Desk()
    desk.want("a", "b")
    desk.want("b")
    assert desk.chains()[-1] == {"b": b"chain b.shop.cluster.local 2\n"}
    assert [record.name for record in desk.certificates.records()] == ["b.shop"]


@pytest.mark.parametrize(
    ("policy", "request_made"),
    [
        pytest.param(
            IssuePolicy(),
            CertificateRequest(
                common_name="a.b.shop.cluster.local",
                dns_names=("a.b.shop.cluster.local",),
                lifetime=DAY,
            ),
            id="default",
        ),
        pytest.param(
            IssuePolicy(
                issuer=Issuer(trust_domain="td", spiffe=True),
                service_lifetime=timedelta(hours=1),
                rsa_bits=2048,
            ),
            CertificateRequest(
                common_name="a.b.shop.td",
                dns_names=("a.b.shop.td",),
                uris=("spiffe://td/a.b/shop",),
                lifetime=timedelta(hours=1),
                rsa_bits=2048,
            ),
            id="spiffe-rsa",
        ),
        pytest.param(
            IssuePolicy(issuer=Issuer(trust_domain="t" * 60)),
            CertificateRequest(common_name=None, dns_names=("a.b.shop." + "t" * 60,), lifetime=DAY),
            id="long-name-has-no-common-name",
        ),
    ],
)
def test_workload_certificate_is_named_after_its_identity(
    policy: IssuePolicy, request_made: CertificateRequest
) -> None:
    desk = Desk(policy)
    desk.want("a.b")
    assert desk.provider.requests == [request_made]


def test_policy_change_waits_for_the_next_issue() -> None:
    desk = Desk()
    desk.want("a")
    desk.certificates.follow(IssuePolicy(service_lifetime=timedelta(hours=2)))
    desk.want("a", "b")
    assert [request.lifetime for request in desk.provider.requests] == [DAY, timedelta(hours=2)]


def test_certificate_is_renewed_when_a_third_of_its_life_is_left() -> None:
    desk = Desk()
    desk.want("a")
    third = (DAY + timedelta(minutes=5)) / 3
    desk.clock.advance(DAY - third - timedelta(seconds=1))
    desk.certificates.step()
    assert len(desk.posted) == 1
    desk.clock.advance(timedelta(seconds=1))
    desk.certificates.step()
    assert desk.chains()[-1] == {"a": b"chain a.shop.cluster.local 2\n"}


@pytest.mark.parametrize(
    ("life", "jitter", "left"),
    [
        pytest.param(timedelta(hours=24), 0.0, timedelta(hours=8), id="third"),
        pytest.param(timedelta(minutes=10), 0.0, timedelta(minutes=5), id="at-least-five-minutes"),
        pytest.param(
            timedelta(hours=24), 0.999, timedelta(hours=8, seconds=4), id="jitter-whole-seconds"
        ),
    ],
)
def test_renewal_time(life: timedelta, jitter: float, left: timedelta) -> None:
    issued = IssuedCertificate(
        key_pair=KeyPair(certificate_chain=b"", private_key=b""),
        serial="1",
        not_before=START,
        not_after=START + life,
    )
    assert renewal_time(issued, jitter=jitter) == START + life - left


def test_failure_keeps_the_old_certificate_and_backs_off() -> None:
    desk = Desk()
    desk.want("a", "b")
    desk.provider.failing = {"a.shop.cluster.local"}
    desk.clock.advance(timedelta(hours=16))
    attempts = []
    for seconds in (0, 4, 1, 9, 1, 19, 1):
        desk.clock.advance(timedelta(seconds=seconds))
        before = desk.provider.attempts
        desk.certificates.step()
        attempts.append(desk.provider.attempts - before)
    assert attempts == [2, 0, 1, 0, 1, 0, 1]
    assert desk.chains()[-1] == {
        "a": b"chain a.shop.cluster.local 1\n",
        "b": b"chain b.shop.cluster.local 3\n",
    }
    desk.provider.failing = set()
    desk.clock.advance(timedelta(minutes=5))
    desk.certificates.step()
    assert desk.chains()[-1]["a"] == b"chain a.shop.cluster.local 4\n"


def test_failing_identity_holds_up_no_other() -> None:
    desk = Desk()
    desk.provider.failing = {"a.shop.cluster.local"}
    desk.want("a", "b")
    assert desk.chains() == [{"b": b"chain b.shop.cluster.local 1\n"}]


def test_certificate_past_half_of_its_renewal_time_is_counted() -> None:
    desk = Desk()
    desk.want("a")
    desk.provider.failing = {"a.shop.cluster.local"}
    desk.clock.advance(timedelta(hours=21))
    desk.certificates.step()
    assert b"osm_certs_overdue 1.0" in desk.metrics.render()


def test_new_roots_are_told_with_the_same_leaves() -> None:
    desk = Desk()
    desk.want("a")
    desk.provider.roots = b"roots-2\n"
    desk.certificates.step()
    assert desk.chains()[0] == desk.chains()[1]
    assert desk.posted[1].trust == desk.certificates.trust == TrustBundle(roots=b"roots-2\n")


def test_sidecar_certificate_is_named_by_uuid_and_never_kept() -> None:
    desk = Desk(IssuePolicy(issuer=Issuer(trust_domain="td", spiffe=True)))
    proxy = ProxyId(uuid=UUID, identity=identity("curl"))
    desk.certificates.issue_sidecar(proxy)
    assert desk.provider.requests == [
        CertificateRequest(
            common_name=UUID,
            dns_names=(f"{UUID}.sidecar.curl.shop.td",),
            uris=(f"spiffe://td/{UUID}/sidecar/curl/shop",),
            lifetime=timedelta(hours=720),
        )
    ]
    assert desk.certificates.records() == ()


def test_server_certificate_is_renewed_and_its_holder_told() -> None:
    desk = Desk()
    heard: list[bytes] = []
    desk.certificates.hold(
        "ads",
        dns_names=("ads.cluster.local", "osm-controller.osm-system.svc.cluster.local"),
        changed=lambda pair, _: heard.append(pair.certificate_chain),
    )
    assert desk.certificates.held("ads").certificate_chain == b"chain ads.cluster.local 1\n"
    desk.clock.advance(timedelta(hours=87600 * 2 / 3))
    desk.certificates.step()
    assert heard == [b"chain ads.cluster.local 2\n"]
    assert desk.certificates.held("ads").certificate_chain == heard[0]
    assert [request.dns_names[1] for request in desk.provider.requests] == [
        "osm-controller.osm-system.svc.cluster.local"
    ] * 2
    assert desk.posted == []


def test_records_show_no_key() -> None:
    desk = Desk()
    desk.want("a")
    (record,) = desk.certificates.records()
    assert (record.name, record.serial, record.not_after) == ("a.shop", "1", START + DAY)
    assert record.certificate_chain == b"chain a.shop.cluster.local 1\n"
    assert "key" not in repr(desk.posted)


def test_thread_issues_by_itself_and_ends() -> None:
    desk = Desk()
    desk.certificates.start()
    desk.certificates.want(frozenset([identity("a")]))
    with desk.heard:
        assert desk.heard.wait_for(lambda: bool(desk.posted), timeout=5)
    desk.certificates.stop()
    assert desk.chains() == [{"a": b"chain a.shop.cluster.local 1\n"}]
    assert not any(thread.name == "certs" for thread in threading.enumerate())


def test_thread_outlives_a_broken_provider() -> None:
    desk = Desk()

    def broken() -> TrustBundle:
        with desk.heard:
            desk.provider.trust_bundle = lambda: TrustBundle(roots=b"")  # type: ignore[method-assign]
            desk.heard.notify_all()
        raise OSError("connection refused")

    desk.provider.trust_bundle = broken  # type: ignore[method-assign]
    desk.certificates.start()
    with desk.heard:
        assert desk.heard.wait_for(lambda: desk.provider.trust_bundle is not broken, timeout=5)
    desk.certificates.want(frozenset([identity("a")]))
    with desk.heard:
        assert desk.heard.wait_for(lambda: bool(desk.posted), timeout=5)
    desk.certificates.stop()


def test_stopping_leaves_the_rest_unissued() -> None:
    desk = Desk()
    issue = desk.provider.issue

    def stopping(request: CertificateRequest) -> IssuedCertificate:
        desk.certificates.stop()
        return issue(request)

    desk.provider.issue = stopping  # type: ignore[method-assign]
    desk.want("a", "b")
    assert (len(desk.provider.requests), desk.posted) == (1, [])


def test_stop_before_start_is_harmless() -> None:
    Desk().certificates.stop()
