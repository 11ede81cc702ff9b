"""The backend of MySQL and MariaDB servers."""

from __future__ import annotations

from executor.backend import Progress, Statement
from executor.native.access import Access
from executor.native.observe.cluster import observe_cluster
from executor.native.steps.registry import module_for
from executor.native.topology import Topology
from planner.cluster import Cluster
from planner.inventory import Inventory
from planner.step import Step


class NativeBackend:
    """One environment of servers; see `executor.backend.Backend` for what the methods promise."""

    def __init__(self, inventory: Inventory) -> None:
        self._access = Access(inventory)

    def observe(self) -> Cluster:
        """The cluster as it is now."""
        return observe_cluster(self._access)

    def perform(self, step: Step, progress: Progress) -> None:
        """Carries out one step."""
        module_for(step).perform(step, self._access, progress)

    def statements(self, step: Step, cluster: Cluster) -> tuple[Statement, ...]:
        """The SQL that `perform` would run."""
        found: tuple[Statement, ...] = module_for(step).statements(step, cluster)
        return found

    def coordination(self) -> Topology:
        """Where locks and the journal are kept."""
        return self._access.topology

    def cluster_identity(self) -> str:
        """The environment's name."""
        return self._access.inventory.name

    def close(self) -> None:
        """Closes every connection."""
        self._access.close()
