"""What the console's forms have in common: a service's error shown at its field, and deletion confirmed by a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from freehold.common.errors import FreeholdError


class DeleteForm(forms.Form):
    """Deletion is confirmed by typing the name of what is deleted."""

    name = forms.CharField(label="Type its name to confirm")

    def __init__(self, *args: Any, expected: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expected = expected

    def clean_name(self) -> str:
        """Refuses any other text."""
        name = str(self.cleaned_data["name"])
        if name != self.expected:
            raise forms.ValidationError(f"That is not its name. Type {self.expected} to delete it.")
        return name


def show_error(form: forms.Form, error: FreeholdError, *, fields: Mapping[str, str] | None = None) -> None:
    """Puts a service's error at the field that it names (`fields`: by other names), or above the form."""
    name = (fields or {}).get(error.field or "", error.field)
    form.add_error(name if name in form.fields else None, error.message)
