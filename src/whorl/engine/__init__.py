"""Doing much work once: tasks over processes or a cluster, and the store that keeps their results."""
