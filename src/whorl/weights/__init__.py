"""Comparing models by their weights: readers, roles, exact tests, alignment, and what happened in between."""
