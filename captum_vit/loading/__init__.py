"""Models by name, with the weights that were asked for: a library's published ones, a file's, or random ones."""
