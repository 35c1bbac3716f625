"""Application errors: one tree, each class with a code, an exit status and an HTTP status.

    MeshError                    (xds.resource)
    ├── IdentityError     E5001  (xds.policy.identity)
    ├── ResourceError     E5007  (xds.resource)
    └── AppError
        ├── SettingError         E1000   a process option is wrong
        ├── RightsError          E1006   this machine does not let us do it
        ├── ObjectError          E3002   an object cannot be read
        ├── WriteConflict        E3001   somebody else wrote the object first
        ├── KubernetesError      E3004   the API server refuses what it was asked
        ├── UnauthenticatedError E1009   the caller of the admin API is not known
        ├── ForbiddenError       E1010   the caller lacks a right
        ├── ListenError          E6102   a listener cannot be opened
        ├── InjectionRegistrationError  E6113  the API server cannot be told to ask for injection
        ├── ValidationRegistrationError E6703  the API server cannot be told to ask for validation
        ├── WebhookRootError     E6702   there is no root by which webhooks can be trusted
        ├── CertificateError     E4014   a certificate could not be issued
        ├── CaError              E4016   the root is missing, damaged or expired
        ├── InjectionError       E6108   a Pod cannot be given a sidecar
        │   ├── NamespaceInjectionError E6109  its namespace is missing or annotated wrongly
        │   └── ExclusionError   E6110   an exclusion or inclusion annotation is wrong
        ├── StartError           E1008   a container's process cannot be started
        ├── UnreachableError     E1007   the control plane does not answer
        │   └── UncheckedError       E1011  the API server cannot say who calls
        ├── RefusedError         E3005   the mesh is not in a state for the change
        └── NotFoundError        E3003   no such thing

Each docstring is the text of ``osm support error-info``; docs/errors.md is generated from it.
Expected outcomes (skip, rejected, nack) are values, not errors: ``FINDINGS`` has the codes that
only those and log lines carry. Specification: kubernetes-surface 8.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from xds.resource import MeshError


class AppError(MeshError):
    """Base of the application's errors."""

    code = "E1000"
    exit_status = 1
    http_status = 500


class SettingError(AppError):
    """A process option is missing or wrong; the message names it and a value that would do."""

    code = "E1000"
    http_status = 400


class RightsError(AppError):
    """This machine lacks a right or a program; the message names it."""

    code = "E1006"


class StartError(AppError):
    """A container's process cannot be started; the message names the program, file or directory."""

    code = "E1008"


class UnreachableError(AppError):
    """The control plane or a sidecar does not answer; the message says where it was tried."""

    code = "E1007"
    http_status = 502


class UncheckedError(UnreachableError):
    """The caller of the admin API cannot be checked: the API server does not answer; try again."""

    code = "E1011"
    http_status = 503


class RefusedError(AppError):
    """The mesh is not in a state for what was asked; the message says what to change first."""

    code = "E3005"
    http_status = 409


class NotFoundError(AppError):
    """There is no such object, proxy or container; the message names what exists."""

    code = "E3003"
    http_status = 404


class ObjectError(AppError):
    """An object cannot be read; the message names object, field and a value that would do."""

    code = "E3002"
    http_status = 400


class WriteConflict(AppError):  # noqa: N818 the name of the outcome in Kubernetes
    """Somebody else wrote or deleted the object first; read it again and retry."""

    code = "E3001"
    http_status = 409


class KubernetesError(AppError):
    """The API server refuses what it was asked; the message has its words and the object."""

    code = "E3004"
    http_status = 502


class UnauthenticatedError(AppError):
    """The caller of the admin API is not known; the message says how to send a token."""

    code = "E1009"
    http_status = 401


class ForbiddenError(AppError):
    """The caller lacks a right; the message names verb and object, as a role needs them."""

    code = "E1010"
    http_status = 403


class ListenError(AppError):
    """A listener of the control plane cannot be opened; the message names address and reason."""

    code = "E6102"


class InjectionRegistrationError(AppError):
    """The webhook configuration of injection cannot be written; no Pod would get a sidecar."""

    code = "E6113"


class ValidationRegistrationError(AppError):
    """The webhook configuration of validation cannot be written; nothing would be validated."""

    code = "E6703"


class WebhookRootError(AppError):
    """There is no root by which the API server could trust a webhook; nothing is written."""

    code = "E6702"


class CertificateError(AppError):
    """A certificate could not be issued; workloads keep what they have, and it is tried again."""

    code = "E4014"


class CaError(AppError):
    """The mesh's root is missing, damaged or expired; the message names the Secret to repair."""

    code = "E4016"


class InjectionError(AppError):
    """A Pod cannot be given a sidecar; the message names the annotation or field to change."""

    code = "E6108"
    http_status = 400


class NamespaceInjectionError(InjectionError):
    """The namespace of a Pod is missing or has an annotation with an unknown value; it is named."""

    code = "E6109"


class ExclusionError(InjectionError):
    """A port or address list in an annotation of a Pod is wrong; value and annotation are named."""

    code = "E6110"


FINDINGS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "E1001": ("SettingLogLevel", "The log level is unknown and stays as it was."),
        "E2002": (
            "InvalidEgressIPRange",
            "A network of an Egress cannot be read and is left out.",
        ),
        "E2003": (
            "InvalidEgressMatches",
            "A host or match of an Egress cannot be read and is left out.",
        ),
        "E2004": (
            "EgressSMIHTTPRouteGroupNotFound",
            "A route group that an Egress names is missing, so it lets no request out.",
        ),
        "E2005": (
            "FetchingSMIHTTPRouteGroupForTrafficTarget",
            "A rule of a TrafficTarget leads to no route or match, so it grants nothing.",
        ),
        "E2006": (
            "SMIHTTPRouteGroupNoMatch",
            "An HTTPRouteGroup has no matches and so grants nothing.",
        ),
        "E2007": (
            "MultipleSMISplitPerServiceUnsupported",
            "A second TrafficSplit of a root is ignored; the oldest wins, then the first by name.",
        ),
        "E2008": (
            "AddingRouteToOutboundTrafficPolicy",
            "No way for traffic: another Service has the address, or no backend has a weight.",
        ),
        "E2009": (
            "GettingInboundTrafficTargets",
            "A TrafficTarget grants nothing: no rules, no sources, or a foreign destination.",
        ),
        "E2010": (
            "InvalidDestinationKind",
            "The destination of a TrafficTarget is no ServiceAccount; nothing is granted.",
        ),
        "E2011": (
            "InvalidSourceKind",
            "A source of a TrafficTarget is no ServiceAccount; that source is ignored.",
        ),
        "E2012": (
            "PolicyNotEnforced",
            "The object is read and validated, but a feature flag or this release leaves it out.",
        ),
        "E2014": (
            "IngressWithoutPrincipal",
            "An IngressBackend asks gateways for certificates and names none: nobody is let in.",
        ),
        "E2015": (
            "TrafficDenyRouteUnusable",
            "A rule of a TrafficDeny leads to no usable route, so all of its sources is denied.",
        ),
        "E3000": (
            "EndpointsNotFound",
            "A source Service of an IngressBackend has no endpoints, so it lets nobody in.",
        ),
        "E2013": (
            "PolicyOvershadowed",
            "Another object of the kind counts for the same; the oldest wins, then the name.",
        ),
        "E5000": (
            "UnexpectedError",
            "Something unforeseen failed; the log has the traceback, proxies keep what they have.",
        ),
        "E5002": (
            "FetchingPodFromCert",
            "No Pod, or several, carry a sidecar's UUID; who may not keep it is not served.",
        ),
        "E5006": (
            "SendingDiscoveryResponse",
            "A proxy rejected its configuration and keeps its last good one; Envoy says why.",
        ),
        "E5010": (
            "MismatchedServiceAccount",
            "A sidecar's certificate names another service account than its Pod has; not served.",
        ),
        "E5020": (
            "UnsupportedProtocolForService",
            "A port's protocol is unknown, or differs from that of a port with the same target.",
        ),
        "E6101": (
            "ParsingMutatingWebhookCert",
            "A listener's new certificate cannot be used; it goes on with the one before.",
        ),
        "E6103": (
            "DecodingAdmissionReqBody",
            "An admission request is not an AdmissionReview that can be read; it is refused.",
        ),
        "E6105": (
            "InvalidAdmissionReqHeader",
            "An admission request is not declared as JSON; it is refused.",
        ),
        "E6107": ("NilAdmissionReq", "An AdmissionReview asks nothing; it is refused."),
        "E6111": (
            "ReadingAdmissionReqBody",
            "The body of an admission request broke off, came too late or is too large.",
        ),
        "E6112": ("NilAdmissionReqBody", "An admission request has no body; it is refused."),
        "E6704": (
            "RefusingObject",
            "An object breaks a rule of the mesh and is not stored; the message names the field.",
        ),
        "E6114": (
            "UpdatingMutatingWebhook",
            "The webhook configuration of injection is not up to date; it is tried again.",
        ),
        "E7000": (
            "ReconcilingUpdatedCRD",
            "An altered CustomResourceDefinition was not restored; it is tried again.",
        ),
        "E7001": (
            "ReconcilingDeletedCRD",
            "A deleted CustomResourceDefinition was not restored; it is tried again.",
        ),
        "E7002": (
            "ReconcilingUpdatedMutatingWebhook",
            "The altered webhook configuration of injection was not restored; it is tried again.",
        ),
        "E7003": (
            "ReconcilingDeletedMutatingWebhook",
            "The deleted webhook configuration of injection was not restored; it is tried again.",
        ),
        "E7004": (
            "ReconcilingUpdatedValidatingWebhook",
            "The altered webhook configuration of validation was not restored; it is tried again.",
        ),
        "E7005": (
            "ReconcilingDeletedValidatingWebhook",
            "The deleted webhook configuration of validation was not restored; it is tried again.",
        ),
    }
)
"""Codes that are values, not exceptions: each with its name and what it means."""
