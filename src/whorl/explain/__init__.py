"""Where do two models differ, in rules that a person can read."""

from whorl.explain.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
