"""The form of a new endpoint: what to serve, and where. Called by views/endpoint_new.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import forms

from freehold.billing.records import FlavorPrice
from freehold.common.money import format_nanos
from freehold.fleet.models import Region
from freehold.fleet.selectors import Offer
from freehold.registry import names
from freehold.serving.choices import BillingMode
from freehold.serving.models import ENDPOINT_NAME_MAX
from freehold.serving.placements import MAX_REPLICAS

FIELDS: Final = {"arguments.max_model_len": "max_model_len", "regions_allowed": "region"}
_GIB: Final = 1024**3
_MODES: Final = {
    BillingMode.TOKENS: "Tokens: what is read and written",
    BillingMode.GPU_SECONDS: "GPU seconds: as long as it is ready",
}


class EndpointForm(forms.Form):
    """Flavors and regions are those that the tenant may use."""

    model = forms.CharField(label="Model", max_length=96, help_text="The name of one of your models.")
    revision = forms.CharField(
        label="Revision",
        max_length=200,
        initial=names.DEFAULT_BRANCH,
        help_text="A branch, tag or commit. The commit that it means now is served, until you make another endpoint.",
    )
    name = forms.CharField(label="Name of the endpoint", max_length=ENDPOINT_NAME_MAX)
    replicas = forms.IntegerField(label="Replicas", min_value=0, max_value=MAX_REPLICAS, initial=1)
    billing_mode = forms.ChoiceField(label="Billed by", choices=[(mode.value, text) for mode, text in _MODES.items()])
    region = forms.ChoiceField(label="Region", required=False)
    flavor = forms.ChoiceField(
        label="Accelerators",
        required=False,
        help_text="How many a replica occupies, what that costs by the hour where GPU seconds are billed, and for how "
        "many more replicas there is room now.",
    )
    max_model_len = forms.IntegerField(
        label="Context length (tokens)",
        min_value=16,
        max_value=2**24,
        required=False,
        help_text="Of prompt and answer together; as long as the model reads, unless told otherwise.",
    )

    def __init__(
        self,
        *args: Any,
        regions: Sequence[Region],
        offers: Sequence[Offer],
        prices: Mapping[str, FlavorPrice],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        region, flavor = self.fields["region"], self.fields["flavor"]
        if isinstance(region, forms.ChoiceField) and isinstance(flavor, forms.ChoiceField):
            region.choices = [("", "Any"), *((each.name, each.display_name or each.name) for each in regions)]
            described = [(offer.flavor.name, _described(offer, prices)) for offer in offers]
            flavor.choices = [("", "The best that holds the model"), *described]

    @property
    def wanted(self) -> dict[str, Any]:
        """What was asked for, as services take it, without the name."""
        asked = self.cleaned_data
        length = asked["max_model_len"]
        return {
            "revision": asked["revision"],
            "replicas": asked["replicas"],
            "flavor": asked["flavor"] or None,
            "region": asked["region"] or None,
            "arguments": {} if length is None else {"max_model_len": length},
        }

    @property
    def mode(self) -> BillingMode:
        """How it is billed."""
        return BillingMode(self.cleaned_data["billing_mode"])


def _described(offer: Offer, prices: Mapping[str, FlavorPrice]) -> str:
    flavor, price = offer.flavor, prices.get(offer.flavor.name)
    memory = f" of {flavor.memory_bytes / _GIB:.0f} GiB" if flavor.memory_bytes and not flavor.is_cpu else ""
    cost = f", {format_nanos(price.nanos * flavor.accelerators, price.currency)} an hour" if price is not None else ""
    room = ", ".join(f"{free} in {region}" for region, free in offer.free_by_region.items() if free) or "none"
    return f"{flavor.name}: {flavor.accelerators} × {flavor.accelerator}{memory}{cost}; free: {room}"
