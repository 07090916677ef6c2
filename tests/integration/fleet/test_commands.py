"""`manage.py cluster_register` and `cluster_list`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from freehold.fleet import observations
from freehold.fleet.models import Cluster
from tests.factories.clusters import DIGEST, KUBECONFIG, gpu_node, observe

pytestmark = pytest.mark.django_db


def run(command: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(command, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "config").write_text(KUBECONFIG)
    return {"name": "fra-1", "region": "eu-central", "engine_digest": DIGEST, "kubeconfig": str(tmp_path / "config")}


def test_a_cluster_is_registered_and_then_changed(files: dict[str, Any], tmp_path: Path) -> None:
    assert "Registered fra-1" in run("cluster_register", **files)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"user_id": 1000}))
    assert "Updated fra-1" in run("cluster_register", name="fra-1", cluster_settings=settings)
    cluster = Cluster.objects.get()
    assert (cluster.region.name, cluster.settings) == ("eu-central", {"user_id": 1000})
    work = observations.cluster_get_for_work(cluster_id=cluster.pk)
    assert work.credentials is not None


def test_the_list_shows_conditions_and_room_and_fails_where_one_is_silent(
    files: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("cluster_register", **files)
    assert "not looked at yet" in run("cluster_list")
    cluster = observe(Cluster.objects.get(), gpu_node("a", 1))
    listed = run("cluster_list")
    assert "Reachable=True" in listed
    assert "h100-80gb-hbm3-1x: room for 1, on 1 nodes" in listed
    assert "secret" not in listed
    observations.cluster_record_unreachable(cluster_id=cluster.pk, message="connection refused")
    with pytest.raises(SystemExit):
        run("cluster_list")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"region": None}, "--region"),
        ({"kubeconfig": "/nowhere"}, "--kubeconfig"),
        ({"kubeconfig": None}, "kubeconfig: "),
        ({"engine_digest": "latest"}, "engine_digest: "),
        ({"cluster_settings": Path("/nowhere")}, "--cluster-settings"),
    ],
)
def test_what_is_wrong_is_said_with_the_option(files: dict[str, Any], change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CommandError, match=complaint):
        run("cluster_register", **{**files, **change})
