"""Rules that turn numbers into a choice: pure functions on arrays, no model code."""
