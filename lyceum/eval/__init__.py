"""Evaluation: tasks, the harness that asks an engine, and scores with intervals."""
