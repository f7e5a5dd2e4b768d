"""The keywords of JSON Schema: what each is about, and which only remark."""

from __future__ import annotations

from collections.abc import Iterable

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")

ALL_TYPES = frozenset(TYPES) - {"integer"}
"""Every type that a value may have; whole numbers are numbers."""

REMARKS = frozenset(
    """
    $schema $id id $anchor $comment $defs definitions $vocabulary $dynamicAnchor $recursiveAnchor
    title description default example examples deprecated readOnly writeOnly discriminator
    contentMediaType contentEncoding contentSchema x-guidance
    """.split()  # noqa: SIM905
)
"""They say nothing about which values conform, or only give names to places."""

ABOUT = {
    "minimum": "number",
    "maximum": "number",
    "exclusiveMinimum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "format": "string",
    "items": "array",
    "prefixItems": "array",
    "additionalItems": "array",
    "minItems": "array",
    "maxItems": "array",
    "uniqueItems": "array",
    "contains": "array",
    "minContains": "array",
    "maxContains": "array",
    "unevaluatedItems": "array",
    "properties": "object",
    "patternProperties": "object",
    "additionalProperties": "object",
    "required": "object",
    "minProperties": "object",
    "maxProperties": "object",
    "propertyNames": "object",
    "dependentRequired": "object",
    "dependentSchemas": "object",
    "dependencies": "object",
    "unevaluatedProperties": "object",
}
"""The one type that a keyword speaks of; values of every other type pass it."""

GENERAL = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"})
BLOCK = frozenset(ABOUT) | {"type", "const", "enum"}
"""Keywords that are written side by side in the schema that is compiled."""

REFUSED = frozenset({"$dynamicRef", "$recursiveRef", "extends", "disallow", "divisibleBy"})
KNOWN = BLOCK | GENERAL | REMARKS | REFUSED

BIAS_WORDS = {
    "min": "minimum",
    "max": "maximum",
    "max_decimals": "multipleOf",
    "min_items": "minItems",
    "max_items": "maxItems",
    "max_length": "maxLength",
}
"""Words of the bias language alone, and what JSON Schema calls them."""

DRAFTS = frozenset(
    {
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-04/schema",
        "http://json-schema.org/schema",
    }
)

_LOWER = {keyword.lower(): keyword for keyword in KNOWN}


def meant(word: str) -> str | None:
    """Return the keyword that an unknown word was surely meant to be, if it is one that matters."""
    keyword = BIAS_WORDS.get(word) or _LOWER.get(word[:1].lower() + word[1:].lower().replace("_", ""))
    return None if keyword in REMARKS else keyword


def about(keyword: str, types: frozenset[str]) -> bool:
    """Return whether a keyword can matter when only these types are left."""
    subject = ABOUT.get(keyword)
    return subject is None or subject in types or (subject == "number" and "integer" in types)


def common(types: frozenset[str], others: Iterable[str]) -> frozenset[str]:
    """Return the types that both name; `number` holds `integer`."""
    second = frozenset(others)
    both = types & second
    whole = "integer" in types | second and ("number" in types or "integer" in types)
    if whole and "number" not in both and ("number" in second or "integer" in second):
        both |= {"integer"}
    return both
