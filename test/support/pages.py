"""Pages of reports, taken apart."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a page holds, and whether its tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.cells, self.images, self.words = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        if tag == "img":
            self.images.append((facts["alt"], facts["src"]))
        assert not {"href", "onclick"} & facts.keys() and tag not in ("script", "link")
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data
