"""Permutations that bring one net onto another, and the paths and the landscape between the two."""
