"""The library: models and datasets by name, where to get them, and the readers of the datasets."""
