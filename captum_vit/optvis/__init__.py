"""Optimized images: recipes and what they are made of, the render loop, Lucent's loop, results and their folder."""
