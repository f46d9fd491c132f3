"""Language models: what they are, how they are loaded, how a conversation is put to them."""
