"""Data sets: rows, splits, prompts."""
