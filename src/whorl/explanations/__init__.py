"""Where do two models differ: in rules that a person can read, how often, and how near to ordinary inputs."""

from whorl.explanations.disagreement import Disagreement, Search, disagree
from whorl.explanations.explanation import Explanation, explain

__all__ = ["Disagreement", "Explanation", "Search", "disagree", "explain"]
