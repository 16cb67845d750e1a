"""Text to tokens and back, the training of tokenizers, and conversations as tokens."""
