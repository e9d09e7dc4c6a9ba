"""Hashes, signatures, stamps, draws and logs: what was fixed when, and by whom, so that a third party can check it.

Nothing here knows models or imports torch, and nothing here decides: it says what was committed, signed, dated, drawn
and logged, or refuses a file in one line (`InvalidFile`). ``docs/claims-formats.md`` gives every format to the byte.
"""
