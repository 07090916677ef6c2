"""The forms of an import: from a hub, from S3, and again with other credentials. Called by views/import_*.py.

Credentials are password fields: what was typed is never written into a page again, not even after an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django import forms

from freehold.registry import names
from freehold.registry.choices import ImportKind
from freehold.registry.imports import PATTERNS

HUB_URL = "https://huggingface.co"
_PATTERN_CHARACTERS = 300
_ROWS = {"rows": 3, "spellcheck": "false"}


class _Plain(forms.TextInput):
    """Names and addresses: nothing for a spelling checker."""

    def __init__(self, **attributes: str) -> None:
        super().__init__({"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false", **attributes})


class _Secret(forms.PasswordInput):
    """Never rendered with a value, and not offered to the browser's store of passwords."""

    def __init__(self) -> None:
        super().__init__({"autocomplete": "new-password", "spellcheck": "false"})


class Patterns(forms.CharField):
    """Patterns of paths, one a line."""

    widget = forms.Textarea

    def clean(self, value: Any) -> list[str]:
        """The lines that hold something."""
        lines = [line.strip() for line in str(super().clean(value) or "").splitlines()]
        patterns = [line for line in lines if line]
        if len(patterns) > PATTERNS:
            raise forms.ValidationError(f"These are {len(patterns)} patterns; there can be {PATTERNS}.")
        if any(len(pattern) > _PATTERN_CHARACTERS for pattern in patterns):
            raise forms.ValidationError(f"A pattern has at most {_PATTERN_CHARACTERS} characters.")
        return patterns


class SecretsForm(forms.Form):
    """What a source may ask for. `SECRETS` are the fields that hold credentials."""

    SECRETS: ClassVar[Sequence[str]] = ()

    @property
    def credentials(self) -> dict[str, str]:
        """Those that were typed."""
        return {name: self.cleaned_data[name] for name in self.SECRETS if self.cleaned_data.get(name)}


class HubSecretsForm(SecretsForm):
    """A hub's token."""

    SECRETS = ("token",)

    token = forms.CharField(
        label="Access token",
        max_length=4000,
        required=False,
        widget=_Secret,
        help_text="For private and gated models. It is kept encrypted until the import has succeeded, then deleted; it "
        "is never shown again.",
    )


class S3SecretsForm(SecretsForm):
    """Keys of an S3 bucket."""

    SECRETS = ("access_key_id", "secret_access_key", "session_token")

    access_key_id = forms.CharField(
        label="Access key id",
        max_length=1000,
        required=False,
        widget=_Secret,
        help_text="Leave the keys empty for a public bucket. They are kept encrypted until the import has succeeded, "
        "then deleted; they are never shown again.",
    )
    secret_access_key = forms.CharField(label="Secret access key", max_length=1000, required=False, widget=_Secret)
    session_token = forms.CharField(
        label="Session token", max_length=8000, required=False, widget=_Secret, help_text="Only for temporary keys."
    )


class ImportForm(SecretsForm):
    """What an import from anywhere has. `SOURCE` are the fields that say where from."""

    KIND: ClassVar[ImportKind]
    SOURCE: ClassVar[Sequence[str]] = ()

    model = forms.CharField(
        label="Name here",
        max_length=96,
        widget=_Plain,
        help_text="Made if you have no model of that name. Otherwise the branch will hold what the source holds; what "
        "it held before stays in its history.",
    )
    branch = forms.CharField(max_length=200, initial=names.DEFAULT_BRANCH, widget=_Plain)
    include = Patterns(
        label="Only these files",
        required=False,
        widget=forms.Textarea(_ROWS),
        help_text="Patterns of paths, one a line, such as *.safetensors. Empty: all files.",
    )
    exclude = Patterns(
        label="Without these files",
        required=False,
        widget=forms.Textarea(_ROWS),
        help_text="Patterns of paths, one a line. Pickles are left out in any case.",
    )
    remove_remote_code = forms.BooleanField(
        label="Take out what would run Python from the repository",
        required=False,
        help_text="Many models name code of their own (auto_map), and such a model is refused. With this, auto_map is "
        "taken out of the configurations and *.py files stay behind. The engine then uses its own code, if it knows "
        "the architecture; a tokenizer that exists as Python only will not load. The copy is then not byte for byte "
        "what the source holds, and its digest says so.",
    )

    @property
    def source(self) -> dict[str, str]:
        """Where from, without what was left empty."""
        return {name: self.cleaned_data[name] for name in self.SOURCE if self.cleaned_data.get(name)}


class HubImportForm(HubSecretsForm, ImportForm):
    """From a Hugging Face Hub, or whatever speaks its protocol."""

    KIND = ImportKind.HUB
    SOURCE = ("url", "repo", "revision")

    url = forms.CharField(
        label="Address of the hub",
        max_length=1000,
        initial=HUB_URL,
        widget=_Plain(inputmode="url"),
        help_text="The public hub, a mirror of it, or another Freehold.",
    )
    repo = forms.CharField(
        label="Model there",
        max_length=300,
        widget=_Plain(placeholder="owner/name"),
        help_text="Such as Qwen/Qwen3-0.6B.",
    )
    revision = forms.CharField(
        max_length=250,
        required=False,
        widget=_Plain(placeholder=names.DEFAULT_BRANCH),
        help_text="A branch, tag or commit. What it means when the import begins is what comes.",
    )

    field_order = ("url", "repo", "revision", "token", "model", "branch", "include", "exclude", "remove_remote_code")


class S3ImportForm(S3SecretsForm, ImportForm):
    """From a prefix of an S3 bucket."""

    KIND = ImportKind.S3
    SOURCE = ("endpoint_url", "region", "bucket", "prefix")

    endpoint_url = forms.CharField(
        label="Address of the store",
        max_length=1000,
        required=False,
        widget=_Plain(inputmode="url", placeholder="https://…"),
        help_text="Empty for Amazon's own.",
    )
    region = forms.CharField(max_length=100, required=False, widget=_Plain, help_text="Such as eu-central-1.")
    bucket = forms.CharField(max_length=255, widget=_Plain)
    prefix = forms.CharField(  # type: ignore[assignment] # Django takes declared fields off the class
        label="Folder (prefix)", max_length=1000, required=False, widget=_Plain, help_text="The folder of the model."
    )

    field_order = (
        "endpoint_url", "region", "bucket", "prefix", "access_key_id", "secret_access_key", "session_token", "model",
        "branch", "include", "exclude", "remove_remote_code",
    )  # fmt: skip


FORMS: Mapping[ImportKind, type[ImportForm]] = {ImportKind.HUB: HubImportForm, ImportKind.S3: S3ImportForm}

# What the services call a field, and what the forms do.
FIELDS: Mapping[str, str] = {"name": "model", "ref": "branch", "keys": "access_key_id"}


class _Forget(forms.Form):
    """For a retry: whether to ask the source without credentials."""

    forget = forms.BooleanField(
        label="Ask without credentials", required=False, help_text="Those given before are deleted, too."
    )


class HubRetryForm(HubSecretsForm, _Forget):
    """Again, from a hub."""


class S3RetryForm(S3SecretsForm, _Forget):
    """Again, from S3."""


RETRY_FORMS: Mapping[ImportKind, type[SecretsForm]] = {ImportKind.HUB: HubRetryForm, ImportKind.S3: S3RetryForm}
