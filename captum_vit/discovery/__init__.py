"""Finding feed-forward sites in a model that no adapter knows, and drafting an adapter for a person to check."""
