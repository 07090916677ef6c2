"""Names, labels and annotations of what Freehold has in a cluster.

`freehold.dev/cluster` is the cluster's public id, unique among all installations: what carries another one is not ours,
even where two installations share a cluster.
"""

from __future__ import annotations

FIELD_MANAGER = "freehold"

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "freehold"
CLUSTER = "freehold.dev/cluster"
TENANT = "freehold.dev/tenant"
ENDPOINT = "freehold.dev/endpoint"
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
PRODUCT = "freehold"
ENGINE = "engine"  # component of what belongs to an endpoint
TENANCY = "tenant"  # component of what belongs to a tenant's namespace

TEMPLATE = "freehold.dev/template"  # annotation of a pod: WorkloadSpec.template_hash
APPLIED = "freehold.dev/applied"  # annotation of every object: hash of the manifest as it was applied
MODEL = "freehold.dev/model"  # annotation: the public model name
SLUG = "freehold.dev/slug"  # annotation of a namespace: the tenant's name as its people know it
# Annotation of the pull token's Secret, ISO 8601.
TOKEN_EXPIRES = "freehold.dev/token-expires-at"  # noqa: S105 - a name

ENGINE_CONTAINER = "engine"
FETCH_CONTAINER = "fetch-weights"
ENGINE_PORT = "http"

SERVICE_ACCOUNT = "engine"
WEIGHTS_CLAIM = "weights"
DENY_POLICY = "default-deny"
ENGINE_POLICY = "engines"
QUOTA = "tenant"
LIMITS = "defaults"

# The key of the pull token in its Secret; the same is the file's name in the init container.
TOKEN_KEY = "token"  # noqa: S105 - a name
REPO_KEY = "repo"  # beside it: what the model is called at the hub


def of(public_id: str) -> str:
    """A DNS label made from a public id: `ep_01j…` → `ep-01j…`."""
    return public_id.replace("_", "-").lower()


def namespace(prefix: str, tenant: str) -> str:
    """A tenant's namespace."""
    return prefix + of(tenant)


def token_secret(endpoint: str) -> str:
    """The Secret that holds an endpoint's pull token."""
    return f"{of(endpoint)}-pull"


def selector(cluster: str) -> str:
    """Label selector of everything of ours in a cluster."""
    return f"{MANAGED_BY}={MANAGER},{CLUSTER}={cluster}"
