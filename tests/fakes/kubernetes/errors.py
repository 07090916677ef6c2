"""What a Kubernetes API server answers when it refuses: a `Status` object, with its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.kubernetes.resources import Resource

Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is no success. `reason` is empty where the server gives none (its untyped 500s)."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Json | None = None,
        *,
        metadata: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.metadata = metadata or {}
        self.headers = headers or {}

    @property
    def status(self) -> Json:
        """The `Status` object, as the server writes it."""
        status: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


def details(resource: Resource, name: str, **more: Any) -> Json:
    """`details` of a Status about one object: the plural stands under `kind`, the core group is left out."""
    about: Json = {"name": name} if name else {}
    if resource.group:
        about["group"] = resource.group
    return {**about, "kind": resource.plural, **more}


def not_found(resource: Resource, name: str) -> Refusal:
    """No such object."""
    return Refusal(404, "NotFound", f'{resource.qualified} "{name}" not found', details(resource, name))


def already_exists(resource: Resource, name: str) -> Refusal:
    """POST of a name that is taken."""
    return Refusal(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', details(resource, name))


def modified(resource: Resource, name: str) -> Refusal:
    """A write that carries an old resourceVersion."""
    return Refusal(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again",
        details(resource, name),
    )


def wrong_uid(resource: Resource, name: str, wanted: str, found: str) -> Refusal:
    """A precondition that names another object of the same name. The server writes the kind here, not the plural."""
    return Refusal(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.kind} "{name}": the UID in the precondition ({wanted}) does not '
        f"match the UID in record ({found}). The object might have been deleted and then recreated",
        {"name": name, "kind": resource.kind},
    )


def forbidden(resource: Resource, name: str, why: str, causes: list[Json] | None = None) -> Refusal:
    """Refused by admission: a quota, Pod Security, a namespace that is going away."""
    more = {"causes": causes} if causes else {}
    return Refusal(
        403, "Forbidden", f'{resource.qualified} "{name}" is forbidden: {why}', details(resource, name, **more)
    )


def unauthorized() -> Refusal:
    """A token that nobody was given."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def bad_request(message: str) -> Refusal:
    """A request that cannot be read."""
    return Refusal(400, "BadRequest", message)


def invalid(resource: Resource, name: str, causes: list[tuple[str, str, str]]) -> Refusal:
    """422. Causes: (reason, field, message) in the order of the server's validation."""
    words = [f"{field}: {message}" for _, field, message in causes]
    text = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    about: Json = {"name": name}
    if resource.group:
        about["group"] = resource.group
    about["kind"] = resource.kind
    about["causes"] = [{"reason": reason, "message": message, "field": field} for reason, field, message in causes]
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return Refusal(422, "Invalid", f'{kind} "{name}" is invalid: {text}', about)


def expired(requested: int, oldest: int) -> Refusal:
    """A watch from before what the server still remembers."""
    return Refusal(410, "Expired", f"too old resource version: {requested} ({oldest})")


def continue_expired(fresh: str) -> Refusal:
    """A page of a list whose snapshot is gone. `fresh`: a token to go on with, at the price of consistency."""
    return Refusal(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        metadata={"continue": fresh},
    )
