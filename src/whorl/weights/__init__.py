"""Comparing models by their weights: exact tests, what happened in between, and family trees."""
