"""What a net's function does not depend on: alignment and paths, canonical forms, distances, and the attack."""
