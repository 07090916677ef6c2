"""One model: what every tab of its page has in common, and the first of them, which says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django_htmx.http import HttpResponseClientRefresh

from freehold.common.errors import NotFound
from freehold.console import snippets
from freehold.console.live import Live, live
from freehold.console.visits import Visit, is_htmx, member_view, page
from freehold.db.rls import tenant_scope
from freehold.registry import names, selectors
from freehold.registry.choices import RefKind, RevisionStatus
from freehold.registry.models import ModelRepo, Ref, Revision
from freehold.registry.verification import verification_progress
from freehold.serving import selectors as serving
from freehold.serving.models import ENDPOINT_NAME_MAX, Endpoint
from freehold.tenancy.permissions import Operation

STATUS_SECONDS = 2


@dataclass(frozen=True)
class Shown:
    """A model at the revision that somebody looks at: `?revision=`, a branch, tag or commit, or the head of `main`.

    Attributes:
        revision: None for a model without any.
        refs: branches and tags, by name.
    """

    repo: ModelRepo
    revision: Revision | None
    refs: list[Ref]

    @property
    def is_main(self) -> bool:
        """Whether it is what `main` points at, so that nobody has to say which revision they mean."""
        return self.revision is None or any(
            ref.kind == RefKind.BRANCH and ref.name == names.DEFAULT_BRANCH for ref in self.here
        )

    @property
    def here(self) -> list[Ref]:
        """The branches and tags that point at the revision."""
        return [ref for ref in self.refs if self.revision is not None and ref.revision_id == self.revision.pk]

    @property
    def pin(self) -> str:
        """The commit to name where it is not the head of `main`; else empty."""
        return "" if self.is_main or self.revision is None else self.revision.commit_id

    @property
    def kept(self) -> str:
        """`revision=…` for links that stay at this revision, or nothing."""
        return urlencode({"revision": self.pin}) if self.pin else ""

    @property
    def query(self) -> str:
        """The same with its question mark, for links to the other tabs."""
        return f"?{self.kept}" if self.kept else ""


def shown_of(request: HttpRequest, visit: Visit, model_id: str) -> Shown:
    """The model and revision of a request. Raises NotFound, also for another tenant's."""
    repo = selectors.model_get(tenant_id=visit.tenant_id, public_id=model_id)
    wanted = request.GET.get("revision", "")
    try:
        revision = selectors.revision_of(model=repo, revision=wanted or names.DEFAULT_BRANCH)
    except NotFound:
        if wanted:
            raise
        with tenant_scope(visit.tenant_id):
            newest = selectors.revision_list(model=repo).first()
        return Shown(repo=repo, revision=newest, refs=selectors.ref_list(model=repo))
    return Shown(repo=repo, revision=revision, refs=selectors.ref_list(model=repo))


def model_tab(
    request: HttpRequest,
    visit: Visit,
    shown: Shown,
    tab: str,
    context: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
) -> HttpResponseBase:
    """A tab of the model's page: `console/models/<tab>.html` in their common frame."""
    facts = shown.revision.inspection if shown.revision is not None else {}
    common = {
        "shown": shown,
        "repo": shown.repo,
        "revision": shown.revision,
        "facts": facts,
        "tab": tab,
        "status": _status(request, visit, shown),
    }
    return page(request, visit, f"console/models/{tab}.html", {**common, **(context or {})}, status=status)


def endpoints_of(visit: Visit, repo: ModelRepo) -> list[Endpoint]:
    """The endpoints that serve the model in any revision, as far as the visitor may know."""
    if not visit.may(Operation.ENDPOINT_READ):
        return []
    with tenant_scope(visit.tenant_id):
        endpoints = list(serving.endpoint_list(tenant_id=visit.tenant_id))
    return [endpoint for endpoint in endpoints if endpoint.spec.revision.repo_id == repo.pk]


@member_view(Operation.MODEL_READ)
def model_page(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """What inspection found, where it is served, and lines to paste."""
    shown = shown_of(request, visit, model_id)
    return model_tab(
        request,
        visit,
        shown,
        "overview",
        {"endpoints": endpoints_of(visit, shown.repo), "steps": _steps(visit, shown)},
    )


@member_view(Operation.MODEL_READ)
def model_status(request: HttpRequest, visit: Visit, model_id: str) -> HttpResponseBase:
    """The state of a revision. Only asked for while it is being verified: afterwards the whole page is another."""
    shown = shown_of(request, visit, model_id)
    if is_htmx(request) and (shown.revision is None or shown.revision.status != RevisionStatus.VERIFYING):
        return HttpResponseClientRefresh()
    return _status(request, visit, shown).answer(request)


def _status(request: HttpRequest, visit: Visit, shown: Shown) -> Live:
    context: dict[str, Any] = {"shown": shown, "revision": shown.revision, "visit": visit}
    verifying = shown.revision is not None and shown.revision.status == RevisionStatus.VERIFYING
    commit = "" if shown.revision is None else shown.revision.commit_id
    if shown.revision is not None and verifying:
        context["hashed"], context["total"] = verification_progress(revision=shown.revision)
    if shown.revision is not None and shown.revision.status == RevisionStatus.INCOMPLETE:
        context["step"] = snippets.upload(public_url=settings.PUBLIC_URL, repo=shown.repo.full_name)
    return live(
        request,
        "console/models/state.html",
        context,
        element="div",
        name="model-state",
        url=f"{reverse('console:model-status', args=[shown.repo.public_id])}?{urlencode({'revision': commit})}",
        seconds=STATUS_SECONDS if verifying else 0,
    )


def _steps(visit: Visit, shown: Shown) -> list[snippets.Snippet]:
    """What can be done with the revision from a terminal. How to upload is said where something is missing."""
    if shown.revision is None:
        return []
    public_url, repo = settings.PUBLIC_URL, shown.repo.full_name
    steps = [snippets.download(public_url=public_url, repo=repo, revision=shown.pin)]
    if shown.revision.status == RevisionStatus.VERIFIED:
        name = shown.repo.name.lower().replace("_", "-")[:ENDPOINT_NAME_MAX].rstrip("-.")
        if visit.may_write_endpoints:
            steps.append(snippets.deploy(public_url=public_url, repo=repo, name=name, revision=shown.pin))
        if visit.may_write_models:
            steps.append(snippets.upload(public_url=public_url, repo=repo))
    return steps
