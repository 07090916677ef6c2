"""What the chart says to values that are wrong, and that every value is described where people look."""

from __future__ import annotations

import json
import re
from typing import Any

import helm_python
import pytest
import yaml

from tests.factories import chart_readme, charts
from tests.factories.charts import CHART, Values

# What somebody sets by mistake → what Helm must say: the value's name, and what would be right.
MISTAKES: list[tuple[Values, list[str]]] = [
    ({"image": {"repository": ""}}, ["image.repository is missing", "docker push"]),
    ({"image": {"tag": "latest"}}, ["image.tag is 'latest'", "give a version, or image.digest"]),
    ({"image": {"digest": "sha256:abc"}}, ["/image/digest", "sha256:[a-f0-9]{64}"]),
    ({"publicUrl": ""}, ["publicUrl is missing", "https://freehold.example.com"]),
    ({"publicUrl": "http://freehold.example.com"}, ["/publicUrl", "https://"]),
    ({"publicUrl": "https://freehold.example.com/console"}, ["/publicUrl", "does not match"]),
    ({"gatewayUrl": ""}, ["gatewayUrl is missing"]),
    ({"gatewayUrl": "https://freehold.example.com"}, ["publicUrl and gatewayUrl are the same"]),
    ({"controlPlane": {"enabled": False}, "dataPlane": {"enabled": False}}, ["Nothing would be installed"]),
    ({"replicas": 3}, ["additional properties 'replicas' not allowed"]),
    ({"web": {"replica": 3}}, ["/web", "additional properties 'replica' not allowed"]),
    ({"web": {"replicas": "two"}}, ["/web/replicas", "got string, want integer"]),
    ({"gateway": {"replicas": -1}}, ["/gateway/replicas", "minimum: got -1, want 0"]),
    ({"web": {"service": {"type": "Loadbalancer"}}}, ["/web/service/type", "'LoadBalancer'"]),
    ({"gateway": {"journal": {"size": "ten gigabytes"}}}, ["/gateway/journal/size", "does not match"]),
    ({"web": {"resources": {"limits": {"memory": "2GB"}}}}, ["/web/resources/limits/memory", "2GB"]),
    ({"region": "EU West"}, ["/region", "'EU West' does not match"]),
    ({"database": {"existingSecret": ""}}, ["No database", "database.existingSecret", "evaluation.postgresql.enabled"]),
    ({"database": {"existingSecret": "", "url": "postgresql://app:s3cret@db/freehold"}}, ["No way to migrate"]),
    ({"evaluation": {"postgresql": {"enabled": True}}}, ["evaluation.postgresql.enabled and database.*", "exclude"]),
    ({"evaluation": {"redis": {"enabled": True}}}, ["evaluation.redis.enabled and redis.* exclude"]),
    ({"redis": {"existingSecret": ""}}, ["No Redis", "redis.existingSecret"]),
    ({"redis": {"url": "redis://h:1"}}, ["redis.url and redis.existingSecret exclude each other"]),
    ({"objectStore": {"s3": {"bucket": ""}}}, ["No object store", "objectStore.s3.bucket"]),
    ({"objectStore": {"volume": {"enabled": True}}}, ["objectStore.s3.bucket and objectStore.volume.enabled exclude"]),
    ({"objectStore": {"s3": {"existingSecret": "", "accessKeyId": "a"}}}, ["go together"]),
    ({"database": {"sslMode": "yes"}}, ["/database/sslMode", "'verify-full'"]),
    ({"database": {"sslMode": "verify-full"}}, ["needs database.ca.existingSecret"]),
    ({"workers": {"pools": {"transfers": None}}}, ['consumes the queue "transfers"']),
    ({"workers": {"pools": {"Fast": {"queues": ["fast"]}}}}, ["'Fast' does not match"]),
    ({"workers": {"pools": {"fast": {"queus": ["fast"]}}}}, ["additional properties 'queus' not allowed"]),
    ({"workers": {"pools": {"fast": {}}}}, ["workers.pools.fast.queues is empty"]),
    ({"web": {"httpRoute": {"enabled": True}}}, ["web.httpRoute.parentRefs is empty"]),
    ({"dataPlane": {"enabled": False}, "gateway": {"ingress": {"enabled": True}}}, ["dataPlane.enabled is false"]),
    ({"web": {"autoscaling": {"enabled": True, "minReplicas": 20}}}, ["web.autoscaling.minReplicas is greater"]),
    ({"networkPolicy": {"database": {"ports": []}}}, ["/networkPolicy/database/ports", "minItems"]),
    ({"rbac": {"namespacePrefix": ""}}, ["rbac.namespacePrefix is empty"]),
]

SECRETS: list[tuple[Values, str]] = [
    ({"secrets": {"secretKey": "hunter2"}}, "secrets.secretKey is shorter"),
    ({"secrets": {"encryptionKeys": ["hunter2"]}}, "secrets.encryptionKeys[0] is no Fernet key"),
    ({"database": {"existingSecret": "", "url": "mysql://a:hunter2@h/d"}}, "database.url must be postgresql://"),
    ({"redis": {"existingSecret": "", "url": "hunter2"}}, "redis.url must be redis://"),
]


def refusal(**changes: Any) -> str:
    """What Helm says of the minimum with these changes."""
    with pytest.raises(helm_python.HelmError) as refused:
        charts.objects(charts.values(**changes))
    return str(refused.value)


@pytest.mark.parametrize(("changes", "words"), MISTAKES, ids=[words[0] for _, words in MISTAKES])
def test_a_mistake_is_refused_with_its_name_and_a_way_out(changes: Values, words: list[str]) -> None:
    said = refusal(**changes)
    for word in words:
        assert word in said


@pytest.mark.parametrize(("changes", "words"), SECRETS, ids=[words for _, words in SECRETS])
def test_a_secret_that_is_wrong_is_named_and_not_shown(changes: Values, words: str) -> None:
    said = refusal(**changes)
    assert words in said
    assert "hunter2" not in said


def test_all_mistakes_are_told_at_once() -> None:
    said = refusal(image={"repository": ""}, publicUrl="", redis={"existingSecret": ""})
    assert said.count("\n- ") == 3


def test_an_installation_is_refused_as_a_rendering_is() -> None:
    with (
        helm_python.Config(storage_driver="memory") as helm,
        pytest.raises(helm_python.HelmError, match="web/replicas"),
    ):
        helm.install(
            CHART, charts.RELEASE, charts.values(web={"replicas": "two"}), namespace=charts.NAMESPACE, dry_run="client"
        )


def test_the_schema_describes_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    assert list(_gaps("", defaults, schema)) == []


def _gaps(path: str, default: Any, schema: dict[str, Any]) -> list[str]:
    gaps = [] if path == "" or schema.get("description") else [f"{path} has no description"]
    properties = schema.get("properties")
    if properties is None or not isinstance(default, dict):
        return gaps
    if schema.get("additionalProperties") is not False:
        gaps.append(f"{path} takes unknown names")
    if set(properties) != set(default):
        gaps.append(f"{path}: {sorted(set(properties) ^ set(default))} on one side only")
    for name in set(properties) & set(default):
        gaps += _gaps(f"{path}.{name}", default[name], properties[name])
    return gaps


def test_the_readmes_table_is_current() -> None:
    remedy = "python -m tests.factories.chart_readme"
    assert chart_readme.README.read_text() == chart_readme.current(), remedy


def test_every_default_is_used_by_a_template() -> None:
    """A value that nothing reads promises what is not kept."""
    templates = "".join(template["data"] for template in charts.chart().templates)
    for name, _, _ in chart_readme.rows():
        assert name.rsplit(".", 1)[-1] in templates, name


def test_the_chart_installs_the_version_it_is_shipped_with() -> None:
    from freehold import __version__

    assert charts.chart().metadata["appVersion"] == __version__


def test_every_value_that_the_install_guide_names_exists() -> None:
    known = {name for name, _, _ in chart_readme.rows()}
    every = known | {name.rsplit(".", depth)[0] for name in known for depth in range(1, name.count(".") + 1)}
    top = {name.split(".")[0] for name in known}
    guide = (CHART.parents[1] / "docs" / "helm.md").read_text()
    for named in re.findall(r"`([a-zA-Z0-9]+(?:\.[a-zA-Z0-9]+)+)(?:: \w+)?`", guide):
        if named.split(".")[0] in top:
            assert named in every, named
