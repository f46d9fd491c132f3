"""Selectors: one published method a file."""
