"""Lyceum takes a language model through its whole life. See docs/architecture.md for the map."""

import os

# Threads that wait for each other sleep instead of spinning. On two cores with one other busy process spinning made the
# same work 86 s instead of 0.8 s (LOG 2026-11-20). It must be set before torch loads its OpenMP library.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
