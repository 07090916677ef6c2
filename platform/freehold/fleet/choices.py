"""Closed lists of the fleet, free of Django."""

from __future__ import annotations

from enum import StrEnum


class RuntimeKind(StrEnum):
    """What starts engines on a cluster (workers/runtimes)."""

    LOCAL = "local"
    KUBERNETES = "kubernetes"


class ClusterAccess(StrEnum):
    """How workers get at a cluster."""

    LOCAL = "local"  # the machine they run on
    KUBECONFIG = "kubeconfig"
    IN_CLUSTER = "in_cluster"  # by the service account of their own pod


class ClusterConditionType(StrEnum):
    """What can be said of a cluster; each has status True, False or Unknown (Kubernetes' words)."""

    REACHABLE = "Reachable"  # its API server answers us
    PERMITTED = "Permitted"  # our account may do all that is needed there
    LEADER_WORKER_SETS = "LeaderWorkerSets"  # replicas may span nodes
    ORPHANS = "Orphans"  # so much belongs to no endpoint that it was left for the operator to look at
    ACCELERATORS = "Accelerators"  # what was found, and what was left out and why


class Verdict(StrEnum):
    """Whether a pool can take an endpoint, or the first thing in its way, in the order in which they are looked at."""

    FITS = "fits"
    CLUSTER = "cluster"  # not enabled, or another one is asked for
    UNREACHABLE = "unreachable"
    REGION = "region"  # another one is asked for
    RESIDENCY = "residency"  # the tenant's policy forbids the region
    FLAVOR = "flavor"  # another one is asked for, or it is not offered
    MODEL = "model"  # does not hold it
    LEADER_WORKER_SETS = "leader_worker_sets"
    CAPACITY = "capacity"
