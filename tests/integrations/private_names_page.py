"""Text of ``docs/private-names.md``, printed from the manifests of private names."""

from __future__ import annotations

from keras_reduce.families.keras3 import private as keras3
from keras_reduce.integrations import private as integrations
from keras_reduce.parallel import private as parallel

HEAD = """\
# Private names

What this package uses of other libraries without their promise to keep it, printed from the lists
that the code goes by (`tests/integrations/private_names_page.py` does it). Tests hide each of them
in turn.

What carries data refuses without one: an error says which name has gone and which versions were
tested. What a program can do without is then off, which is logged once.
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
    parts = [HEAD, "## Keras 3: nothing is carried without\n", rows(keras3.NEEDED)]
    for backend, names in keras3.NEEDED_WITH.items():
        parts += [f"\nWith {backend}:\n", rows(names)]
    parts.append("\nOf instances:\n")
    parts.append(
        rows({f"{k}().{n}": r for k, of in keras3.ATTRIBUTES.items() for n, r in of.items()})
    )
    for manifest in (keras3.TRACES, parallel.BACKEND, *integrations.MANIFESTS.values()):
        parts.append(f"\n## {manifest.feature}\n\nOtherwise {manifest.instead}.\n")
        parts.append(rows(manifest.names))
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
