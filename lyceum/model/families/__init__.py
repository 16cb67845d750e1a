"""Hugging Face layouts: how each family names and shapes the same weights."""
