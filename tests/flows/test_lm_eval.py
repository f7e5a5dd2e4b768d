"""The evaluation harness `lm-eval` runs two tasks from files through a guard before a real model.

Its tokenizer is the one that the guard publishes, loaded as the test bench of the Pocket network loads it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.flows.guarded_model import PUBLIC, SECRET, guarded_model
from tests.flows.process import HEADERS, KEY, Served
from tests.tools import python_with

pytestmark = pytest.mark.slow

TASKS = Path(__file__).parent / "eval_tasks"
VARIABLE = "ARRIERO_LM_EVAL"
LIMIT_S = 900


@pytest.fixture(scope="module")
def harness() -> str:
    """The Python that has `lm_eval` with its extra `api`, and `transformers`."""
    return os.environ.get(VARIABLE) or python_with("lm_eval")


@pytest.fixture(scope="module")
def guard(harness: str, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The guard."""
    with guarded_model(smollm2, tmp_path_factory.mktemp("lm_eval")) as (guard, _):
        yield guard


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """The tasks, which name their data by its place."""
    folder = shutil.copytree(TASKS, tmp_path / "tasks")
    for task in folder.glob("*.yaml"):
        task.write_text(task.read_text().replace("DATA", str(folder)))
    return folder


@pytest.fixture
def tokenizer(guard: Served, tmp_path: Path) -> Path:
    """The tokenizer that the guard publishes, as files."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    answer = httpx2.get(f"{guard.url}/pokt/tokenizer", headers=HEADERS, timeout=60)
    parts: dict[str, Any] = answer.raise_for_status().json()
    settings = parts["tokenizer_config"]
    settings["model_max_length"] = int(settings["model_max_length"])
    for name, part in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(part))
    return folder


def evaluated(harness: str, tasks: Path, model: str, arguments: dict[str, str], *options: str) -> Any:
    """Run the harness; return what it reports."""
    output = tasks.parent / "output"
    command = [
        *(harness, "-m", "lm_eval", "run", "--include_path", str(tasks), "--output_path", str(output)),
        *("--log_samples", "--batch_size", "1", "--model", model, "--model_args"),
        ",".join(f"{key}={value}" for key, value in {"model": PUBLIC, **arguments}.items()),
        *options,
    ]
    environment = os.environ | {
        "OPENAI_API_KEY": KEY,
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(tasks.parent / "hub"),
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, env=environment, timeout=LIMIT_S, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    (report,) = output.rglob("results_*.json")
    samples = [
        json.loads(line) for file in output.rglob("samples_*") for line in file.read_text().splitlines()
    ]
    assert SECRET not in done.stdout + done.stderr + json.dumps(samples)
    return json.loads(report.read_text())["results"], samples


def test_completions(harness: str, guard: Served, tasks: Path, tokenizer: Path) -> None:
    """Completions give generations, and with `echo` and `logprobs` the likelihoods of token prompts."""
    arguments = {
        "base_url": f"{guard.url}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": str(tokenizer),
        "tokenized_requests": "True",
        "max_length": "1024",
    }

    results, samples = evaluated(
        harness, tasks, "local-completions", arguments, "--tasks", "copy_word,sentiment"
    )

    assert results["copy_word"]["exact_match,trimmed"] == 1.0
    assert results["sentiment"]["acc,none"] >= 0.5
    likelihoods = [float(choice[0][0]) for sample in samples if "acc" in sample for choice in sample["resps"]]
    assert len(likelihoods) == 8
    assert all(-20 < likelihood < 0 for likelihood in likelihoods)


def test_chat(harness: str, guard: Served, tasks: Path) -> None:
    """Generation comes through chat completions."""
    arguments = {"base_url": f"{guard.url}/v1/chat/completions"}

    results, samples = evaluated(
        harness, tasks, "local-chat-completions", arguments, "--tasks", "copy_word", "--apply_chat_template"
    )

    assert "exact_match,trimmed" in results["copy_word"]
    assert len(samples) == 4
    assert all(sample["resps"][0][0].strip() for sample in samples)
