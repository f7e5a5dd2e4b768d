"""Requests made from our own OpenAPI document, as it says and not as it says, by the program schemathesis."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.abuse.described import described
from tests.abuse.subject import scaled
from tests.tools import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.abuse.figures import Figures

EACH_OPERATION = 50
SUITE_S = 3600
LONGEST_S = 30
SEED = 6
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
STATUS = re.compile(r" status=(\d+)")
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 501, 502, 503, 504]
"""
"""501: this server has no such thing. 502 to 504: the upstream of a model is not there; or overload."""


@pytest.mark.slow
def test_requests_made_from_the_document(tmp_path: Path, figures: Figures) -> None:
    """Every answer has a status, a type and a form that the document names; none is a failure of ours."""
    schemathesis = program("schemathesis")
    with described(tmp_path) as server:
        (tmp_path / "openapi.json").write_text(json.dumps(server.document))
        (tmp_path / "schemathesis.toml").write_text(SETTINGS)
        done = subprocess.run(
            [schemathesis, *arguments(server.subject.url, server.secret, scaled(EACH_OPERATION))],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SUITE_S,
            check=False,
        )
        assert server.subject.is_alive()
        statuses = Counter(STATUS.findall(server.subject.log.read_text(errors="replace")))

    operations = sum(map(len, server.document["paths"].values()))
    figures.tell(
        "requests made from the OpenAPI document",
        operations=operations,
        statuses=dict(sorted(statuses.items())),
    )
    assert done.returncode == 0, done.stdout[-20_000:]


def arguments(url: str, secret: str, number: int) -> list[str]:
    """Return what schemathesis is told."""
    return [
        *("--config-file", "schemathesis.toml", "--no-color", "run", "openapi.json", "--url", url),
        *("--header", f"Authorization: Bearer {secret}", "--output-sanitize", "false"),
        *("--phases", "coverage,fuzzing", "--mode", "all", "--max-examples", str(number)),
        *("--checks", ",".join(CHECKS), "--continue-on-failure", "--suppress-health-check", "all"),
        *("--seed", str(SEED), "--generation-database", "none", "--request-timeout", str(LONGEST_S)),
        *("--warnings", "off"),
    ]
