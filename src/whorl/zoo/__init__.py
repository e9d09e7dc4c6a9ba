"""Recipes of models, the cache of what was made from them, and logs of their training."""
