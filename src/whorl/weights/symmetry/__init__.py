"""What a net's function does not depend on, taken away: canonical forms, distances modulo symmetry, and the attack."""
