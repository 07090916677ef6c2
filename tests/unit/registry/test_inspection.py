"""What the inspection takes and refuses, each refusal by its reason."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from freehold.registry.inspection import facts, strict_json, weights
from freehold.registry.inspection.paths import path_problem, tree_problems
from freehold.registry.inspection.pickles import pickle_problem
from freehold.registry.inspection.problems import Malformed
from freehold.registry.inspection.run import InspectedFile, Report, inspect
from tests.factories.models_on_disk import CONFIG, framed, model_files, safetensors_bytes, write_folder


def _tensor(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def _file(header: Any, data: int) -> bytes:
    return framed(header if isinstance(header, bytes) else json.dumps(header).encode()) + bytes(data)


def _reason(content: bytes) -> str | None:
    try:
        weights.read_header(io.BytesIO(content), len(content))
    except Malformed as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too_short"),
        (b"\0" * 7, "too_short"),
        ((9 * 1024 * 1024).to_bytes(8, "little"), "header_too_large"),
        ((100).to_bytes(8, "little") + b"{}", "header_past_end"),
        (framed(b"[]"), "header_not_json"),
        (framed(b'{"a":'), "json_syntax"),
        (framed(b'{"a": NaN}'), "json_nan"),
        (framed(b'{"__metadata__": {"a": 1}}'), "metadata"),
        (framed(b'{"__metadata__": {"a": "1", "a": "2"}}'), "json_duplicate_key"),
        (framed(b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"), "json_depth"),
        (_file({"a": {"dtype": "F32", "shape": [2]}}, 8), "entry"),
        (_file({"a": {**_tensor(), "more": 1}}, 8), "entry"),
        (_file({"a": _tensor(dtype="Q4")}, 8), "dtype"),
        (_file({"a": _tensor(shape=[-2])}, 8), "shape"),
        (_file({"a": _tensor(shape=[2.0])}, 8), "shape"),
        (_file({"a": _tensor(shape=[True, 2])}, 8), "shape"),
        (_file({"a": _tensor(offsets=[8, 0])}, 8), "offsets"),
        (_file({"a": _tensor(offsets=[0, 4])}, 8), "size_mismatch"),
        (_file({"a": _tensor(shape=[2**62, 2**62])}, 8), "size_mismatch"),
        (_file({"a": _tensor(), "b": _tensor(offsets=[4, 12])}, 12), "overlap"),
        (_file({"a": _tensor(), "b": _tensor(offsets=[12, 20])}, 20), "hole"),
        (_file({"a": _tensor(offsets=[4, 12])}, 12), "hole"),
        (_file({"a": _tensor()}, 9), "trailing_bytes"),
        (_file({"a": _tensor()}, 7), "truncated"),
        (_file(b'{"a": 1, "a": 2}', 0), "json_duplicate_key"),
        (_file({"a": _tensor()}, 8), None),
        (_file({"a": _tensor(), "b": _tensor(offsets=[8, 16])}, 16), None),
        (_file({"a": _tensor(dtype="F4", shape=[2, 8])}, 8), None),
        (_file({"empty": _tensor(shape=[0], offsets=[0, 0])}, 0), None),
        (_file({"__metadata__": {"format": "pt"}, "a": _tensor()}, 8), None),
    ],
)
def test_a_safetensors_file_is_taken_or_refused_for_its_reason(content: bytes, reason: str | None) -> None:
    assert _reason(content) == reason


def test_too_many_tensors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "TENSORS", 3)
    header = {str(i): _tensor(shape=[0], offsets=[0, 0]) for i in range(4)}
    assert _reason(_file(header, 0)) == "too_many_tensors"


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_whatever_we_take_the_reference_reader_takes_too(position: int, flip: int) -> None:
    content = bytearray(safetensors_bytes({"a": ("F32", [2, 2], 16), "b": ("BF16", [3], 6)}))
    content[position % len(content)] ^= flip
    if _reason(bytes(content)) is None:
        try:
            deserialize(bytes(content))  # type: ignore[no-untyped-call]
        except SafetensorError as error:  # pragma: no cover - only where the two disagree
            pytest.fail(f"the reference refuses what we take: {error}")


class _Attack:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return print, ("it ran",)


def _zip(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _tar(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


_PICKLES = [pickle.dumps(_Attack(), protocol) for protocol in range(6)]


@pytest.mark.parametrize("content", _PICKLES)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda content: content,
        lambda content: _zip("archive/data", content),
        lambda content: b"MZ" * 200 + _zip("data.pkl", b"anything"),
        lambda content: _tar("storages", content),
        gzip.compress,
        bz2.compress,
    ],
    ids=["plain", "zip", "prefixed-zip", "tar", "gzip", "bzip2"],
)
@pytest.mark.parametrize("path", ["weights.txt", "tokenizer.model", "README.md"])
def test_a_pickle_is_found_in_every_disguise(path: str, wrap: Callable[[bytes], bytes], content: bytes) -> None:
    problem = pickle_problem(path, io.BytesIO(wrap(content)))
    assert problem is not None
    assert problem.reason == "pickle"
    assert str(problem).startswith(f"{path}: is ")


def test_a_pickle_longer_than_what_is_sniffed_is_found() -> None:
    content = pickle.dumps([_Attack(), "x" * 100] + [str(i) for i in range(200_000)], 0)
    assert pickle_problem("big.txt", io.BytesIO(content)) is not None


@pytest.mark.parametrize("path", ["pytorch_model.bin", "a/b.PT", "c.pkl", "d.pth", "e.ckpt", "f.joblib"])
def test_a_pickle_is_refused_by_its_name(path: str) -> None:
    problem = pickle_problem(path, io.BytesIO(b"harmless"))
    assert problem is not None
    assert "Convert it to safetensors" in problem.remedy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"R. Smith wrote this.",
        b"config of\nthe model\nis here",
        b"# Title",
        b"{}",
        b"c\n.",
        _zip("a.txt", b"hello"),
    ],
)
def test_a_harmless_file_is_no_pickle(content: bytes) -> None:
    assert pickle_problem("notes.txt", io.BytesIO(content)) is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "./a",
        "a\\b",
        "C:/x",
        "a\nb",
        "x" * 256,
        ".git/config",
        ".freehold-incoming/x",
        "a\u202eb",
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path: str) -> None:
    assert path_problem(path) is not None


@pytest.mark.parametrize(
    "paths",
    [["README.md", "readme.md"], ["a/x", "A/y"], ["a", "a/b"], ["caf\u00e9", "cafe\u0301"], ["Stra\u00dfe", "STRASSE"]],
)
def test_paths_that_some_systems_take_for_one_are_refused(paths: list[str]) -> None:
    assert [problem.reason for problem in tree_problems(paths)] == ["collision"]


def test_ordinary_paths_are_fine() -> None:
    assert tree_problems([*model_files(), "1_Pooling/config.json", ".gitattributes", "a/b/c.txt"]) == []


def test_infinity_is_taken_and_nan_is_not() -> None:
    assert strict_json.loads(b'{"time_step_limit": [0.0, Infinity]}')["time_step_limit"][1] == float("inf")
    with pytest.raises(Malformed, match="NaN"):
        strict_json.loads(b"[NaN]")


def _inspect(folder: Path, files: dict[str, bytes]) -> Report:
    write_folder(folder, files)
    return inspect(
        [InspectedFile(path=path, location=folder / path, size=len(content)) for path, content in files.items()]
    )


def test_a_valid_model_passes_the_child(tmp_path: Path) -> None:
    report = _inspect(tmp_path, model_files())
    assert report.problems == ()
    assert report.missing == ()
    assert report.facts["architecture"] == "Qwen3ForCausalLM"
    assert report.facts["dimensions"] == {"hidden_size": 8, "num_hidden_layers": 1}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "sub/processor_config.json"])
def test_remote_code_is_refused_at_any_depth(tmp_path: Path, name: str) -> None:
    report = _inspect(tmp_path, {**model_files(), name: json.dumps({"text": {"auto_map": {}}}).encode()})
    assert [(problem.file, problem.reason) for problem in report.problems] == [(name, "remote_code")]


@pytest.mark.parametrize(
    ("name", "document", "reason"),
    [
        ("config.json", {"speculators_config": {"verifier": {"name_or_path": "/data/other"}}}, "elsewhere"),
        ("config.json", {"text_config": {"speculators_config": {}}}, "elsewhere"),
        ("config.json", {"configuration_files": ["config.4.0.0.json"]}, "elsewhere"),
        ("config.json", {"custom_pipelines": {"x": {"impl": "x.Y"}}}, "remote_code"),
        ("config.json", {"attn_implementation": "somebody/kernel"}, "remote_code"),
        ("processor_config.json", {"audio_tokenizer": {"audio_tokenizer_name_or_path": "/data/other"}}, "elsewhere"),
        ("tokenizer_config.json", {"tokenizer_file": None, "vocab_file": "/etc/passwd"}, "elsewhere"),
        ("tokenizer_config.json", {"init_inputs": ["/etc/passwd"]}, "elsewhere"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "../other"}], "elsewhere"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "/data/other"}], "elsewhere"),
    ],
)
def test_what_leads_the_engine_elsewhere_is_refused(tmp_path: Path, name: str, document: Any, reason: str) -> None:
    report = _inspect(tmp_path, {**model_files(), name: json.dumps(document).encode()})
    assert [(problem.file, problem.reason) for problem in report.problems] == [(name, reason)]


def test_what_training_leaves_in_real_configurations_is_fine(tmp_path: Path) -> None:
    files = {
        "config.json": {
            **CONFIG,
            "_name_or_path": "/home/somebody/../checkpoints/7",
            "_attn_implementation": "flash_attention_2",
            "speculators_config": None,
        },
        "tokenizer_config.json": {
            "name_or_path": "/workspace/model",
            "special_tokens_map_file": "/root/.cache/special_tokens_map.json",
            "tokenizer_file": "/root/.cache/tokenizer.json",
            "vocab_file": None,
            "init_inputs": [],
        },
        "adapter_config.json": {"base_model_name_or_path": "/workspace/base"},
        "modules.json": [{"type": "x", "path": ""}, {"type": "y", "path": "1_Pooling"}],
    }
    assert _inspect(tmp_path, {**model_files(), **{k: json.dumps(v).encode() for k, v in files.items()}}).problems == ()


@pytest.mark.parametrize("text", ["\\u0000", "a\\ud800b"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_text_that_the_database_cannot_hold_is_refused(tmp_path: Path, name: str, text: str) -> None:
    report = _inspect(tmp_path, {**model_files(), name: b'{"model_type": "' + text.encode() + b'"}'})
    assert [(problem.file, problem.reason) for problem in report.problems] == [(name, "json_text")]


def test_emoji_and_escaped_backslashes_are_fine() -> None:
    assert strict_json.loads(rb'["\ud83d\ude00", "\\u0000"]') == ["\U0001f600", "\\u0000"]


def test_a_word_of_a_vocabulary_is_not_remote_code(tmp_path: Path) -> None:
    assert _inspect(tmp_path, {**model_files(), "vocab.json": b'{"auto_map": 1}'}).problems == ()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    report = _inspect(tmp_path, {**model_files(), "model.safetensors.index.json": json.dumps(index).encode()})
    assert report.missing == ("model-00002-of-00002.safetensors",)


def test_a_document_that_eats_memory_is_refused_and_the_child_ends(tmp_path: Path) -> None:
    bomb = b'{"a":[' + b'"aaaaaaaa",' * 1_400_000 + b"1]}"
    hungry = {f"{i}.json": bomb for i in range(8)}
    report = _inspect(tmp_path, {**model_files(), **hungry})
    assert [problem.reason for problem in report.problems] == ["inspection_failed"]


def test_a_model_that_loads_its_halves_from_elsewhere_is_refused(tmp_path: Path) -> None:
    """vLLM 0.32 takes Ultravox's text_model_id and audio_model_id for other models' weights: any folder it can read."""
    for key in ("text_model_id", "audio_model_id"):
        config = {**CONFIG, "model_type": "ultravox", key: "/srv/models/of-somebody-else"}
        report = _inspect(tmp_path, {**model_files(), "config.json": json.dumps(config).encode()})
        assert [problem.reason for problem in report.problems] == ["elsewhere"]
    nothing = {**CONFIG, "text_model_id": None, "audio_model_id": None}
    assert _inspect(tmp_path, {**model_files(), "config.json": json.dumps(nothing).encode()}).problems == ()


def test_headers_of_endless_names_never_reach_the_parent(tmp_path: Path) -> None:
    long = safetensors_bytes({"x" * (weights.NAME_CHARACTERS + 1): ("U8", [1], 1)})
    assert _reason(long) == "name"
    assert _reason(safetensors_bytes({"x" * weights.NAME_CHARACTERS: ("U8", [1], 1)})) is None
    deep = {"a": {"dtype": "U8", "shape": [1] * (weights.DIMENSIONS + 1), "data_offsets": [0, 1]}}
    assert _reason(_file(deep, 1)) == "shape"
    names = {f"{number:05}{'é' * 1000}": ("U8", [0], 0) for number in range(1300)}
    shards = {f"{number}.safetensors": safetensors_bytes(names) for number in range(9)}
    report = _inspect(tmp_path, {**model_files(), **shards})
    assert {problem.reason for problem in report.problems} == {"headers_too_large"}


def test_templates_are_counted_and_measured_before_they_leave_the_child(tmp_path: Path) -> None:
    many = {f"additional_chat_templates/{number}.jinja": b"hello" for number in range(100)}
    report = _inspect(tmp_path, {**model_files(), **many})
    assert {problem.reason for problem in report.problems} == {"chat_template_too_many"}
    large = {f"additional_chat_templates/{number}.jinja": b"\1" * 1024 * 1024 for number in range(5)}
    report = _inspect(tmp_path, {**model_files(), **large})
    assert "chat_template_too_large" in {problem.reason for problem in report.problems}


def test_a_child_that_ends_says_nothing_of_the_machine(tmp_path: Path) -> None:
    gone = InspectedFile(path="config.json", location=tmp_path / "secret-place", size=3)
    (problem,) = inspect([gone]).problems
    assert problem.reason == "inspection_failed"
    assert "FileNotFoundError" in problem.detail
    assert "secret-place" not in str(problem)


def test_a_dimension_of_thousands_of_digits_is_no_fact(tmp_path: Path) -> None:
    config = json.dumps({**CONFIG, "hidden_size": 10**4000}).encode()
    assert "hidden_size" not in _inspect(tmp_path, {**model_files(), "config.json": config}).facts["dimensions"]


@pytest.mark.parametrize(
    ("config", "extra", "task", "context"),
    [
        (CONFIG, {}, "generate", 512),
        ({**CONFIG, "architectures": ["BertModel"]}, {}, "embed", 512),
        (CONFIG, {"modules.json": b"[]", "sentence_bert_config.json": b'{"max_seq_length": 256}'}, "embed", 256),
        (
            {
                "architectures": ["Gemma3ForConditionalGeneration"],
                "text_config": {"max_position_embeddings": 131072},
            },
            {},
            "generate",
            131072,
        ),
    ],
)
def test_task_and_context_length(
    tmp_path: Path, config: dict[str, Any], extra: dict[str, bytes], task: str, context: int
) -> None:
    report = _inspect(tmp_path, {**model_files(), **extra, "config.json": json.dumps(config).encode()})
    assert (report.facts["task"], report.facts["max_model_len"]) == (task, context)


def test_a_second_copy_of_the_weights_is_not_counted_twice() -> None:
    tensor = weights.Tensor(name="a", dtype="F32", shape=(4,), begin=0, end=16)
    tree = facts.Tree(
        sizes={"model.safetensors": 100, "consolidated.safetensors": 100},
        headers={"model.safetensors": [tensor], "consolidated.safetensors": [tensor]},
    )
    assert facts.describe(tree)["parameters"] == 4
