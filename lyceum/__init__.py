"""Lyceum takes a language model through its whole life. See docs/architecture.md for the map."""

__version__ = "0.1.0"
