"""Fingerprint files: one reader for every released format, one writer for the present one, and what identifies them."""
