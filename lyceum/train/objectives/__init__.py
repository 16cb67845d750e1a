"""Objectives: pure functions of the model's outputs that give a sum and its weight."""
