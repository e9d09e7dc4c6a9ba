"""Models together with the access they grant."""

from whorl.oracles.base import Oracle, require

__all__ = ["Oracle", "require"]
