"""The family tree of a folder of checkpoints."""
