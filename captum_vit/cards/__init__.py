"""Neuron cards: what is known of a neuron, and pictures and pages of it."""
