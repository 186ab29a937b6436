"""Atlases: every neuron of a model, in a folder that can be browsed and queried."""
