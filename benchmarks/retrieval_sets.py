"""Questions with the documents that answer them, made of files that other software ships. Nothing is kept.

    man, man-description   DIR of man pages (`*.gz`): the line under NAME, or the first sentence under
                           DESCRIPTION, finds the page that it was taken out of
    python                 a folder of Python sources: the first paragraph of a docstring finds its rest
    packages               Debian's file `Translation-en`, unpacked: the synopsis of a package finds its long
                           description
    faq                    DIR of HTML pages and PODs: a heading that asks finds the text below it

The name of the page, of the function or of the package is taken out of each question: it would tell.
"""

from __future__ import annotations

import ast
import functools
import gzip
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from arriero.errors import UnreadableDocument
from arriero.extract import html
from arriero.extract.document import Kind
from arriero.extract.limits import Limits

SEED = 1
MIN_WORDS = 3
"""Of a question; a shorter one asks nothing."""
MAN_PAGES = 150
"""Pages that are printed; the rest is left out."""
MAN_CHARS = (800, 12_000)
TEXT_CHARS = (120, 8_000)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Item:
    """A document and the question that it answers."""

    name: str
    question: str
    text: str


def items(kind: str, source: Path, count: int) -> list[Item]:
    """Return at most `count` items of a set, the same at each call."""
    found: dict[str, Item] = {}
    for item in READERS[kind](source):
        if len(item.question.split()) >= MIN_WORDS:
            found.setdefault(item.question.lower(), item)
    once = {item.name: item for item in found.values()}
    chosen = [once[name] for name in sorted(once)]
    random.Random(SEED).shuffle(chosen)
    return chosen[:count]


def man(source: Path) -> Iterator[Item]:
    """Yield pages without NAME, each with what its NAME says."""
    for name, page in _pages(source):
        body = re.split(r"^NAME\n(.*?)\n(?=\S)", page, maxsplit=1, flags=re.M | re.S)
        if len(body) == 3 and " - " in (line := _one_line(body[1])):
            yield Item(f"{name}.txt", _without(line.split(" - ", 1)[1], name), body[2])


def man_description(source: Path) -> Iterator[Item]:
    """Yield pages without NAME and without the first sentence under DESCRIPTION, which is the question."""
    for name, page in _pages(source):
        body = re.split(r"^NAME\n.*?\n(?=\S)", page, maxsplit=1, flags=re.M | re.S)[-1]
        place = re.search(r"^DESCRIPTION\n(\s+.*?[.:])(?=\s)", body, flags=re.M | re.S)
        if place and len(place[1]) <= 300:
            rest = body[: place.start(1)] + body[place.end(1) :]
            yield Item(f"{name}.txt", _without(_one_line(place[1]), name), rest)


def python(source: Path) -> Iterator[Item]:
    """Yield signatures with the rest of their docstrings."""
    for path in sorted(source.rglob("*.py")):
        if {"test", "tests", "idlelib", "site-packages", "lib2to3"} & set(path.relative_to(source).parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
                if TEXT_CHARS[0] <= len(rest) <= TEXT_CHARS[1]:
                    module = ".".join(path.relative_to(source).with_suffix("").parts)
                    text = f"{module}.{node.name}\n\n{rest.strip()}"
                    yield Item(f"{module}.{node.name}.{node.lineno}.txt", _without(first, node.name), text)


def packages(source: Path) -> Iterator[Item]:
    """Yield the long descriptions of packages, one for each text, without what all of a source share."""
    with source.open(encoding="utf-8") as lines:
        name = ""
        description: list[str] = []
        for line in lines:
            if line.startswith("Package: "):
                name = line.split()[1]
            if line.startswith(("Description: ", "Description-en: ")):
                description = [line.partition(" ")[2]]
            elif description and line.startswith(" "):
                description.append("" if line.strip() == "." else line.strip())
            elif description:
                synopsis, *rest = description
                text = "\n".join(rest)
                if TEXT_CHARS[0] <= len(text) <= TEXT_CHARS[1] and not name.startswith("lib"):
                    yield Item(f"{name}.txt", _without(synopsis, name), text)
                description = []


def faq(source: Path) -> Iterator[Item]:
    """Yield answers of FAQs with their questions."""
    for path in sorted(path for path in source.rglob("*") if path.suffix in {".html", ".pod"}):
        asked = _pod(path) if path.suffix == ".pod" else _page(path)
        for number, (question, text) in enumerate(asked):
            question = _one_line(re.sub(r"^[\d.]+\s*|[¶]", "", question))
            if question.endswith("?") and TEXT_CHARS[0] <= len(text) <= TEXT_CHARS[1]:
                yield Item(f"{path.stem}-{number}.txt", question, text)


READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "man": man,
    "man-description": man_description,
    "python": python,
    "packages": packages,
    "faq": faq,
}


@functools.cache
def _pages(source: Path) -> list[tuple[str, str]]:
    """Return the pages as `man` prints them, without head and foot."""
    paths = [path for path in source.rglob("*.gz") if path.is_file() and not path.is_symlink()]
    paths = sorted(path for path in paths if re.fullmatch(r"man[1-8]", path.parent.name))
    random.Random(SEED).shuffle(paths)
    plain = [path for path in paths if not gzip.decompress(path.read_bytes()).startswith(b".so ")]
    with ThreadPoolExecutor(2) as pool:
        pages = pool.map(_page_text, plain[:MAN_PAGES])
        named = [(path.name.split(".")[0], page) for path, page in zip(plain, pages, strict=False)]
    return [(name, page) for name, page in named if MAN_CHARS[0] <= len(page) <= MAN_CHARS[1]]


def _page_text(path: Path) -> str:
    environment = {**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    command = ["man", "--nh", "--nj", "-P", "cat", str(path)]
    run = subprocess.run(command, capture_output=True, check=False, env=environment)
    lines = re.sub("\x1b\\[[0-9;]*m|.\b", "", run.stdout.decode()).strip("\n").split("\n")
    return "\n".join(lines[1:-1]).strip("\n") + "\n"


def _page(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the headings of an HTML page, each with the text up to the next one."""
    try:
        document = html.read(path.read_bytes(), None, Limits())
    except UnreadableDocument:
        return
    headings = [block for block in document.blocks if block.kind is Kind.HEADING]
    ends = [heading.start for heading in headings[1:]] + [len(document.text)]
    for heading, end in zip(headings, ends, strict=True):
        yield document.text[heading.start : heading.end], document.text[heading.end : end].strip()


def _pod(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the headings of a POD, each with the text up to the next one, without the marks of POD."""
    parts = re.split(r"^=head\d (.*)\n", path.read_text("utf-8", "replace"), flags=re.M)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        lines = re.sub(r"^=\w+.*\n|X<[^>]*>", "", text, flags=re.M)
        plain = re.sub(r"[BCFIL]<+ ?([^<>]*?) ?>+", r"\1", lines)
        yield re.sub(r"[BCFIL]<+ ?([^<>]*?) ?>+", r"\1", heading), plain.strip()


def _without(question: str, name: str) -> str:
    return _one_line(re.sub(rf"\b{re.escape(name)}\b(\(\))?", " ", question, flags=re.IGNORECASE)).strip(
        " -:."
    )


def _one_line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
