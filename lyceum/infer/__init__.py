"""Inference: requests, searches and pages over a Runner; samplers; the CPU kernels; the plain reference."""
