"""A report as a browser reads it."""

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """A parsed document: its elements in order, its text, and whether every tag was closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.stack: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        words: list[str] = []
        self.elements.append((tag, dict(attrs), words))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)
            self.stack.append(words)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open, f"{tag} closed, never opened"
        assert self.open.pop() == tag
        self.stack.pop()

    def handle_data(self, data):
        for words in self.stack:
            words.append(data)

    def all(self, tag: str, **wanted: str) -> list[str]:
        """Return the text of every element of that name and these attributes."""
        return [
            "".join(words)
            for name, attributes, words in self.elements
            if name == tag and all(attributes.get(k.rstrip("_")) == v for k, v in wanted.items())
        ]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def rows(self) -> list[list[str]]:
        """Return the cells of every table row, th and td alike."""
        out: list[list[str]] = []
        for name, _, words in self.elements:
            if name == "tr":
                out.append([])
            elif name in ("td", "th") and out:
                out[-1].append("".join(words))
        return out
