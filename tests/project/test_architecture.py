"""Allowed imports between the top-level modules and subpackages, without cycles."""

import ast
import re

import pytest

from processes import ROOT

PACKAGE = ROOT / "keras_reduce"

# The top-level modules and the subpackages ("rooms"), each with those that it may import.
ALLOWED = {
    "__init__": "_version errors explanation inspection persistence registry wrappers",
    "__main__": "_version core errors examples explanation inspection trace_cache",
    "_version": "",
    "audit": "errors files",
    "closures": "custom_objects errors families",
    "core": "errors",
    "custom_objects": "core errors identities weak_references",
    "dask": "core errors integrations registry",
    "dry_run": "core custom_objects errors",
    "errors": "",
    "estimators": "core custom_objects dry_run errors families trace_cache",
    "examples": "errors parallel registry wrappers",
    "explanation": "core dry_run errors registry",
    "families": "_version audit core custom_objects dry_run errors identities weak_references",
    "files": "errors",
    "identities": "",
    "inspection": "audit core errors files",
    "integrations": "_version audit closures core custom_objects dry_run errors families "
    "identities legacy reducers trusted weak_references",
    "legacy": "wrappers",
    "parallel": "core errors",
    "persistence": "audit core custom_objects dry_run errors families "
    "files integrations reducers registry trusted",
    "ray": "core integrations registry",
    "reducers": "_version closures core custom_objects dry_run errors "
    "families identities weak_references",
    "registry": "core custom_objects errors families integrations parallel reducers trace_cache",
    "scikeras": "errors estimators families",
    "spark": "core integrations registry",
    "trace_cache": "_version core errors families",
    "trusted": "audit core families",
    "weak_references": "core errors identities",
    "wrappers": "errors estimators",
}
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


def test_every_module_has_a_room():
    assert {room(path) for path in modules()} == set(ALLOWED)
    # Only folders with this file are installed.
    assert all((path.parent / "__init__.py").is_file() for path in modules())
    # Few top-level modules, as a reader sees them first.
    assert len(list(PACKAGE.glob("*.py"))) <= 16


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_their_line_allows(path):
    allowed = {room(path), *ALLOWED[room(path)].split()}
    targets = {name.split(".")[0] for name, relative, _ in imports(path) if relative}
    assert targets & set(ALLOWED) <= allowed


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in modules()}


def module_imports(path):
    """Yield the modules of the package that `path` imports, anywhere in it."""
    package = ["", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[1 : len(package) - node.level + 1], *(node.module or "").split(".")]
            source = ".".join(filter(None, base))
            for alias in node.names:
                full = f"{source}.{alias.name}".lstrip(".")
                yield full if full in NAMES else source


MODULES = {name_of(path): set(module_imports(path)) & NAMES for path in modules()}
ROOMS = {room: set(allowed.split()) for room, allowed in ALLOWED.items()}


@pytest.mark.parametrize("below", [MODULES, ROOMS], ids=["modules", "rooms"])
def test_no_circle(below):
    # Remove modules without imports, and modules that are not imported; cycles remain.
    while True:
        ends = {name for name, targets in below.items() if not targets}
        ends |= below.keys() - set().union(*below.values())
        if not ends:
            break
        below = {name: targets - ends for name, targets in below.items() if name not in ends}
    assert not below


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_frameworks_are_named_in_their_rooms_only(path):
    for name, relative, in_function in imports(path):
        root = name.split(".")[0]
        if relative or root not in FRAMEWORKS:
            continue
        assert in_function, f"{path.name} imports {name} when it is imported itself"
        place = name_of(path)
        assert place.startswith(("families.", "trace_cache.", "examples.", "core.array_backends"))
        assert root != "keras" or not place.startswith("core.")
        assert not name.startswith("keras.src") or place.startswith(("families.", "trace_cache."))


def test_audit_and_inspection_can_rebuild_nothing():
    """Require that they import no unpickler, and of the core only modules without one."""
    of_core = [PACKAGE / "core" / f"{name}.py" for name in ("payload", "report_tree")]
    rooms = [path for path in modules() if room(path) in ("audit", "inspection")]
    for path in [*rooms, *of_core]:
        outside = {name.split(".")[0] for name, relative, _ in imports(path) if not relative}
        assert not outside & UNPICKLERS, path
        core = {each for each in module_imports(path) if each.startswith("core.")}
        assert core <= set(map(name_of, of_core)), path
    for path in (PACKAGE / "files").glob("*.py"):
        outside = {name.split(".")[0] for name, relative, _ in imports(path) if not relative}
        # The list of compressors is joblib's.
        assert outside & UNPICKLERS <= ({"joblib"} if path.name == "compression.py" else set()), (
            path
        )


UNPICKLERS = {"cloudpickle", "dill", "importlib", "joblib", "keras", "marshal", "numpy", "pickle"}


def private_names(tree):
    """Yield the lines in which a test uses a private name of a module of the package."""
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_reduce")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr, re.IGNORECASE):
            root = ast.unparse(node.value)
            if root in modules or root.startswith("keras_reduce."):
                yield node.lineno


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").glob("*/*.py")), ids=lambda path: path.name
)
def test_tests_say_why_they_reach_for_private_names(path):
    text = path.read_text()
    tree, lines = ast.parse(text), text.splitlines()
    for line in private_names(tree):
        first = max(node.end_lineno for node in tree.body if node.end_lineno < line)
        assert "# Private:" in "\n".join(lines[first:line]), f"line {line}"


# Words in the code that finds context instead of being given it, and the modules that may: one for
# call stacks, few for the others.
FOUND_CONTEXT = {
    "stacks": ({"_getframe", "_current_frames", "currentframe", "f_back"}, "core.context"),
    "bytecode": (
        {"get_instructions"},
        "core.code_objects families._shared.assigned_attributes trace_cache.keys",
    ),
    "threads": (
        {"local", "ContextVar"},
        "audit.trust_policy core.context core.import_hooks core.weights custom_objects "
        "dry_run.dry_pickler families._shared.patches identities weak_references",
    ),
}


@pytest.mark.parametrize("subject", FOUND_CONTEXT)
def test_context_is_found_in_few_modules(subject):
    words, allowed = FOUND_CONTEXT[subject]
    users = {
        name_of(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in words
    }
    assert users == set(allowed.split())
