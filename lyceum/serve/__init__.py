"""How people reach a model: the terminal chat."""
