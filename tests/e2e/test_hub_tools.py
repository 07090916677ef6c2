"""The tools people have already, pointed at the hub by HF_ENDPOINT and HF_TOKEN alone: transformers and the hf CLI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Onebox

pytestmark = pytest.mark.engine

_EMBEDDINGS = "demo/all-minilm-l6-v2"
_PROGRAM = """
import json, sys
from transformers import AutoModel, AutoTokenizer
repo = sys.argv[1]
tokens = AutoTokenizer.from_pretrained(repo)("A house of one's own.", return_tensors="pt")
output = AutoModel.from_pretrained(repo)(**tokens)
print(json.dumps(list(output.last_hidden_state.shape)))
"""


def _variables(onebox: Onebox, home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": onebox.facts["hub_url"],
        "HF_TOKEN": onebox.facts["api_key"],
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **more,
    }


def test_transformers_loads_a_private_model_by_its_name(
    onebox: Onebox, engine_variables: dict[str, str], tmp_path: Path
) -> None:
    variables = _variables(onebox, tmp_path)
    if libraries := engine_variables.get("FREEHOLD_ENGINE_LD_LIBRARY_PATH"):
        variables["LD_LIBRARY_PATH"] = libraries
    command = [engine_variables["FREEHOLD_ENGINE_PYTHON"], "-c", _PROGRAM, _EMBEDDINGS]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    _, tokens, dimensions = json.loads(done.stdout.splitlines()[-1])
    assert tokens > 5
    assert dimensions == 384


def test_the_command_line_uploads_downloads_and_says_why_xet_does_not_work(onebox: Onebox, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Notes\n")

    def hf(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("hf")), *arguments],
            env=_variables(onebox, tmp_path, **more), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = hf("upload", "demo/notes", str(source), HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stderr
    done = hf("download", "demo/notes", "--local-dir", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "README.md").read_bytes() == (source / "README.md").read_bytes()
    (source / "model.safetensors").write_bytes(bytes(100_000))
    done = hf("upload", "demo/notes", str(source))
    assert done.returncode != 0
    assert "HF_HUB_DISABLE_XET=1" in done.stderr + done.stdout
    done = hf("repos", "delete", "demo/notes", "--yes")
    assert done.returncode == 0, done.stderr
