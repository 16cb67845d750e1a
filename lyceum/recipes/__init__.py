"""One stage of a model's life a file: a config in, a Run out."""
