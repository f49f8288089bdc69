"""Report links within a folder of HTML pages that lead nowhere: ``html_links.py FOLDER``."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Collect the anchors and the links of a page."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.links = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors.update(values[name] for name in ("id", "name") if values.get(name))
        self.links.update(values[name] for name in ("href", "src") if values.get(name))


def broken(folder):
    """Return (page, link) for each link to a file or an anchor that is missing."""
    read = {path.resolve(): Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    missing = []
    for path, page in read.items():
        for link in sorted(page.links):
            target = urlsplit(link)
            if target.scheme or target.netloc:
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            is_there = file.exists()
            if is_there and target.fragment and file in read:
                is_there = unquote(target.fragment) in read[file].anchors
            if not is_there:
                missing.append((path.name, link))
    return len(read), missing


def main(folder):
    count, missing = broken(Path(folder))
    for page, link in missing:
        print(f"{page}: {link} leads nowhere")
    print(f"{count} pages, {len(missing)} broken links")
    return int(bool(missing) or not count)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
