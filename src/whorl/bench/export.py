"""The cells or the models of a result as one flat table, in CSV or parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

from whorl.bench.result import Cell, Model, Result, write_result
from whorl.errors import MissingExtra, UsageError
from whorl.storage import replacing

__all__ = ["write_table"]

SUFFIXES: Final = (".csv", ".parquet", ".json")
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_table(result: Result, path: Path, *, models: bool = False) -> None:
    """Write one row for each cell, or for each model, with the suite's name in every row.

    A suspect that a scheme could not be asked about has a row as well, of the decision ``refused``, without a
    similarity and with the reason.

    Parameters:
        path: ends in .csv (UTF-8; nothing stands for None, and ' before a text that a spreadsheet would compute),
            .parquet, or .json, which holds the whole result.

    Raises:
        UsageError: another suffix; models are asked for and the result holds none.
        MissingExtra: parquet without its package.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"tables are exported as {', '.join(SUFFIXES)}, not {path.suffix or 'without a suffix'}")
    if path.suffix == ".json":
        write_result(result, path)
        return
    if models and not result.models:
        raise UsageError("this result was written before models were kept; run the suite again to have them")
    if models:
        fields, records = ["suite", *Model.model_fields], [model.model_dump() for model in result.models]
    else:
        fields, records = ["suite", *Cell.model_fields, "reason"], [cell.model_dump() for cell in result.cells]
        records += [{**refusal.model_dump(), "decision": "refused"} for refusal in result.refusals]
    rows = [{"suite": result.suite} | {name: record.get(name) for name in fields[1:]} for record in records]
    if path.suffix == ".csv":
        _write_csv(rows, fields, path)
    else:
        _write_parquet(rows, path)


def _write_csv(rows: list[dict[str, Any]], fields: list[str], path: Path) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _inert(value) for key, value in row.items()} for row in rows)


def _inert(value: Any) -> Any:
    """A spreadsheet runs a text that begins as a formula does; a quotation mark before it says that it is text."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(FORMULAS) else value


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("parquet export", "parquet") from None
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
