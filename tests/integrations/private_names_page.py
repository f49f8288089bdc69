"""Text of ``docs/private-names.md``, printed from the manifests of private names."""

from __future__ import annotations

from keras_reduce.families._shared.forked import FORKS
from keras_reduce.families.keras3 import private as keras3
from keras_reduce.integrations import private as integrations
from keras_reduce.parallel import private as parallel

HEAD = """\
# Private names

Names of other libraries that this package uses, and that these libraries do not promise to keep.
`tests/integrations/private_names_page.py` prints this page from the manifests in the code. Tests
hide each name in turn.

If a name that is needed to carry data has gone, nothing is written or read: an error names it, and
the versions that were tested. If a name of an optional feature has gone, this feature is off, and
one warning is logged.
"""


def rows(names):
    lines = ["| name | what it is needed for |", "| --- | --- |"]
    reason = ""
    for name, said in names.items():
        reason = reason if said == "as well" else said
        lines.append(f"| `{name.replace(':', '.')}` | {reason} |")
    return "\n".join(lines)


def page():
    """Return the text of the page."""
    parts = [HEAD, "## Keras 3: needed to carry data\n", rows(keras3.NEEDED)]
    for backend, names in keras3.NEEDED_WITH.items():
        parts += [f"\nWith {backend}:\n", rows(names)]
    parts.append("\nAttributes of instances:\n")
    parts.append(
        rows({f"{k}().{n}": r for k, of in keras3.ATTRIBUTES.items() for n, r in of.items()})
    )
    for manifest in (
        *keras3.OPTIONAL,
        keras3.LAYOUTS,
        keras3.PARAMETRIZED,
        FORKS,
        parallel.BACKEND,
        *integrations.MANIFESTS.values(),
    ):
        parts.append(f"\n## {manifest.feature}\n\nWithout them: {manifest.instead}.\n")
        parts.append(rows(manifest.names))
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
