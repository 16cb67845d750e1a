"""Training: one loop, its optimizer, schedule, checkpoints and objectives."""
