"""What the Hugging Face Hub has and this one has not: said so, with what to do instead, rather than a bare 404."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse, JsonResponse

from freehold.hub.errors import HubError
from freehold.hub.identity import actor_of

if TYPE_CHECKING:
    from freehold.hub.requests import HubRequest

PULL_REQUESTS = (
    "This hub has no discussions or pull requests. Commit to a branch instead (`--revision my-branch`), or to main."
)
_NOT_HERE = {
    "discussions": PULL_REQUESTS,
    "duplicate": "This hub does not duplicate models. Download the model, then upload it under its new name: content "
    "that your tenant has uploaded before is not sent again.",
    "like": "This hub counts no likes.",
    "likers": "This hub counts no likes.",
    "user-access-request": "There are no access requests: whoever belongs to a model's tenant has access.",
    "resource-group": "There are no resource groups: whoever belongs to a model's tenant has access.",
    "safetensors-metadata": "This hub does not put headers together. Use get_safetensors_metadata, which reads them.",
    "scan": "Files are inspected before there is a revision: what a commit holds is safe.",
}


def of_model(request: HubRequest) -> HttpResponse:
    """Something about a model that there is not."""
    actor_of(request.caller)
    raise HubError(501, _NOT_HERE[request.part("what")])


def deletion(request: HubRequest) -> HttpResponse:
    """`HfApi.permanently_delete_lfs_files`: it would change revisions, which never change."""
    actor_of(request.caller)
    raise HubError(
        501,
        "A revision never changes, so no file can be taken out of it. Delete the file in a commit, then squash the "
        "branch (super_squash_history): content that no revision holds any more is removed by itself.",
    )


def of_hub(request: HubRequest) -> HttpResponse:
    """A service of the Hugging Face Hub that is not about models."""
    actor_of(request.caller)
    raise HubError(501, f"This hub keeps models: it has no {request.part('what').replace('-', ' ')}.")


def telemetry(request: HubRequest) -> HttpResponse:
    """Clients report their use here, and warn where they cannot. Nothing is kept."""
    return HttpResponse(status=204)


def harnesses(request: HubRequest) -> HttpResponse:
    """Clients ask once a day for words they could add to their User-Agent. There are none: nobody counts them here."""
    return JsonResponse({})


def pull_request(request: HubRequest) -> None:
    """Refuses what asks for a pull request: silently committing to the branch is not what was asked for."""
    if request.http.GET.get("create_pr", "0") not in {"0", "false", "False"}:
        raise HubError(501, PULL_REQUESTS)
