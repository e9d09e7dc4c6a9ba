"""Names and texts that others wrote cannot style, steer or forge what a person reads."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from rich.table import Table

from whorl.bench.export import _write_csv
from whorl.cli import console
from whorl.printable import escaped, printable
from whorl.report.pages import _environment

HOSTILE = "a\x1b[2J\x1b]0;t\x07\u202eb\u200bc\x9b31m\r\nDERIVED [bold red]x[/]"


@pytest.fixture
def seen(capsys, monkeypatch):
    for stream in (console.out, console.chatter):
        monkeypatch.setattr(stream, "_force_terminal", False, raising=False)

    def read():
        captured = capsys.readouterr()
        return captured.out + captured.err

    return read


def sound(text):
    return all(mark.isprintable() or mark == "\n" for mark in text)


def test_what_steers_a_terminal_is_replaced_and_the_rest_stays():
    assert printable("Größe, 模型, e\u0301, 🙂\n\t\u00a0x") == "Größe, 模型, e\u0301, 🙂\n\t\u00a0x"
    assert printable("a\u2028\u2029\x85b") == "a\ufffd\ufffd\ufffdb"
    assert printable("a\x1b[1mb\u202ec\u200bd\x00") == "a\ufffd[1mb\ufffdc\ufffdd\ufffd"


def test_what_is_escaped_is_one_line_and_stays_what_it_was():
    texts = ("a\x1bb", "a\x1cb", "a\\u001bb", "a\nb", "\u202e|`<x>", "Größe 🙂\ud800", "plain")
    shown = [escaped(text) for text in texts]
    assert all(text.isprintable() for text in shown)
    assert [json.loads(f'"{text}"') for text in shown] == list(texts)
    assert shown[-1] == "plain"


def test_no_stream_lets_through_what_steers(seen):
    table = Table(HOSTILE.replace("[", "("))
    table.add_row(console.foreign(HOSTILE))
    for write in (
        lambda: console.out.print(HOSTILE, markup=False),
        lambda: console.chatter.print(HOSTILE, markup=False),
        lambda: console.out.print(table),
        lambda: console.out.print(f"[bold]{console.foreign(HOSTILE)}[/]"),
    ):
        write()
        assert sound(seen())


def test_a_line_stays_one_line_and_markup_in_it_is_text(seen):
    for write in (console.say, console.line, console.complain):
        write(HOSTILE)
        text = seen()
        assert sound(text)
        assert text.count("\n") == 1
        assert "[bold red]x[/]" in text


def test_json_is_the_same_document_without_what_steers(seen):
    console.print_json({"name": HOSTILE + "ü\U000e0001"})
    text = seen()
    assert sound(text)
    assert "ü" in text
    assert json.loads(text) == {"name": HOSTILE + "ü\U000e0001"}


def test_pages_and_tables_are_cleaned_and_formulas_are_text(tmp_path):
    page = _environment().from_string("<p>{{ name }}</p>").render(name=HOSTILE + "<b>")
    assert sound(page)
    assert "&lt;b&gt;" in page
    rows = [{"a": "=1+1", "b": " @x", "c": -1.5, "d": "-x"}, {"a": "plain", "b": "\tx", "c": None, "d": "+x"}]
    _write_csv(rows, ["a", "b", "c", "d"], tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file))[1:] == [["'=1+1", "' @x", "-1.5", "'-x"], ["plain", "'\tx", "", "'+x"]]


def test_a_tensor_that_is_not_read_is_named_and_a_lineage_goes_on(whorl, tmp_path):
    folder = tmp_path / "nets"
    folder.mkdir()
    torch.save({"a.weight": torch.randn(16, 16)}, folder / "fine.pt")
    other = {
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "sparse": torch.eye(3).to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "without values": torch.empty(3, device="meta"),
    }
    for name, tensor in other.items():
        torch.save({"a": tensor}, folder / f"{name}.pt")
    done = whorl("lineage", folder, "--json")
    assert done.exit_code == 0, done.stderr
    for name in other:
        assert name in next(line for line in done.stderr.splitlines() if f"{name}.pt:" in line).partition("holds")[2]


def test_colons_of_a_name_stay_colons(capsys):
    for write in (console.say, console.line, console.complain):
        write("root:x:0:smile:.pt")
        written = capsys.readouterr()
        assert "root:x:0:smile:.pt" in written.out + written.err
