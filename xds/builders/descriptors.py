"""Descriptors of shared rate limits as Envoy composes them of a request.

Specification: data-plane 4.10.
"""

from __future__ import annotations

from typing import assert_never

from xds.policy.limits import (
    Descriptor,
    Entry,
    GenericKey,
    HeaderCondition,
    HeaderEntry,
    HeaderValueMatch,
    RemoteAddress,
)
from xds.protos import HeaderMatcher, RateLimit, RegexMatcher, StringMatcher


def rate_limit(descriptor: Descriptor) -> RateLimit:
    """The actions that compose the descriptor; it has an entry at least."""
    return RateLimit(actions=[_action(entry) for entry in descriptor])


def _action(entry: Entry) -> RateLimit.Action:
    found = RateLimit.Action()
    match entry:
        case GenericKey():
            found.generic_key.descriptor_key = entry.key
            found.generic_key.descriptor_value = entry.value
        case RemoteAddress():
            found.remote_address.SetInParent()
        case HeaderEntry():
            found.request_headers.header_name = entry.header
            found.request_headers.descriptor_key = entry.key
        case HeaderValueMatch():
            found.header_value_match.descriptor_key = entry.key
            found.header_value_match.descriptor_value = entry.value
            found.header_value_match.expect_match.value = entry.expect
            found.header_value_match.headers.extend(_matcher(one) for one in entry.headers)
        case _:
            assert_never(entry)
    return found


def _matcher(condition: HeaderCondition) -> HeaderMatcher:
    if condition.how == "present":
        return HeaderMatcher(name=condition.name, present_match=condition.value == "true")
    text = StringMatcher()
    if condition.how == "regex":
        text.safe_regex.CopyFrom(RegexMatcher(regex=condition.value))
    else:
        setattr(text, condition.how, condition.value)
    return HeaderMatcher(name=condition.name, string_match=text)
