"""Draw the README's figure from the committed result.

Run: python benchmarks/figure.py [RESULT] [-o docs/ipguard-textures.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from whorl.bench.result import read_result
from whorl.report.figures import figure_bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", nargs="?", type=Path, default=Path("benchmarks/results/ipguard-textures.json"))
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/ipguard-textures.svg"))
    options = parser.parse_args()
    options.output.write_text(figure_bench(read_result(options.result)), encoding="utf-8")


if __name__ == "__main__":
    main()
