"""The most activating images of every unit: the pass, what it remembers, its result and its file."""
