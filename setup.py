"""Metadata that depend on the public address of the repository; all others are in pyproject.toml.

``KERAS_REDUCE_ADDRESS`` is that address, for instance ``https://HOST/OWNER/keras_reduce``. Files of
a release are expected at ``ADDRESS/blob/vVERSION/PATH``, as GitHub and GitLab have them. Without it
the metadata have no addresses, and the page of an index names the files that README links to.
"""

import os
import re
from pathlib import Path

from setuptools import setup

FOLDER = Path(__file__).parent
LINK = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)([^)]+)\)")


def links_for_an_index(text: str, files: str) -> str:
    """Return `text` without relative links: an index shows README apart from the repository.

    Parameters
    ----------
    text : str
        A page in Markdown.
    files : str
        Address of the repository's files; if empty, the names of files take the place of links.
    """
    return LINK.sub(rf"[\1]({files}/\2)" if files else r"\1 (`\2`)", text)


address = os.environ.get("KERAS_REDUCE_ADDRESS", "").rstrip("/")
version_text = (FOLDER / "keras_reduce" / "_version.py").read_text()
version = re.search(r'__version__ = "(.+)"', version_text)[1]
files = f"{address}/blob/v{version}" if address else ""
addresses = {
    "Homepage": address,
    "Documentation": f"{files}/docs/index.md",
    "Changelog": f"{files}/CHANGELOG.md",
    "Issues": f"{address}/issues",
}
setup(
    long_description=links_for_an_index((FOLDER / "README.md").read_text(), files),
    long_description_content_type="text/markdown",
    project_urls=addresses if address else {},
)
