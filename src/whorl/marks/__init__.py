"""Watermarks: what an owner embeds into a model, and checks like a fingerprint. One kind a file."""

from whorl.marks.base import Watermark
from whorl.schemes import MARKS

__all__ = ["MARKS", "Watermark"]
