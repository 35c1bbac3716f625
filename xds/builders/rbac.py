"""Principals and matches in, role-based access rules out.

A name is compared with one kind of subject alternative name only (``mtls_authenticated``), because
Envoy's plain ``authenticated`` tries one kind after the other. An empty list of principals never
means "anyone": such a policy cannot be written here. Specification: data-plane 4.4 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds.builders import names
from xds.builders.tls import san_matcher
from xds.policy.http import ANY_REQUEST, HeaderMatch, HttpMatch
from xds.policy.identity import SubjectName
from xds.policy.traffic import InboundRule, TcpPermission
from xds.protos import (
    RBAC,
    Filter,
    HeaderMatcher,
    HttpRbac,
    MtlsAuthenticated,
    NetworkRbac,
    PathMatcher,
    Permission,
    Policy,
    Principal,
    RBACPerRoute,
    RegexMatcher,
    StringMatcher,
    TypedExtensionConfig,
    pack,
)

_STAT_PREFIX = "network-"
_DENIALS_STAT_PREFIX = "network-deny-"
_PRINCIPAL = "envoy.rbac.principals.mtls_authenticated"


def host_rbac(rules: Iterable[InboundRule]) -> RBACPerRoute | None:
    """The rules of a virtual host: a request is allowed if any policy fits; None: nothing to check.

    Nothing is to check where every rule admits any mesh identity: the handshake has checked that.
    """
    rules = tuple(rules)
    if all(rule.principals is None for rule in rules):
        return None
    granted = RBAC(action=RBAC.ALLOW)
    for rule in rules:
        policy = Policy(
            permissions=[match_permission(rule.match)], principals=named_principals(rule.principals)
        )
        granted.policies[names.match_text(rule.match)].MergeFrom(policy)
    return RBACPerRoute(rbac=HttpRbac(rules=granted))


def host_denials(rules: Iterable[InboundRule]) -> RBACPerRoute | None:
    """The denials of a virtual host: a request is refused if any policy fits; None: there are none.

    A denial of any request asks for no path, so that nothing without one slips through.
    """
    denied = RBAC(action=RBAC.DENY)
    for rule in rules:
        if rule.principals != ():
            anything = rule.match == ANY_REQUEST
            permission = Permission(any=True) if anything else match_permission(rule.match)
            policy = Policy(permissions=[permission], principals=named_principals(rule.principals))
            denied.policies[names.match_text(rule.match)].MergeFrom(policy)
    return RBACPerRoute(rbac=HttpRbac(rules=denied)) if denied.policies else None


def network_denials(peers: Iterable[SubjectName]) -> Filter:
    """Closes the connections of these peers, before anything asks what they are allowed."""
    denied = RBAC(action=RBAC.DENY)
    policy = Policy(permissions=[Permission(any=True)], principals=named_principals(tuple(peers)))
    denied.policies["denied"].MergeFrom(policy)
    config = NetworkRbac(stat_prefix=_DENIALS_STAT_PREFIX, rules=denied)
    return Filter(name="osm.deny.network", typed_config=pack(config))


def network_rbac(permissions: Iterable[TcpPermission]) -> Filter:
    """The second line of a TCP chain, behind the names its handshake accepts."""
    granted = RBAC(action=RBAC.ALLOW)
    for permission in permissions:
        policy = Policy(
            permissions=[Permission(any=True)], principals=named_principals(permission.principals)
        )
        granted.policies[permission.name].MergeFrom(policy)
    config = NetworkRbac(stat_prefix=_STAT_PREFIX, rules=granted)
    return Filter(name="envoy.filters.network.rbac", typed_config=pack(config))


def full_match(pattern: str) -> StringMatcher:
    """The matcher of a whole text by an RE2 pattern."""
    return StringMatcher(safe_regex=RegexMatcher(regex=pattern))


def method_matcher(method: str) -> HeaderMatcher:
    """The matcher of one request method."""
    return HeaderMatcher(name=":method", string_match=StringMatcher(exact=method))


def header_matcher(header: HeaderMatch) -> HeaderMatcher:
    """The matcher of one header's whole value."""
    return HeaderMatcher(name=header.name, string_match=full_match(header.pattern))


def match_permission(match: HttpMatch) -> Permission:
    """Requests that fit the match."""
    needed = [Permission(url_path=PathMatcher(path=full_match(match.path)))]
    if match.methods:
        methods = [Permission(header=method_matcher(method)) for method in match.methods]
        needed.append(Permission(or_rules=Permission.Set(rules=methods)))
    needed += [Permission(header=header_matcher(header)) for header in match.headers]
    return Permission(and_rules=Permission.Set(rules=needed))


def named_principals(peers: tuple[SubjectName, ...] | None) -> list[Principal]:
    """Who has one of the names in its certificate; None: any certificate of the mesh."""
    if peers is None:
        return [_principal(MtlsAuthenticated(any_validated_client_certificate=True))]
    return [_principal(MtlsAuthenticated(san_matcher=san_matcher(peer))) for peer in peers]


def _principal(config: MtlsAuthenticated) -> Principal:
    return Principal(custom=TypedExtensionConfig(name=_PRINCIPAL, typed_config=pack(config)))
