"""A real kube-apiserver for tests: started once per test process, on loopback, ended by pid.

``KUBEBUILDER_ASSETS`` names a folder with ``kube-apiserver`` (and ``kube-controller-manager``),
plain or packed as ``NAME.xz``; ``etcd`` may stand there or on the PATH. Each test takes a namespace
of its own, or a whole server where it changes what is cluster-wide.
"""

from __future__ import annotations

import base64
import contextlib
import json
import lzma
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from until import until

ASSETS = os.environ.get("KUBEBUILDER_ASSETS", "")
HOW_TO_GET_ONE = (
    "KUBEBUILDER_ASSETS is unset: name a folder with kube-apiserver and kube-controller-manager "
    "(setup-envtest use -p path), with etcd there or on the PATH"
)
ADMIN_TOKEN = "admin-token"
_DEADLINE_SECONDS = 60
_CONTROLLERS = (
    "serviceaccount,serviceaccount-token,replicaset,deployment,endpoint,garbagecollector,"
    "namespace,statefulset,job"
)
_OF_KUBERNETES = ("default", "kube-node-lease", "kube-public", "kube-system")
_PUTS_AT_ONCE = 100
"""Of 128 that etcd takes in one transaction."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def binary(name: str) -> str:
    """Path of a program of the assets, unpacked once per machine where it is packed."""
    folder = Path(ASSETS)
    plain, packed = folder / name, folder / f"{name}.xz"
    if plain.is_file():
        return str(plain)
    if packed.is_file():
        return str(_unpacked(packed, name))
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is neither in {folder} nor on the PATH")
    return found


def _unpacked(packed: Path, name: str) -> Path:
    cache = Path(tempfile.gettempdir()) / f"osm-test-assets-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    target = cache / f"{name}-{packed.stat().st_size}"
    if not target.is_file():
        part = target.with_suffix(f".{os.getpid()}")
        with lzma.open(packed) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink)
        part.chmod(0o700)
        part.rename(target)
    return target


class KubeServer:
    """etcd and kube-apiserver; with ``controllers`` also what makes ServiceAccounts come alive."""

    def __init__(self, folder: Path, *, controllers: bool = False) -> None:
        self.folder = folder
        self._controllers = controllers
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {name: _free_port() for name in ("etcd", "peer", "api")}
        self.url = f"https://127.0.0.1:{self._ports['api']}"

    # Life

    def start(self) -> None:
        """The server answers, and the default namespace exists."""
        self._write_keys()
        self._spawn("etcd", self._etcd())
        self.start_api()
        self._wait_for("/api/v1/namespaces/default")
        if self._controllers:
            self._spawn("controllers", self._manager())
            for namespace in _OF_KUBERNETES:
                self.wait_for_account(namespace)

    def start_api(self) -> None:
        """The API server answers again, at the same address with the same data."""
        self._spawn("api", self._api())
        self._wait_for("/healthz")

    def stop_api(self) -> None:
        """The API server is gone (killed); etcd keeps its data."""
        self._end("api", signal.SIGKILL)

    def compact(self) -> None:
        """Old resource versions are gone: a watch from one of them gets 410."""
        revision = json.loads(self._etcdctl("/v3/kv/range", {"key": "AA=="}))["header"]["revision"]
        self._etcdctl("/v3/kv/compaction", {"revision": revision, "physical": True})

    def store(self, objects: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Objects are in etcd, thousands a second: (``<plural>/<namespace>/<name>``, object)."""
        puts = [
            {"requestPut": {"key": _base64(f"/registry/{key}"), "value": _base64(json.dumps(raw))}}
            for key, raw in objects
        ]
        for start in range(0, len(puts), _PUTS_AT_ONCE):
            self._etcdctl("/v3/kv/txn", {"success": puts[start : start + _PUTS_AT_ONCE]})

    def erase(self, key: str) -> None:
        """An object is gone from etcd, though the API server was not asked."""
        self._etcdctl("/v3/kv/deleterange", {"key": _base64(f"/registry/{key}")})

    def keys(self) -> frozenset[str]:
        """Which objects there are, as etcd names them."""
        every = {
            "key": _base64("/registry/"),
            "range_end": _base64("/registry0"),
            "keys_only": True,
        }
        found = json.loads(self._etcdctl("/v3/kv/range", every)).get("kvs", ())
        paths = (b64decode(one["key"]).decode().removeprefix("/registry/") for one in found)
        return frozenset(paths)

    def erase_since(self, before: frozenset[str]) -> None:
        """What was made since then is gone at once, whatever finalizers say; watches tell of it."""

        def are_gone() -> bool:
            made = self.keys() - before
            for key in made:
                self.erase(key)
            return not made

        # More than once: a controller may still be making something, such as a token.
        until(are_gone, "the state of before")

    def stop(self) -> None:
        """Nothing of it runs any more."""
        for name in ("controllers", "api", "etcd"):
            self._end(name, signal.SIGKILL)

    # Asking

    @property
    def ca_file(self) -> Path:
        """The certificate the server shows; self-signed."""
        return self.folder / "certs" / "apiserver.crt"

    def kubeconfig(self, token: str = ADMIN_TOKEN, *, namespace: str = "default") -> Path:
        """A kubeconfig file for the token's owner."""
        name = base64.urlsafe_b64encode(token.encode()[-24:]).decode()
        path = self.folder / f"kubeconfig-{name}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)},
                }
            ],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "test",
                    "context": {"cluster": "test", "user": "user", "namespace": namespace},
                }
            ],
            "current-context": "test",
        }
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def call(self, method: str, path: str, body: Any = None, *, token: str = ADMIN_TOKEN) -> Any:
        """The JSON answer; ``urllib.error.HTTPError`` for a refusal. Independent of our client."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": kind},
        )
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def new_namespace(self, name: str, **metadata: Any) -> str:
        """The namespace exists."""
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, **metadata}})
        return name

    def wait_for_account(self, namespace: str) -> None:
        """The namespace's default account has its token, without which no Pod can be made there."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        until(lambda: self.call("GET", path).get("secrets"), f"the account of {namespace}")

    # Parts

    def _etcd(self) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd", "peer"))
        return [
            binary("etcd"), "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--log-level", "error",
        ]  # fmt: skip

    def _api(self) -> list[str]:
        keys = self.folder
        return [
            binary("kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._ports['etcd']}",
            f"--secure-port={self._ports['api']}", "--bind-address=127.0.0.1",
            f"--cert-dir={keys / 'certs'}",
            f"--service-account-key-file={keys / 'sa.pub'}",
            f"--service-account-signing-key-file={keys / 'sa.key'}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--token-auth-file={keys / 'tokens.csv'}", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16", "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount" if not self._controllers
            else "--enable-admission-plugins=ServiceAccount",
            "--profiling=false", "--event-ttl=10m",
        ]  # fmt: skip

    def _manager(self) -> list[str]:
        config = str(self.kubeconfig())
        return [
            binary("kube-controller-manager"), f"--kubeconfig={config}",
            f"--controllers={_CONTROLLERS}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            f"--cert-dir={self.folder / 'certs'}", "--leader-elect=false",
            "--port=0", "--secure-port=0",
            "--use-service-account-credentials=false",
        ]  # fmt: skip

    def _write_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "sa.key").write_bytes(private)
        (self.folder / "sa.pub").write_bytes(public)
        (self.folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')

    def _spawn(self, name: str, command: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(number)
            process.wait()

    def _wait_for(self, path: str) -> None:
        """The path answers; a log's end is shown where it does not in time."""
        try:
            until(lambda: self.call("GET", path), path, seconds=_DEADLINE_SECONDS)
        except TimeoutError as error:
            raise TimeoutError(
                f"{error}: {(self.folder / 'api.log').read_text()[-2000:]}"
            ) from None

    def _etcdctl(self, path: str, body: dict[str, Any]) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._ports['etcd']}{path}", data=json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def running(*, controllers: bool = False) -> Iterator[KubeServer]:
    """A server that lives as long as the context."""
    with tempfile.TemporaryDirectory(prefix="osm-kube-") as folder:
        server = KubeServer(Path(folder), controllers=controllers)
        try:
            server.start()
            yield server
        finally:
            server.stop()
