"""The rooms of the house, and which may import which: arrows point down only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "keras_reduce"

# From the top down: a module imports modules of lower rows, or of its own package.
ROWS = (
    ("__main__",),
    ("demo",),
    ("__init__",),
    ("explanation", "inspection", "dask", "ray", "spark"),
    ("persistence",),
    ("registry",),
    ("legacy_path",),
    ("legacy",),
    ("wrappers", "import_hooks", "hashing", "joblib_dumps", "parallel", "engines"),
    ("dask_admission", "dask_batches", "dask_registries", "skops_refusal", "spark_batches"),
    ("estimators",),
    ("reducers",),
    ("closures",),
    ("families",),
    ("tracing",),
    ("custom_objects", "weak_references", "weights"),
    ("tensors", "payload"),
    ("admission",),
    ("backends", "c_picklers", "callables", "dispatch", "frames", "identities"),
    ("parcels", "rendering", "replacements", "transit", "trust", "workers"),
    ("errors", "_version"),
)
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
FRAMEWORKS = {"keras", "tensorflow", "tf_keras", "jax", "torch"}


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """Yield (imported room or framework, inside a function?) for each import of `path`."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    tree = ast.parse(path.read_text())
    functions = [
        n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, id(node) in inner
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module, 0, id(node) in inner
            elif node.level > depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                for name in names:
                    yield name, 1, id(node) in inner


@pytest.mark.parametrize("path", modules(), ids=room)
def test_every_module_has_a_row(path):
    assert room(path) in LEVEL


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    own = LEVEL[room(path)]
    for name, relative, _ in imports(path):
        target = name.split(".")[0]
        if relative and target in LEVEL and target != room(path):
            assert LEVEL[target] >= own, f"{path.name} imports {target}, which stands above it"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_frameworks_are_named_in_their_rooms_only(path):
    for name, relative, in_function in imports(path):
        root = name.split(".")[0]
        if relative or root not in FRAMEWORKS:
            continue
        assert in_function, f"{path.name} imports {name} when it is imported itself"
        assert root != "keras" or room(path) in {"families", "demo"}
        assert room(path) in {"families", "tensors", "demo"}
        assert not name.startswith("keras.src") or room(path) == "families"


def test_inspection_can_rebuild_nothing():
    """It reads what `pickletools` shows, and of this package what knows bytes and texts only."""
    allowed = {
        *("decompression", "files", "signing", "sources", "trailer"),
        *("archives", "arrays", "configs", "content", "describer", "descriptions", "models"),
        *("opcodes", "payloads", "pictures", "report"),
        *("errors", "payload", "rendering", "trust"),
    }
    for path in sorted((PACKAGE / "inspection").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & UNPICKLERS, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module not in UNPICKLERS, path
            elif isinstance(node, ast.ImportFrom):
                module = (node.module or "").rpartition(".")[2]
                names = (
                    {alias.name for alias in node.names}
                    if module in ("", "persistence")
                    else {module}
                )
                assert names <= allowed, (path, names)


UNPICKLERS = {"cloudpickle", "dill", "importlib", "joblib", "keras", "marshal", "numpy", "pickle"}
