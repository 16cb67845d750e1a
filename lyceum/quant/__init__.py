"""Fewer bits a weight: round to nearest, save for other tools, and say what it cost."""
