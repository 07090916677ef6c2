"""Models and their revisions. Read only: models come in through `hf upload`."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from freehold.console import snippets
from freehold.console.visits import Visit, member_view, page
from freehold.db.rls import tenant_scope
from freehold.registry import names
from freehold.registry import selectors as registry
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.models import ModelRepo, Revision
from freehold.serving import selectors as serving
from freehold.tenancy.permissions import Operation


@member_view(Operation.MODEL_READ)
def model_list(request: HttpRequest, visit: Visit) -> HttpResponseBase:
    """All models with what their main branch holds."""
    with tenant_scope(visit.tenant_id):
        repos = list(registry.model_list(tenant_id=visit.tenant_id).prefetch_related("refs__revision"))
    rows = [(repo, _main(repo)) for repo in repos]
    upload = snippets.upload(public_url=settings.PUBLIC_URL, repo=f"{visit.tenant.slug}/my-model")
    return page(request, visit, "console/models/list.html", {"rows": rows, "steps": [upload]})


@member_view(Operation.MODEL_READ)
def model_page(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """One model: what its newest revision is, where it is served, all its revisions."""
    repo = registry.model_get(tenant_id=visit.tenant_id, public_id=model_id)
    with tenant_scope(visit.tenant_id):
        revisions = list(registry.revision_list(model=repo).prefetch_related("refs"))
        endpoints = [
            endpoint
            for endpoint in serving.endpoint_list(tenant_id=visit.tenant_id)
            if endpoint.spec.revision.repo_id == repo.pk
        ]
    shown = next((revision for revision in revisions if _is_main(revision)), revisions[0] if revisions else None)
    files = registry.files(revision=shown) if shown is not None else []
    steps = [snippets.upload(public_url=settings.PUBLIC_URL, repo=repo.full_name)]
    if shown is not None and shown.status == RevisionStatus.VERIFIED:
        name = repo.name.lower().replace("_", "-")
        steps.append(snippets.deploy(public_url=settings.PUBLIC_URL, repo=repo.full_name, name=name))
    context = {
        "repo": repo,
        "revisions": revisions,
        "shown": shown,
        "files": files,
        "endpoints": endpoints if visit.may(Operation.ENDPOINT_READ) else [],
        "steps": steps,
    }
    return page(request, visit, "console/models/page.html", context)


def _main(repo: ModelRepo) -> Revision | None:
    refs = [ref for ref in repo.refs.all() if ref.kind == RefKind.BRANCH and ref.name == names.DEFAULT_BRANCH]
    return refs[0].revision if refs else None


def _is_main(revision: Revision) -> bool:
    return any(ref.kind == RefKind.BRANCH and ref.name == names.DEFAULT_BRANCH for ref in revision.refs.all())
