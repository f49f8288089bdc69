"""``docs/wire-format.md`` agrees with the code, and is enough to write a reader from."""

import ast
import json
import re
import struct

import numpy as np
import pytest
import xxhash

import keras_reduce
import specification_reader as specification
from keras_reduce.core import array_backends, payload
from keras_reduce.custom_objects import Reference
from keras_reduce.files import signing, trailer
from processes import ROOT, python

PACKAGE = ROOT / "keras_reduce"
PAGE = (ROOT / "docs" / "wire-format.md").read_text()
GOLDEN = ROOT / "tests" / "golden" / "protocol-1"


def section(title):
    """Return the text of a section, up to the next title."""
    return re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.M)[1]


def rows(text):
    """Yield the cells of the rows of the tables in a text, without their titles."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def names(text, column=0):
    """Return the names in backticks in a column of the tables of a text."""
    return {name for row in rows(text) for name in re.findall("`([^`]+)`", row[column])}


def trees():
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


TREES = trees()


# --- names of the page and of the code ----------------------------------------------------------


def parameters(function):
    """Return the parameters of a function as the page spells them."""
    arguments = function.args
    given = [ast.arg(argument.arg) for argument in arguments.args]
    variadic = arguments.vararg and ast.arg(arguments.vararg.arg)
    plain = ast.arguments([], given, variadic, [], [], None, arguments.defaults)
    return ast.unparse(plain)


def test_each_global_has_the_arguments_that_the_page_gives():
    functions = {
        ".".join([*path.relative_to(PACKAGE.parent).with_suffix("").parts, node.name]): parameters(
            node
        )
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and re.match("rebuild_|receive$", node.name)
        and (path.parent == PACKAGE or "is wire format" in (ast.get_docstring(node) or ""))
    }
    # Those that `_pair` makes take what `rebuild_model` takes.
    functions |= {
        f"keras_reduce.{path.stem}.{target.elts[1].id}": "*payload"
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.Assign)
        and getattr(getattr(node.value, "func", 0), "id", "") == "_pair"
        for target in node.targets
    }
    table = [row for row in rows(section("Pickle level")) if row[0].startswith("`keras_reduce.")]
    assert {path.strip("`"): given.strip("`") for path, given in table} == functions


def test_each_position_of_a_payload_is_explained():
    table = [row[0] for row in rows(section("Pickle level")) if re.match(r"\d `", row[0])]
    arguments = function("reducers.py", "rebuild_model").args.args
    expected = [f"{place} `{each.arg}`" for place, each in enumerate(arguments)]
    assert table == expected


def test_each_position_of_a_reference_is_explained():
    table = [row[0] for row in rows(section("Code")) if re.match(r"\d `", row[0])]
    assert table == [f"{place} `{name}`" for place, name in enumerate(Reference.__annotations__)]


def keys_of(function):
    """Return the keys of dictionaries that are written out in a function, not inside others."""
    inner = [
        each
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for value in node.values
        for each in ast.walk(value)
        if value is not node
    ]
    outer = [n for n in ast.walk(function) if isinstance(n, ast.Dict) and n not in inner]
    return {key.value for node in outer for key in node.keys if isinstance(key, ast.Constant)}


def function(path, name):
    nodes = ast.walk(TREES[PACKAGE / path])
    (definition,) = (node for node in nodes if getattr(node, "name", "") == name)
    return definition


def assigned(path, name):
    """Return the value that a module assigns to a name, with its annotation."""
    (node,) = (
        node
        for node in TREES[PACKAGE / path].body
        if isinstance(node, ast.AnnAssign) and node.target.id == name
    )
    return node.value


COMMON = {"protocol", "family", "versions", "weights", "assets", "tracked", "weak", "weak_in_parts"}


def test_each_key_of_a_header_is_in_the_page():
    said = {}
    for row in rows(section("Header")):
        if row[1] in ("both", "`keras3`", "`keras2`"):  # And not the table of assets.
            both = {"keras3", "keras2"}
            said[row[0].strip("`")] = both if row[1] == "both" else {row[1].strip("`")}
    written = {
        family: keys_of(assigned(f"families/{family}/structure.py", "FACTS"))
        for family in ("keras3", "keras2")
    }
    for family, keys in written.items():
        expected = keys | COMMON | {"identity"}
        assert {key for key, families in said.items() if family in families} == expected
    # `reducers` and `weights.collect` add the keys that both families have.
    text = (PACKAGE / "reducers.py").read_text() + (PACKAGE / "core" / "weights.py").read_text()
    assert all(f'"{key}"' in text for key in COMMON)


def marks():
    """Return the texts in the code that begin as our marks do."""
    texts = {
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    # Keywords as well: `dict(keras_reduce_child=number)`.
    texts |= {
        node.arg for tree in TREES.values() for node in ast.walk(tree) if hasattr(node, "arg")
    }
    ours = {text for text in texts if text and re.fullmatch("keras_reduce(_[a-z]+)*", text)}
    return ours - {"keras_reduce_specimen", "keras_reduce_setup"}  # Names of a layer, a function.


def test_each_mark_is_in_the_page():
    # Of the first two tables: the marks of the family keras3.
    said = names(section("Config"))
    assert {name for name in said if name.startswith("keras_reduce")} == marks()
    assert {"class", "assembly"} <= said
    writing = (PACKAGE / "families" / "keras3" / "writing.py").read_text()
    assert '"class":' in writing
    assert '"assembly":' in writing


def kinds_read(*functions):
    """Return the kinds for which functions have a branch: `kind == "list"`, `kind in (...)`."""
    return {
        constant.value
        for each in functions
        for node in ast.walk(each)
        if isinstance(node, ast.Compare) and getattr(node.left, "id", "") == "kind"
        for constant in ast.walk(node.comparators[0])
        if isinstance(constant, ast.Constant)
    }


def test_each_kind_of_value_is_in_the_page():
    read = kinds_read(
        function("families/keras3/attributes.py", "decoder"),
        function("families/keras2/attributes.py", "rebuild"),
        function("families/keras3/settings.py", "_decoded"),
    )
    said = names(section("Config"))
    # The last branch of each, which has no name there.
    assert read | {"object"} <= said
    (table,) = (
        node.value
        for node in TREES[PACKAGE / "families" / "keras2" / "configs.py"].body
        if isinstance(getattr(node, "value", None), ast.Dict)
        if "of_root" in [getattr(key, "value", "") for key in node.value.keys]
    )
    assert {key.value for key in table.keys} | {"class"} <= said
    marked = {name for name in said if not name.startswith("keras_reduce")}
    assert marked == read | {key.value for key in table.keys} | {"object", "class", "assembly"}


def test_each_outline_is_in_the_page():
    module = PACKAGE / "weak_references.py"
    said = set(re.findall(r'`\("(\w+)"', section("Weak references")))
    said |= set(re.findall(r', `\("(\w+)"', section("Weak references")))
    read = kinds_read(*(function(module.name, name) for name in ("_value", "_identities")))
    assert said == read | {"ref"}


def test_each_member_of_a_compile_config_is_in_the_page():
    written = set()
    for family, name in (("keras3", "_compile_as"), ("keras2", "_compile")):
        text = ast.unparse(function(f"families/{family}/compilation.py", name))
        written |= set(re.findall(r"spec(?:\.get\(|\[)'(\w+)'", text))
        written |= set(re.findall(r"'(\w+)' in spec", text))
    assert names(section("Compile config")) - {"keras3", "keras2"} == written


def test_dtypes_without_a_numpy_dtype():
    said = {row[0].strip("`"): row[1].strip("`") for row in rows(section("Arrays"))}
    said = {name: carrier for name, carrier in said.items() if not name[0].isdecimal()}
    dtypes = [*said, "float32", "uint8", "float16"]
    assert {each for each in dtypes if array_backends.carrier(each) != each} == said.keys()
    assert all(array_backends.carrier(name) == carrier for name, carrier in said.items())
    # Private: no other dtype has a carrier.
    assert array_backends._CARRIERS.keys() == said.keys()


def test_numbers_of_files():
    files = section("Files")
    # Private: the layout that the page describes.
    layouts = trailer._ENTRY.format, trailer._HEAD.format, trailer._END.format
    assert all(f"`{layout}`" in files for layout in layouts)
    assert trailer._END.format == signing._END.format
    assert f"`{trailer._MAGIC.decode()}`" in files
    assert f"`{signing._MAGIC.decode()}`" in files
    assert f"`{signing._PREFIX.decode()[:-1]}`" in files
    assert f"takes {trailer._SIZE}." in files
    assert f"takes {signing._SIZE} bytes" in files
    assert f"to {array_backends.ALIGNMENT} bytes" in files
    latest = {row[1]: int(row[0].strip("`")) for row in rows(section("Protocol numbers"))}
    assert list(latest.values()) == [payload.PROTOCOL, trailer.VERSION, signing.VERSION]


# --- a reader that is written from the page ----------------------------------------------------


def read(family, name):
    return specification.load((GOLDEN / family / name).read_bytes())


def said(family, name):
    manifest = json.loads((GOLDEN / family / "manifest.json").read_text())
    return manifest["files"][name]["said"]


def values(array, dtype):
    """Return the values of an array, whose dtype is the one of the header."""
    if dtype == "bfloat16":
        bits = [number << 16 for number in array.values()]
        return [struct.unpack("<f", struct.pack("<I", number))[0] for number in bits]
    return array.values()


def payloads(obj, seen):
    """Yield each Keras object in an object that was read, once."""
    if id(obj) in seen:
        return
    seen.add(id(obj))
    below = ()
    if isinstance(obj, specification.Call):
        module, name = obj.function
        if module == "keras_reduce.reducers" and name != "rebuild_part_attributes":
            yield specification.payload(obj)
        below = obj.arguments, obj.state
    elif isinstance(obj, dict):
        below = [*obj, *obj.values()]
    elif type(obj) in (list, tuple):
        below = obj
    for each in below:
        yield from payloads(each, seen)


def flat(nested):
    return [x for each in nested for x in flat(each)] if isinstance(nested, list) else [nested]


def layers_of(model):
    """Return the layers of a sequential or functional model, in the order of its config."""
    children = [model.child(config) for config in model.config["config"]["layers"]]
    return [each for each in children if each.config["class_name"] != "InputLayer"]


SEQUENTIAL = ["sequential.pickle", "sequential.joblib", "sequential.joblib.z", "sequential.dump"]


@pytest.mark.parametrize("name", SEQUENTIAL)
@pytest.mark.parametrize("family", ["keras3", "keras2"])
def test_architecture_and_weights_of_a_model(family, name):
    model, expected = specification.payload(read(family, name)), said(family, name)
    assert model.kind == "model"
    assert model.header["family"] == family
    layers = layers_of(model)
    assert [layer.config["config"]["name"] for layer in layers] == expected["says"]["layers"]
    assert layers[0].config["config"]["units"] == 4
    assert model.state["remark"] == expected["says"]["remark"]

    weights = [array.values() for layer in layers for array in layer.weights.values()]
    slots = {path: each.values() for path, each in model.weights.items()}
    state = {name: flat(value) for name, value in expected["state"].items()}
    assert weights == [value for name, value in state.items() if name.isdecimal()]
    optimizer = [value for name, value in state.items() if name.startswith("optimizer ")]
    assert [slots[path] for path in slots if path.startswith("optimizer/")] == optimizer
    assert model.compile_config[""]["config"]["metrics"] is not None


FILES = [
    (manifest.parent.name, name)
    for manifest in sorted(GOLDEN.glob("*/manifest.json"))
    for name in json.loads(manifest.read_text())["files"]
]


@pytest.mark.parametrize(("family", "name"), FILES)
def test_each_golden_file(family, name):
    """All numbers that the object had are among its weights, bit for bit."""
    arrays = []
    for each in payloads(read(family, name), set()):
        assert each.header["family"] == family
        dtypes = {path: dtype for path, _, dtype in each.header["weights"]}
        arrays += [values(array, dtypes[path]) for path, array in each.weights.items()]
        for number in each.header.get("children", {}).values():
            assert specification.payload(each.objects[number]).kind in ("model", "layer")
    state = said(family, name).get("state", {})
    missing = {key for key, value in state.items() if flat(value) not in arrays} - {"array"}
    assert not missing


@pytest.mark.parametrize("name", ["sharing.pickle", "sharing.dump"])
def test_shared_layers_are_one_object(name):
    held, expected = read("keras3", name), said("keras3", name)["state"]
    one, two = map(specification.payload, held["models"])
    assert {id(held["layer"])} == set(map(id, one.objects)) & set(map(id, two.objects))
    kernel = specification.payload(held["layer"]).weights["kernel"]
    assert kernel.values() == flat(expected["one 0"]) == flat(expected["two 0"])
    assert held["history"].state["_model"] is held["models"][0]
    assert held["callback"].state["_model"] is held["models"][1]
    assert held["array"].values() == flat(expected["array"])


def test_a_dtype_that_numpy_lacks():
    layer = specification.payload(read("keras3", "layer_of_half_precision.pickle"))
    dtypes = [dtype for _, _, dtype in layer.header["weights"]]
    assert dtypes == ["bfloat16", "bfloat16"]
    expected = said("keras3", "layer_of_half_precision.pickle")["state"]
    for array, dtype, wanted in zip(layer.weights.values(), dtypes, expected.values(), strict=True):
        assert values(array, dtype) == flat(wanted)


def test_a_vocabulary_is_an_asset():
    layer = specification.payload(read("keras3", "layer_with_a_vocabulary.pickle"))
    expected = said("keras3", "layer_with_a_vocabulary.pickle")["says"]["vocabulary"]
    assert json.loads(layer.assets["", "vocabulary"].items) == expected


def test_each_protocol_of_pickle(tmp_path):
    printed = python(
        """
        import json, pickle
        import keras, keras_reduce

        keras_reduce.install()
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.ReLU()])
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            with open(f"{protocol}.pickle", "wb") as file:
                pickle.dump(model, file, protocol)
        print(json.dumps([weight.ravel().tolist() for weight in model.get_weights()]))
        """,
        cwd=tmp_path,
    )
    files = sorted(tmp_path.iterdir())
    assert [file.stem for file in files] == ["2", "3", "4", "5"]
    for file in files:
        dense, _ = layers_of(specification.payload(specification.load(file.read_bytes())))
        assert [array.values() for array in dense.weights.values()] == json.loads(printed)


@pytest.mark.parametrize("folder", ["keras3", "keras2"])
def test_digests_of_files(folder):
    files = sorted((GOLDEN / folder).glob("*.dump"))
    assert files
    for path in files:
        file = specification.parted(path.read_bytes())
        assert file.digests == tuple(map(xxhash.xxh3_128_digest, file.digested)), path.name
        assert all(start % 64 == 0 for start, _ in file.extents)


@pytest.mark.parametrize("compress", [0, 3])
def test_signature_and_arrays_of_a_file(compress):
    key = b"a secret of many bytes"
    arrays = {"rows": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.eye(2, 3))}
    data = keras_reduce.dumps(arrays, compress, key=key + b"\n")
    file = specification.parted(data)
    assert file.is_signed_with(key)
    assert not file.is_signed_with(b"another secret of many bytes")
    assert file.digests == tuple(map(xxhash.xxh3_128_digest, file.digested))
    held = specification.load(data)
    assert {name: array.values() for name, array in held.items()} == {
        name: array.ravel().tolist() for name, array in arrays.items()
    }


def test_the_changelog_has_the_numbers_of_this_release():
    text = (ROOT / "CHANGELOG.md").read_text().partition("## Protocol numbers")[2]
    latest = next(rows(text.partition("\n## ")[0]))
    numbers = payload.PROTOCOL, trailer.VERSION, signing.VERSION
    assert latest == [keras_reduce.__version__, *map(str, numbers)]
