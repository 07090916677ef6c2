"""Forms of the fleet's admin pages. A kubeconfig goes in and never comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from freehold.common.errors import FreeholdError
from freehold.fleet import cluster_settings, kubeconfig
from freehold.fleet.choices import ClusterAccess
from freehold.fleet.models import Cluster, GpuFlavor

if TYPE_CHECKING:
    _ClusterForm = forms.ModelForm[Cluster]
    _FlavorForm = forms.ModelForm[GpuFlavor]
else:
    _ClusterForm = _FlavorForm = forms.ModelForm


class ClusterForm(_ClusterForm):
    """A new cluster, or a change of one; what cannot be taken is said beside the field."""

    access = forms.ChoiceField(
        required=False,
        choices=[("", "as the runtime has it"), *((access.value, access.value) for access in ClusterAccess)],
        help_text="Kubernetes is reached by kubeconfig unless you choose in_cluster.",
    )
    kubeconfig = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "autocomplete": "off"}),
        help_text="What `kubectl config view --flatten --minify` prints. Encrypted, and never shown again; leave it "
        "empty to keep the one that is there.",
    )

    class Meta:
        model = Cluster
        fields = ("region", "name", "runtime", "access", "engine_digest", "enabled", "settings")

    def clean_kubeconfig(self) -> str:
        """Raises ValidationError with the reason and the remedy."""
        text: str = self.cleaned_data["kubeconfig"]
        if text.strip():
            _checked(kubeconfig.parse, text)
            return text
        return ""

    def clean_settings(self) -> dict[str, Any]:
        """Raises ValidationError naming the field."""
        document: dict[str, Any] = self.cleaned_data.get("settings") or {}
        _checked(cluster_settings.parse, document)
        return document


class FlavorForm(_FlavorForm):
    """A new flavor: one node and no labels unless told otherwise."""

    nodes = forms.IntegerField(required=False, min_value=1, initial=1, help_text="that one replica spans")

    class Meta:
        model = GpuFlavor
        fields = "__all__"

    def clean_nodes(self) -> int:
        """One, where nothing is said."""
        return self.cleaned_data["nodes"] or 1

    def clean_node_labels(self) -> dict[str, Any]:
        """None, where nothing is said."""
        return self.cleaned_data.get("node_labels") or {}


def _checked(check: Any, value: Any) -> None:
    try:
        check(value)
    except FreeholdError as error:
        raise forms.ValidationError(error.message) from error
