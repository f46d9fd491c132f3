"""Fine-tuning of the chosen rows."""
