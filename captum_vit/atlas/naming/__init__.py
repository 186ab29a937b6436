"""Words for neurons, by a CLIP that the user has: what excites them, where it does, beside what chance would give."""
