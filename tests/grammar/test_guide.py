from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import jsonschema

GUIDE = Path(__file__).parents[2] / "docs" / "grammar.md"


def test_the_example_of_the_guide_runs() -> None:
    """The program in docs/grammar.md runs as it stands and writes a value that conforms to its schema."""
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    (schema,) = re.findall(r"^schema = (.*?^\})", program, re.DOTALL | re.MULTILINE)

    assert done.stderr == ""
    jsonschema.validate(ast.literal_eval(done.stdout), ast.literal_eval(schema))
