"""Lyceum takes a language model through its whole life. See docs/architecture.md for the map."""

import os

# Threads that wait for each other soon sleep instead of spinning on: as fast as spinning on quiet cores, and up to 100
# times as fast beside a busy neighbour (LOG 2026-11-20). It must be set before torch loads its OpenMP library.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
