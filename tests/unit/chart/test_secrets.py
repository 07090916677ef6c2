"""Secrets: generated once, kept for ever, and never made anew over the old."""

from __future__ import annotations

import base64

import helm_python
import pytest
import yaml
from cryptography.fernet import Fernet

from tests.factories import charts
from tests.factories.charts import pick


def test_generated_keys_are_good_and_outlive_the_release() -> None:
    secret = pick(charts.rendered("minimum"), "Secret", "freehold-keys")
    assert len(secret["stringData"]["SECRET_KEY"]) >= 50
    key = secret["stringData"]["FREEHOLD_ENCRYPTION_KEYS"]
    assert Fernet(key).decrypt(Fernet(key).encrypt(b"kubeconfig")) == b"kubeconfig"
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_generated_keys_are_always_url_safe() -> None:
    for _ in range(10):
        secret = pick(charts.objects(charts.values()), "Secret", "freehold-keys")
        Fernet(secret["stringData"]["FREEHOLD_ENCRYPTION_KEYS"])


def test_an_upgrade_that_cannot_see_the_keys_makes_no_new_ones() -> None:
    with pytest.raises(helm_python.HelmError, match="New keys could not read what was encrypted") as refused:
        charts.objects(charts.values(), revision=2, upgrade=True)
    assert "secrets.existingSecret" in str(refused.value)


@pytest.mark.parametrize("case", ["existing-secrets", "given-secrets", "data-plane-only"])
def test_an_upgrade_with_keys_of_the_operators_own_goes_through(case: str) -> None:
    assert charts.objects(charts.values(case), revision=2, upgrade=True)


def test_the_notes_say_what_was_generated_and_how_to_back_it_up() -> None:
    said = charts.notes(charts.values())
    assert "BACK UP THE KEYS" in said
    assert "get secret freehold-keys -o yaml" in said
    assert "BACK UP" not in charts.notes(charts.values("existing-secrets"))


def test_no_secret_is_rendered_where_all_are_the_operators_own() -> None:
    assert not [item for item in charts.rendered("existing-secrets") if item["kind"] == "Secret"]


def test_no_generated_secret_appears_in_the_notes() -> None:
    for case in ("minimum", "evaluation", "given-secrets"):
        files = charts.files(charts.values(case))
        notes = next(text for name, text in files.items() if name.endswith("NOTES.txt"))
        secrets = [item for text in files.values() if "kind: Secret" in text for item in yaml.safe_load_all(text)]
        for item in secrets:
            for value in (item or {}).get("stringData", {}).values():
                assert len(value) < 20 or value not in notes


def test_a_changed_configuration_replaces_the_pods_that_read_it_and_no_others() -> None:
    before = checksums(charts.objects(charts.values("given-secrets")))
    again = checksums(charts.objects(charts.values("given-secrets")))
    assert before == again
    store = checksums(charts.objects(charts.values("given-secrets", objectStore={"quotaGib": 5})))
    changed = {name for name in before if before[name] != store[name]}
    assert "Deployment/freehold-web" in changed
    assert "StatefulSet/freehold-gateway" not in changed
    drain = checksums(charts.objects(charts.values("given-secrets", gateway={"drainSeconds": 7})))
    assert {name for name in before if before[name] != drain[name]} == {"StatefulSet/freehold-gateway"}


def test_a_changed_secret_in_the_values_replaces_pods() -> None:
    before = checksums(charts.objects(charts.values("given-secrets")))
    after = checksums(charts.objects(charts.values("given-secrets", redis={"url": "redis://:other@redis:6379/0"})))
    assert all(before[name] != after[name] for name in before)


def checksums(found: list[charts.Manifest]) -> dict[str, str]:
    return {
        where: str(sorted(template["metadata"]["annotations"].items()))
        for where, template in charts.templates(found)
        if where.startswith(("Deployment", "StatefulSet")) and "annotations" in template["metadata"]
    }
