"""Suites run over many victims: every scheme against every removal, resumed where it stopped, told with intervals."""
