"""Batches and the endless sources they come from."""
