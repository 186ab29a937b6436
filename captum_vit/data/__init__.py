"""Photos from files, as a model sees them."""
