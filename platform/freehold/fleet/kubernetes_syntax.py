"""What Kubernetes takes as a name, a label, a quantity or a network: checked when an operator says it, with the field's
name, and not hours later when an object is refused. Pure: no Django.

The rules are those of k8s.io/apimachinery/pkg/util/validation and pkg/api/resource. Every function raises InvalidInput
whose `field` is the one given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from freehold.common.errors import InvalidInput
from freehold.fleet import quantities

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REPOSITORY: Final = re.compile(r"[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_TOLERATION: Final = frozenset({"key", "operator", "value", "effect", "tolerationSeconds"})
_EFFECTS: Final = frozenset({"", "NoSchedule", "PreferNoSchedule", "NoExecute"})
_INT32: Final = 2**31 - 1


def refuse(message: str, *, field: str) -> NoReturn:
    """Raises the InvalidInput."""
    raise InvalidInput(f"{field}: {message}", field=field)


def quantity(text: str, *, field: str) -> None:
    """An amount greater than zero, such as `16Gi`."""
    try:
        value = quantities.parse(text)
    except ValueError as error:
        refuse(f"{error}.", field=field)
    if value <= 0:
        refuse(f"{text!r} must be more than zero.", field=field)


def resources(amounts: Mapping[str, str], *, field: str) -> None:
    """Amounts by resource (`requests.nvidia.com/gpu: 8`); zero is an amount here."""
    for name, text in amounts.items():
        label_key(name, field=field)
        try:
            value = quantities.parse(text)
        except ValueError as error:
            refuse(f"{name}: {error}.", field=field)
        if value < 0:
            refuse(f"{name}: {text!r} must not be negative.", field=field)


def integer(value: int, *, field: str, least: int = 0, most: int = _INT32) -> None:
    """A number within its bounds."""
    if not least <= value <= most:
        refuse(f"{value} must be from {least} to {most}.", field=field)


def dns_label(text: str, *, field: str) -> None:
    """The name of a Service, of a namespace."""
    if not _DNS_LABEL.fullmatch(text):
        refuse(f"{text!r} must be lower-case letters, digits and hyphens, at most 63.", field=field)


def object_name(text: str, *, field: str) -> None:
    """The name of most objects: a DNS subdomain."""
    if len(text) > 253 or not _DNS_SUBDOMAIN.fullmatch(text):
        refuse(f"{text!r} must be lower-case letters, digits, hyphens and dots, at most 253.", field=field)


def label_key(text: str, *, field: str) -> None:
    """`name` or `domain/name`; annotations and resources are called like that, too."""
    domain, slash, name = text.rpartition("/")
    if (slash and not (len(domain) <= 253 and _DNS_SUBDOMAIN.fullmatch(domain))) or not _QUALIFIED.fullmatch(name):
        refuse(f"{text!r} must be a name of letters, digits, '-', '_' and '.', or a domain, '/' and one.", field=field)


def labels(values: Mapping[str, str], *, field: str) -> None:
    """Label keys and their values."""
    for key, value in values.items():
        label_key(key, field=field)
        if value and not _QUALIFIED.fullmatch(value):
            refuse(
                f"{key}: {value!r} must be letters, digits, '-', '_' and '.', at most 63, and begin and end with one "
                "of the first two.",
                field=field,
            )


def annotation_keys(values: Mapping[str, str], *, field: str) -> None:
    """Annotation keys; values are any text."""
    for key in values:
        label_key(key, field=field)


def variables(names: Iterable[str], *, field: str) -> None:
    """Names of environment variables."""
    for name in names:
        if not _VARIABLE.fullmatch(name):
            refuse(f"{name!r} must be letters, digits and '_', and not begin with a digit.", field=field)


def repository(text: str, *, field: str) -> None:
    """An image without its tag or digest."""
    if not _REPOSITORY.fullmatch(text) or ":" in text.rpartition("/")[2]:
        refuse(f"{text!r} must be an image's repository without a tag; the digest is pinned by endpoint.", field=field)


def pinned_image(text: str, *, field: str) -> None:
    """An image by its digest. A tag before the digest is allowed, as container runtimes allow it."""
    name, _, digest = text.partition("@")
    if not name or name != name.strip() or not _DIGEST.fullmatch(digest):
        refuse(f"{text!r} must name the image by its digest: repository@sha256:… with 64 hex digits.", field=field)


def address(text: str, *, field: str) -> None:
    """An IP address to listen on."""
    try:
        ip_address(text)
    except ValueError:
        refuse(f"{text!r} must be an IP address such as 0.0.0.0 or ::.", field=field)


def origin(text: str, *, field: str) -> None:
    """`http(s)://host[:port]`."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        refuse(f"{text!r} must be an address that begins with http:// or https://.", field=field)


def toleration(content: Mapping[str, Any], *, field: str) -> None:
    """A pod's toleration."""
    operator, key = content.get("operator", "Equal"), content.get("key", "")
    if not content.keys() <= _TOLERATION:
        refuse(f"a toleration may have {', '.join(sorted(_TOLERATION))}.", field=field)
    if operator not in {"Equal", "Exists"}:
        refuse("operator must be Equal or Exists.", field=field)
    if content.get("effect", "") not in _EFFECTS:
        refuse("effect must be NoSchedule, PreferNoSchedule or NoExecute.", field=field)
    if operator == "Exists" and content.get("value"):
        refuse("with the operator Exists there is no value.", field=field)
    if operator != "Exists" and not key:
        refuse("without a key the operator must be Exists.", field=field)
    if key:
        label_key(str(key), field=field)
    if "tolerationSeconds" in content and content.get("effect") != "NoExecute":
        refuse("tolerationSeconds goes with the effect NoExecute.", field=field)
