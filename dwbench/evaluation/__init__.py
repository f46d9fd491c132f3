"""Scores of a tuned model on test rows, through lm-eval."""
