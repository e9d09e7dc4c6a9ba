"""Builds the recipes given as arguments after the folder with two workers; for a test that kills it."""

import sys
from pathlib import Path

from whorl.zoo.cache import Zoo
from whorl.zoo.recipe import parse_recipe

if __name__ == "__main__":
    folder, *texts = sys.argv[1:]
    Zoo(Path(folder)).build([parse_recipe(text) for text in texts], workers=2)
