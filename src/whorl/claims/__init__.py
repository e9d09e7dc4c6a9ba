"""Claims that a third party can check: an owner commits to fingerprints, opens a drawn part, and a judge decides.

The way of a dispute: `making` (claim) -> `whorl.attest.draw` -> `opening` (opening) -> `judging` (judgment).
"""
