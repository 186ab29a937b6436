"""A maintainer's tools: how the embedded models were trained. Using the package runs nothing of it."""
