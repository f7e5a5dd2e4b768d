"""The names of WordprocessingML that its readers know, in both of its namespaces. Pure."""

from __future__ import annotations

LEVELS = 9
"""Levels of headings. Outline levels count from 0; one more says that a paragraph is none."""
_NAMESPACES = (
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main ",
    "http://purl.oclc.org/ooxml/wordprocessingml/main ",
)
_TAGS = """
    style name basedOn outlineLvl pStyle numPr numId ilvl p r t tab br cr noBreakHyphen vanish tbl tr tc
    txbxContent del moveFrom pPrChange rPrChange tblPrChange sectPrChange numberingChange rt sectPr tabs
"""
_LOCAL = {namespace + tag: tag for namespace in _NAMESPACES for tag in _TAGS.split()}


def word(name: str) -> str:
    """Return the local name of a known element, "" for any other."""
    return _LOCAL.get(name, "")


def value(attributes: dict[str, str], name: str = "val") -> str:
    """Return an attribute of WordprocessingML, "" if it is not there."""
    for namespace in _NAMESPACES:
        found = attributes.get(namespace + name)
        if found is not None:
            return found
    return ""
