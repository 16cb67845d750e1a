"""The fast CPU runner: a ModelConfig and its weights as one call of native code a pass, made at run time."""
