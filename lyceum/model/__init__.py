"""The model: one Transformer for every family, its weights in and out, its adapters."""
