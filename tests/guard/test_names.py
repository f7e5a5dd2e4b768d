"""Names and places in metadata."""

from __future__ import annotations

import msgspec
import pytest

from arriero.guard.names import Names
from arriero.guard.policy import Policy

NAMES = Names(Policy(public_name="public", upstream_name="org/Zebra-42B", secrets=("gpu7:8000", "gpu7")))


@pytest.mark.parametrize(
    ("spelt", "clean"),
    [
        ('"org/Zebra-42B"', '"public"'),
        ('"org\\/Zebra-42B"', '"public"'),
        ('"\\u006frg/Zebra-42B"', '"public"'),
        ('"ORG/zebra-42b, Zebra-42B"', '"public, public"'),
        ('"at gpu7:8000 or gpu7"', '"at [upstream] or [upstream]"'),
        ('{"org/Zebra-42B":[{"a":"xorg/Zebra-42Bx"}]}', '{"public":[{"a":"xpublicx"}]}'),
        ('"my_gpu7-gpu7 gpu77"', '"my_[upstream]-[upstream] gpu77"'),
        ('{"a": 1.0, "b":"\\u00e9"}', '{"a": 1.0, "b":"\\u00e9"}'),
        ("1.50", "1.50"),
        ("null", "null"),
        ('"ſ"', '"ſ"'),
    ],
)
def test_metadata_is_cleaned(spelt: str, clean: str) -> None:
    """Names go in every spelling; a clean value keeps its own."""
    assert bytes(NAMES.clean(msgspec.Raw(spelt.encode()))).decode() == clean


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("see https://a.b/c?d=e.", "see [upstream]"),
        ("connect to 10.0.0.1:80 failed", "connect to [upstream] failed"),
        ("connect to [::1]:80 failed", "connect to [upstream] failed"),
        ("at localhost:9000", "at [upstream]"),
        ("at node-3.cluster.local:9000", "at [upstream]"),
        ("File /usr/lib/python3/x.py, line 3", "File [upstream], line 3"),
        ("max_tokens:100 and/or n=3.5 (a/b)", "max_tokens:100 and/or n=3.5 (a/b)"),
    ],
)
def test_messages_tell_no_places(said: str, told: str) -> None:
    """Addresses and files go from error texts; ordinary words stay."""
    assert NAMES.clean_message(said) == told


def test_same_names_need_no_cleaning() -> None:
    """A model that is public under its upstream's name keeps it."""
    names = Names(Policy(public_name="llama", upstream_name="llama"))

    assert names.clean_text("llama") == "llama"
