"""The API server as a cluster of raw objects: the only door to its client library.

The library reads kubeconfig and service-account files, refreshes credentials and opens TLS and
web sockets; ``kube_cluster`` does the rest. The control plane gets a ``KubeClient`` from
``in_cluster``, the CLI from ``from_kubeconfig``, which also forwards ports and makes tokens.
Source: HOUSE 5; kubernetes-surface 8.
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import ConfigException
from kubernetes.config.incluster_config import InClusterConfigLoader
from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger
from kubernetes.stream.ws_client import PortForward, create_websocket, get_websocket_url
from urllib3.connection import HTTPConnection
from websocket import WebSocketBadStatusException, WebSocketException
from yaml import YAMLError

from app.compute.kube_answers import Answer, refusal
from app.compute.kube_cluster import KubeCluster
from app.compute.kube_http import KubeHttp
from app.errors import SettingError, UnreachableError

SERVICE_ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_POOL_CONNECTIONS = 64
"""Kept open; more are opened where more threads ask."""


class KubeClient(KubeCluster):
    """A cluster found by kubeconfig or as a Pod; each call ends within ``timeout_seconds``."""

    def __init__(
        self, configuration: Configuration, *, namespace: str, timeout_seconds: float
    ) -> None:
        configuration.connection_pool_maxsize = _POOL_CONNECTIONS
        configuration.socket_options = _socket_options()
        self._configuration = configuration
        pool = RESTClientObject(configuration).pool_manager
        super().__init__(
            KubeHttp(pool, self.host, self._authorization), timeout_seconds=timeout_seconds
        )
        self.namespace = namespace
        """Where objects without a namespace are meant to be: the context's, or the Pod's own."""

    @classmethod
    def in_cluster(
        cls,
        *,
        timeout_seconds: float = 10.0,
        folder: Path = SERVICE_ACCOUNT_FOLDER,
        environment: Mapping[str, str] | None = None,
    ) -> KubeClient:
        """As the Pod's service account; its token is read again as it is renewed.

        Raise ``SettingError`` outside a cluster.
        """
        configuration = Configuration()
        loader = InClusterConfigLoader(
            token_filename=str(folder / "token"),
            cert_filename=str(folder / "ca.crt"),
            environ=os.environ if environment is None else environment,
        )
        try:
            loader.load_and_set(configuration)
            namespace = (folder / "namespace").read_text(encoding="utf-8").strip()
        except (ConfigException, OSError) as error:
            raise SettingError(f"this is no Pod with a service account: {error}") from error
        return cls(configuration, namespace=namespace, timeout_seconds=timeout_seconds)

    @classmethod
    def from_kubeconfig(
        cls,
        path: Path | None = None,
        context: str | None = None,
        *,
        timeout_seconds: float = 10.0,
    ) -> KubeClient:
        """As the user of a context, the current one by default.

        Without a path: the files of KUBECONFIG, else ``~/.kube/config``. Raise ``SettingError``.
        """
        files = str(path or os.environ.get("KUBECONFIG") or "~/.kube/config")
        try:
            configuration, namespace = _read_kubeconfig(files, context)
        except (ConfigException, YAMLError, OSError, ValueError, LookupError, TypeError) as error:
            raise SettingError(f"kubeconfig {files}: {error}") from error
        return cls(configuration, namespace=namespace, timeout_seconds=timeout_seconds)

    @property
    def host(self) -> str:
        """The server's URL."""
        return str(self._configuration.host).rstrip("/")

    def bearer_token(self) -> str | None:
        """The user's token, asked of an exec plugin where one is configured; None: has none."""
        scheme, _, token = (self._authorization() or "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token else None

    def as_bearer(self, token: str) -> KubeCluster:
        """The same server as the token's owner alone: our own client certificate is not shown."""
        nobody = copy.copy(self._configuration)
        nobody.cert_file = nobody.key_file = None
        pool = RESTClientObject(nobody).pool_manager
        other = copy.copy(self)
        other._http = KubeHttp(pool, self.host, lambda: f"Bearer {token}")  # noqa: SLF001 our copy
        return other

    # What only the CLI asks

    def create_token(self, namespace: str, service_account: str, seconds: int) -> str:
        """A token of the service account, for so long; the server takes 600 s and more."""
        path = self._needed("v1", "ServiceAccount").path(
            namespace=namespace, name=service_account, subresource="token"
        )
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        doing = f"create a token of ServiceAccount {namespace}/{service_account}"
        return str(self._write("POST", path, asked, doing=doing)["status"]["token"])

    def open_tunnel(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A stream to a port of the Pod; it ends when the Pod refuses or closes it.

        Raise ``NotFoundError``, ``ForbiddenError``, ``UnreachableError``.
        """
        doing = f"forward port {port} of Pod {namespace}/{pod}"
        path = self._needed("v1", "Pod").path(
            namespace=namespace, name=pod, subresource="portforward"
        )
        url = get_websocket_url(f"{self.host}{path}", [("ports", str(port))])
        headers = {"sec-websocket-protocol": "v4.channel.k8s.io"}
        authorization = self._authorization()
        if authorization:
            headers["authorization"] = authorization
        try:
            opened = create_websocket(self._configuration, url, headers)
        except WebSocketBadStatusException as error:
            body = error.resp_body or b""
            raise refusal(Answer(status=error.status_code, body=bytes(body)), doing) from error
        except (WebSocketException, OSError) as error:
            raise UnreachableError(f"{doing}: {error}") from error
        tunnel: socket.socket = PortForward(opened, [port]).socket(port)
        return tunnel

    def _authorization(self) -> str | None:
        """The header's present value; reads a renewed token, or runs an exec plugin again."""
        configuration = self._configuration
        try:
            if configuration.refresh_api_key_hook is not None:
                configuration.refresh_api_key_hook(configuration)
        except (ConfigException, OSError) as error:
            raise UnreachableError(f"our credentials cannot be read now: {error}") from error
        # A file may end with a line; a header must not, and the refusal of one would show it.
        return next((value.strip() for value in configuration.api_key.values()), None)


def _read_kubeconfig(files: str, context: str | None) -> tuple[Configuration, str]:
    """Server and credentials of a context, and its namespace.

    Relative paths in a file are relative to it; the first file that has a name counts.
    """
    found = KubeConfigMerger(files)
    if found.config is None:
        raise ConfigException("there is no such file; name one with --kubeconfig or KUBECONFIG")
    loader = KubeConfigLoader(
        config_dict=found.config,
        active_context=context,
        config_base_path=None,
        config_persister=found.save_changes,
    )
    configuration = Configuration()
    loader.load_and_set(configuration)
    chosen = loader.current_context["context"]
    user = found.config["users"].get_with_name(chosen.get("user"), safe=True)
    # The library only logs what went wrong with a plugin, and would go on as nobody.
    has_plugin = user is not None and "exec" in user["user"]
    if has_plugin and not (configuration.api_key or configuration.cert_file):
        command = user["user"]["exec"]["command"]
        raise ConfigException(f"the plugin {command} gave no credentials; run it to see why")
    return configuration, chosen.get("namespace") or "default"


def _socket_options() -> list[tuple[int, int, int | bytes]]:
    """A peer that vanished without a word is noticed within a minute, also under a watch."""
    return [
        *HTTPConnection.default_socket_options,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ]
