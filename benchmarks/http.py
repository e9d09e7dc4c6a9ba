"""1,000 queries against a real MLServer on this machine: time and peak memory of the client.

The server runs in `.venv-mlserver` (made by `make test`) with the runtime of the tests.

Run: python benchmarks/http.py [-o benchmarks/results/http.json]
"""
