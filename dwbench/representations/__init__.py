"""What is computed of a pool: response losses, generations, attention."""
