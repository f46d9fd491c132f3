"""Finished runs in other people's viewers: W&B and trackio. Fed from records; they never decide anything."""
