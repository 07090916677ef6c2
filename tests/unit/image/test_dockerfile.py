"""The Dockerfile, read: what it copies is there, what it leaves out stays out, and the result runs as nobody in
particular."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from tests.factories import charts

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "requirements" / "platform.lock"
BUILD_LOCK = ROOT / "requirements" / "build.lock"


@cache
def instructions() -> tuple[tuple[str, str], ...]:
    """(INSTRUCTION, arguments), continuation lines joined, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return tuple((line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in whole.splitlines() if line.strip())


def stages() -> list[list[tuple[str, str]]]:
    """Instructions by stage; what comes before the first FROM belongs to none."""
    found: list[list[tuple[str, str]]] = []
    for name, arguments in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, arguments))
    return found


def copied() -> list[str]:
    """Sources from the build's context."""
    return [
        source
        for name, arguments in instructions()
        if name == "COPY" and "--from=" not in arguments
        for source in arguments.split()[:-1]
    ]


def environment() -> dict[str, str]:
    """ENV of the final image."""
    text = " ".join(arguments for name, arguments in stages()[-1] if name == "ENV")
    return dict(pair.split("=", 1) for pair in text.split())


def steps() -> list[str]:
    """Commands of the stage that builds."""
    lines = [arguments for name, arguments in stages()[0] if name == "RUN"]
    return [part.strip() for line in lines for part in line.split("&&")]


def versions(lock: Path) -> dict[str, str]:
    """Package → version."""
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def reaches_the_build(path: str) -> bool:
    """By .dockerignore, in which the last line that matches a path or one of its parents decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        names = [pattern.removeprefix("**/")] if pattern.startswith("**/") else []
        hit = any(fnmatch(parent, pattern) for parent in parents)
        hit = hit or any(fnmatch(part, name) for part in Path(path).parts for name in names)
        if hit:
            kept = line.startswith("!")
    return kept


def test_everything_that_is_copied_exists_and_is_let_in() -> None:
    locks = {f"requirements/{lock.name}" for lock in (LOCK, BUILD_LOCK)}
    assert set(copied()) == {*locks, "manage.py", "platform", "workers"}
    for source in copied():
        assert (ROOT / source).exists()
        assert reaches_the_build(source)


def test_everything_else_stays_out() -> None:
    for path in (
        ".freehold/secrets.json",
        ".env",
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "requirements/dev.lock",
        "platform/freehold/onebox/demo.py",
        "platform/freehold/gateway/_native/0123456789abcdef/manifest.json",  # of this machine's Python
        "platform/freehold/api/__pycache__/urls.cpython-311.pyc",
    ):
        assert not reaches_the_build(path), path
    assert reaches_the_build("platform/freehold/api/urls.py")


def test_the_image_runs_as_the_user_that_the_chart_names() -> None:
    (user,) = [arguments for name, arguments in stages()[-1] if name == "USER"]
    uid, gid = map(int, user.split(":"))
    assert uid == gid != 0
    pod = charts.pick(charts.rendered("minimum"), "Deployment", "freehold-web")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == uid


def test_the_final_stage_builds_nothing_and_hides_no_entry_point() -> None:
    final = stages()[-1]
    assert len(stages()) == 2
    for name, arguments in final:
        assert name not in {"ENTRYPOINT", "ADD", "VOLUME", "EXPOSE"}
        if name == "RUN":
            assert not re.search(r"\b(pip|apt|apt-get|gcc|make|curl|wget) ", arguments)
        if name == "COPY":
            assert arguments.startswith("--from=build /app ")


def test_packages_are_pinned_by_hash() -> None:
    installs = [part for part in steps() if re.search(r"\bpip install\b", part)]
    assert len(installs) == 2
    assert all("--require-hashes --only-binary :all:" in part for part in installs)
    for lock in (LOCK, BUILD_LOCK):
        pinned = re.findall(r"^[a-z0-9]", lock.read_text(), re.MULTILINE)
        assert len(pinned) == len(re.findall(r"^\S+==\S+ \\\n    --hash=sha256:", lock.read_text(), re.MULTILINE))


def test_the_gateway_is_compiled_by_what_the_tests_had_and_for_what_the_image_has() -> None:
    tested = versions(ROOT / "requirements" / "dev.lock")
    assert versions(BUILD_LOCK).items() <= tested.items()
    assert {"mypy", "setuptools"} <= versions(BUILD_LOCK).keys()
    (compiles,) = [part for part in steps() if "freehold.gateway.compile" in part]
    assert compiles == "PYTHONPATH=/opt/build:/app/platform /app/venv/bin/python -m freehold.gateway.compile"
    assert any("--target /opt/build " in part for part in steps())  # and so in no layer of the final image
    names = [arguments for name, arguments in stages()[0] if name in {"RUN", "COPY"}]
    assert names.index("platform /app/platform") < names.index(compiles)


def test_an_image_whose_gateway_is_not_compiled_does_not_start_one() -> None:
    assert environment()["GATEWAY_NATIVE"] == "require"


def test_no_value_in_the_image_is_a_secret() -> None:
    for name, arguments in instructions():
        if name in {"ENV", "ARG"}:
            assert not re.search(r"SECRET|PASSWORD|TOKEN|KEYS?=|_URL=", arguments)


def test_the_base_image_is_named_once_and_does_not_float() -> None:
    (base,) = [arguments for name, arguments in instructions() if arguments.startswith("PYTHON_IMAGE=")]
    assert re.search(r":3\.11-[a-z-]+(@sha256:[0-9a-f]{64})?$", base)
    assert all(arguments.startswith("${PYTHON_IMAGE}") for name, arguments in instructions() if name == "FROM")


def test_its_environment_is_the_one_that_the_code_expects() -> None:
    values = environment()
    assert values["PYTHONPATH"] == "/app/platform:/app"
    assert find_spec(values["DJANGO_SETTINGS_MODULE"]) is not None
    build = " ".join(arguments for name, arguments in stages()[0] if name == "RUN")
    assert f"FREEHOLD_STATIC_ROOT={values['FREEHOLD_STATIC_ROOT']}" in build


def test_files_that_pods_run_by_path_are_in_the_image() -> None:
    for _, template in charts.templates(charts.rendered("everything")):
        for container in charts.containers(template):
            for word in container.get("command", ()):
                if word.startswith("/app/"):
                    assert (ROOT / word.removeprefix("/app/")).is_file()
    assert (ROOT / "workers" / "runtimes" / "fetcher.py").is_file()  # init containers of engines run it


def test_the_image_has_every_package_that_its_code_imports() -> None:
    locked = {name.lower() for name in versions(LOCK)}
    by_module = packages_distributions()
    for file, module in _imports():
        distributions = {name.lower().replace("_", "-") for name in by_module.get(module, ())}
        assert distributions & locked, f"{file} imports {module}"


def _imports() -> Iterator[tuple[Path, str]]:
    """Every import of a package that is neither ours nor Python's, in what the image has."""
    files = [*(ROOT / "platform").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    for file in files:
        path = file.relative_to(ROOT)
        if not reaches_the_build(str(path)):
            continue
        for node in ast.walk(_without_type_checking(ast.parse(file.read_text()))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top not in {"freehold", "workers"}:
                    yield path, top


def _without_type_checking(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree
