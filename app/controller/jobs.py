"""The periodic jobs of one process, put together: what there is to do, and whether it is ours.

On one machine all is ours; in a cluster it is whoever holds the Lease. Built by ``Runtime``.
Specification: kubernetes-surface 3.3, 3.4 and 6.5.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from app.certs.builtin import ca_secret_key
from app.certs.manager import Certificates
from app.controller.gateway import GatewayScope, GatewaySecret
from app.controller.lease import LeaseKeeper, lease_ref
from app.controller.orphans import OrphanSweep, removal_in, removal_on_one_machine
from app.controller.ownership import Ownership
from app.controller.renewal import Renewal
from app.controller.secrets import BootstrapSecrets
from app.controller.statuses import Statuses
from app.controller.upkeep import Job, Upkeep
from app.mesh.snapshot import MeshSnapshot
from app.ports import Clock, Compute
from app.settings import Settings


class PeriodicJobs:
    """Runs between ``start`` and ``stop``; ``held`` may be asked from any thread."""

    def __init__(
        self,
        settings: Settings,
        compute: Compute,
        clock: Clock,
        *,
        secrets: BootstrapSecrets,
        pod_name: str,
    ) -> None:
        self._settings = settings
        self._compute = compute
        self._clock = clock
        self._secrets = secrets
        self._upkeep: Upkeep | None = None
        self._lease = self._new_lease(pod_name)

    @property
    def held(self) -> bool:
        """True while the jobs are this process's."""
        return self._lease is None or self._lease.held

    def start(
        self, certificates: Certificates, snapshot: Callable[[], MeshSnapshot | None]
    ) -> None:
        """The jobs are done by themselves from now on, while they are ours."""
        if self._lease is not None:
            self._lease.start()
        self._upkeep = Upkeep(self._jobs(certificates, snapshot), is_ours=lambda: self.held)
        self._secrets.on_unowned(self._upkeep.wake)
        self._upkeep.start()

    def stop(self) -> None:
        """Nothing is done any more; safe to call when it was never started."""
        # The Lease goes last: another replica may work once this one does not.
        for part in (self._upkeep, self._lease):
            if part is not None:
                part.stop()

    def _jobs(
        self, certificates: Certificates, snapshot: Callable[[], MeshSnapshot | None]
    ) -> tuple[Job, ...]:
        writer, cluster, clock = self._compute.writer, self._compute.cluster, self._clock
        renewal = Renewal(self._secrets, certificates, clock, patch=writer.patch, snapshot=snapshot)
        mesh_name = self._settings.mesh_name
        gateway = GatewaySecret(
            self._secrets,
            certificates,
            clock,
            writer=writer,
            snapshot=snapshot,
            scope=_gateway_scope(self._settings),
        )
        if cluster is None:
            remove = removal_on_one_machine(writer)
            sweep = OrphanSweep(self._secrets, clock, mesh_name=mesh_name, remove=remove)
            return (renewal, gateway, sweep)
        remove = removal_in(cluster)
        sweep = OrphanSweep(self._secrets, clock, mesh_name=mesh_name, remove=remove)
        statuses = Statuses(snapshot, patch_status=writer.patch_status)
        return (Ownership(self._secrets, cluster, clock), renewal, gateway, sweep, statuses)

    def _new_lease(self, pod_name: str) -> LeaseKeeper | None:
        cluster = self._compute.cluster
        if cluster is None:
            return None
        return LeaseKeeper(
            cluster,
            self._clock,
            ref=lease_ref(self._settings.osm_namespace),
            # A restarted process is another holder: what the old one was doing may still go on.
            me=f"{pod_name or 'osm-controller'}_{uuid4()}",
        )


def _gateway_scope(settings: Settings) -> GatewayScope:
    root = ca_secret_key(settings.osm_namespace, settings.ca_bundle_secret_name)
    return GatewayScope(mesh_name=settings.mesh_name, root=root)
