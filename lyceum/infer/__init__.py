"""Inference: samplers, the key-value cache, the plain reference and the batching engine."""
