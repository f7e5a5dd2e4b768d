"""Facts about the repository that documents and configuration promise."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from arriero.cli.main import VERBS
from arriero.cli.source import STARTER
from arriero.config.load import load_config
from arriero.version import __version__

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "arriero"
LOCKS = ["requirements.lock", "tests/tools.lock"]
LONGEST_FILE = 400
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def text(name: str) -> str:
    return (ROOT / name).read_text()


@cache
def project() -> dict[str, list[Requirement]]:
    """The project's requirements by extra; "" holds those that are always needed."""
    table = tomllib.loads(text("pyproject.toml"))["project"]
    extras = {"": table["dependencies"], **table["optional-dependencies"]}
    return {
        extra: [Requirement(line) for line in lines if not line.startswith("arriero")]
        for extra, lines in extras.items()
    }


def wanted(lock: str) -> list[Requirement]:
    """What a lock is written from."""
    if lock == "requirements.lock":
        return [requirement for requirements in project().values() for requirement in requirements]
    lines = text(lock.replace(".lock", ".in")).splitlines()
    return [Requirement(line.partition("#")[0]) for line in lines if not line.startswith("#")]


def kept_files() -> list[Path]:
    """Files that are, or may come to be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def modules() -> set[str]:
    """The modules of the package, as paths below it."""
    paths = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
    return {path.as_posix() for path in paths if path.name != "__init__.py"}


def test_the_version_is_the_newest_of_the_changelog() -> None:
    """Whoever raises one raises the other."""
    headings = re.findall(r"^## \[?([^\s\]]+)", text("CHANGELOG.md"), re.MULTILINE)

    assert headings[0] == __version__


def test_no_file_is_longer_than_a_screen_can_bear() -> None:
    """A file of the package that grows beyond the bound is split by responsibility."""
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}

    assert {str(path): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_package_files_are_empty() -> None:
    """`__init__.py` holds nothing, so importing has no effect."""
    assert [path for path in SOURCE.rglob("__init__.py") if path.read_text().strip()] == []


def test_every_module_says_what_it_is() -> None:
    """Each file begins with its docstring."""
    silent = [name for name in modules() if not (SOURCE / name).read_text().startswith(('"""', 'r"""'))]

    assert silent == []


def test_the_map_names_every_module_and_no_other() -> None:
    """ARCHITECTURE.md is complete, and nothing on it is gone."""
    tables = text("ARCHITECTURE.md").partition("## The files")[2].partition("## The flows")[0]
    named = {name for name in re.findall(r"`([\w/]+\.py)`", tables) if not name.startswith("tests/")}

    assert named == modules()


def test_paths_in_documents_exist() -> None:
    """Links of the documents lead to files of the repository."""
    for document in (
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        *map(str, (ROOT / "docs").rglob("*.md")),
    ):
        folder = (ROOT / document).parent
        links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", (ROOT / document).read_text())
        assert [link for link in links if not (folder / link).exists()] == [], document


def anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as its readers make them."""
    prose = re.sub(r"^```.*?^```", "", text(document), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_anchors_in_documents_exist() -> None:
    """A link to a part of a document leads to a heading that it has."""
    documents = ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    for document in documents:
        links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text(document))
        targets = [
            ((ROOT / document).parent / (path or Path(document).name), anchor) for path, anchor in links
        ]
        lost = [
            anchor
            for path, anchor in targets
            if path.suffix == ".md" and anchor not in anchors(str(path.relative_to(ROOT)))
        ]
        assert lost == [], document


def test_scripts_that_documents_name_exist() -> None:
    """Every `scripts/NAME` that a document or a workflow mentions can be run."""
    mentioned = set()
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", ".ci/run"):
        mentioned |= set(re.findall(r"scripts/[a-z]+", text(document)))

    assert mentioned
    assert [name for name in sorted(mentioned) if not (ROOT / name).stat().st_mode & 0o100] == []


def test_the_readme_names_every_verb() -> None:
    """A verb that is added is told."""
    (line,) = re.findall(r"^- \*\*Command line\.\*\*(.*?);", text("README.md"), re.MULTILINE | re.DOTALL)

    assert re.findall(r"`(\w+)`", line) == list(VERBS)


def test_first_requests_ask_what_the_starter_has() -> None:
    """The tasks and models that README and the smoke test name are in the starter configuration."""
    starter = load_config(STARTER, {})
    for document in ("README.md", "scripts/smoke"):
        requests = text(document).partition("## Your own configuration")[0]
        tasks = set(re.findall(r"/v1/task/(\w+)/", requests)) | set(
            re.findall(r'model"?[=:] ?"(\w+)"', requests)
        )
        assert tasks
        assert tasks <= {*starter.tasks, *starter.models}, document
        assert set(re.findall(r"/v1/model/(\w+)/", requests)) <= set(starter.models), document


def test_the_key_of_the_first_request_is_accepted() -> None:
    """Programs that must send a key can send the one of the README to the starter."""
    keys = re.findall(r'api_key="([^"]+)"', text("README.md"))

    assert keys
    assert set(keys) <= set(load_config(STARTER, {}).auth.allowed_keys)


def test_the_starter_listens_on_this_machine_only() -> None:
    """It serves without a key, so nobody else may reach it."""
    starter = load_config(STARTER, {})

    assert starter.auth.public
    assert starter.server.is_loopback


def test_configurations_in_the_readme_have_known_keys(tmp_path: Path) -> None:
    """The example configuration of the README loads, once its weights are there."""
    block = re.search(r"```toml\n(.*?)```", text("README.md"), re.DOTALL)
    assert block is not None
    weights = tmp_path / tomllib.loads(block[1])["models"]["qwen"]["path"]
    weights.parent.mkdir()
    weights.write_bytes(b"GGUF\3\0\0\0")
    (tmp_path / "arriero.toml").write_text(block[1])

    assert list(load_config(tmp_path / "arriero.toml", {}).tasks) == ["haiku"]


# Written in two parts each, so that this file does not hold what it looks for.
FORBIDDEN = [
    "py" + "pi.org",
    "python" + "hosted",
    "registry.npm" + "js",
    "deb.deb" + "ian.org",
    "--extra-index" + "-url",
    "--index" + "-url",
    "/work" + "/main",
    "/work" + "/shared",
    "/tmp" + "/lab",
    "/opt" + "/wheels",
    "/opt" + "/pypi",
]


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_file_names_an_index_or_a_place_of_one_machine(word: str) -> None:
    """Where packages come from is the business of whoever installs; paths of one machine help nobody."""
    holding = [str(path) for path in kept_files() if word.encode() in path.read_bytes()]

    assert holding == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_no_addresses(lock: str) -> None:
    """Each pinned package has a SHA-256, and nothing says where it is to be had."""
    entries = re.split(r"^(?=\S)", text(lock), flags=re.MULTILINE)[1:]

    assert entries
    assert [entry for entry in entries if not PIN.match(entry) or "--hash=sha256:" not in entry] == []
    assert re.findall(r"://|@ |^-", text(lock), re.MULTILINE) == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_satisfies_what_it_is_for(lock: str) -> None:
    """Every requirement, of every extra, is pinned to a version that it allows."""
    pinned: dict[str, set[str]] = {}
    for name, version in PIN.findall(text(lock)):
        pinned.setdefault(canonicalize_name(name), set()).add(version)
    missing = [
        str(requirement)
        for requirement in wanted(lock)
        if not all(
            requirement.specifier.contains(version)
            for version in pinned.get(canonicalize_name(requirement.name), {"0"})
        )
    ]

    assert missing == []


def test_every_dependency_is_explained_and_no_other() -> None:
    """docs/design/dependencies.md has one row for each requirement, in the part of its extra."""
    parts = re.split(r"^## ", text("docs/design/dependencies.md"), flags=re.MULTILINE)[1:]
    found = {
        heading: set(re.findall(r"^\| ([a-z0-9-]+) \|", part, re.MULTILINE)) - {"package"}
        for part in parts
        for heading in re.findall(r"\A(Needed to run|Extra `\w+`)", part)
    }
    named = {f"Extra `{extra}`" if extra else "Needed to run": extra for extra in project()}

    assert found == {
        heading: {requirement.name for requirement in project()[extra]} for heading, extra in named.items()
    }


def test_scripts_find_their_place_and_stop_at_the_first_failure() -> None:
    """Every shell script may be called from anywhere and never goes on after a failure."""
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        script = path.read_text()
        if script.startswith("#!/usr/bin/env bash"):
            assert 'set -euo pipefail\ncd "$(dirname "$0")/.."\n' in script, path
