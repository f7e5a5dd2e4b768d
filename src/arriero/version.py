"""The version, in one place; the changelog's newest heading must equal it."""

__version__ = "0.1.0"
