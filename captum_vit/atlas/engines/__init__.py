"""Engines: who does the pieces of an atlas, and where. All give the same files."""
