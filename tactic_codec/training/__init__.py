"""Training: data, losses (equations 1–9), the loop, and export to a model folder. Needs torch."""
