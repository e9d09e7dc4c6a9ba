"""The lineup of a victim and its twins: how it is made, trained by one's own script, and held against a suspect."""
