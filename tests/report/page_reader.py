"""Pages of HTML, read strictly."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """Elements, text and table rows of a page; fails where tags do not balance."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.rows, self.text, self.data = [], [], [], [], None
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data = self.data or data
        elif not {"style", "title"} & set(self.open):
            self.text.append(data)
            if "td" in self.open or "th" in self.open:
                self.rows[-1][-1] += data

    def of(self, attribute):
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def row(self, label, *, column=0):
        """The cells of the first row whose cell begins with the label, followed by a space or a sign for a note."""
        rows = ([" ".join(cell.split()) for cell in cells] for cells in self.rows if len(cells) > column)
        return next(cells for cells in rows if re.match(rf"{re.escape(label)}(?![A-Za-z.(=-])", cells[column]))

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())
