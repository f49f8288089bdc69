"""Files of `keras_reduce.dump` without Keras objects: format, damage, errors of the system."""

import contextlib
import errno
import inspect
import io
import os
import pickle
import resource
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import warnings
import zipfile
from pathlib import Path

import joblib
import numpy as np
from joblib._memmapping_reducer import _get_backing_memmap

import keras_reduce
from checks import check, main, raises
from keras_reduce import dump, dumps, load, loads
from keras_reduce.errors import (
    CustomObjectError,
    FileError,
    KerasReduceError,
    MissingFileError,
    PayloadError,
    ReduceError,
)
from keras_reduce.files import atomic, compression
from keras_reduce.files.sources import MemorySource
from keras_reduce.files.trailer import Trailer
from process_memory import growth_below

GRID = np.arange(12.0).reshape(3, 4)
ARRAYS = {
    "c": GRID,
    "f": np.asfortranarray(GRID),
    "strided": GRID[:, ::2],
    "empty": np.zeros((0, 3)),
    "scalar": np.array(5),
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "text": np.array(["a", "bb"]),
    "records": np.zeros(3, [("a", "f4"), ("b", "i8")]),
    "big-endian": GRID.astype(">f8"),
    "no bytes": np.zeros(3, "V0"),
}
SMALL = {"words": ["a", {"b": 1}], "array": np.arange(10.0), "again": np.ones((2, 3), np.float32)}
EVERYTHING = {
    **ARRAYS,
    "objects": np.array([1, "a", None], object),
    "matrix": np.matrix(GRID),
    "twice": [GRID, GRID],
    "function": lambda x: x + 1,
    "bytes": os.urandom(300_000),
}
COMPRESSIONS = [0, False, 1, True, "gzip", "bz2", ("lzma", 1), ("xz", None), ("zlib", 0)]


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def assert_same(actual, expected=EVERYTHING):
    for name, array in ARRAYS.items():
        other = actual[name]
        assert (other.dtype, other.shape) == (array.dtype, array.shape), name
        assert other.tobytes() == array.tobytes(), name
    assert actual["objects"].tolist() == expected["objects"].tolist()
    assert np.array_equal(actual["matrix"], expected["matrix"])
    assert actual["twice"][0] is actual["twice"][1] is actual["c"]
    assert actual["function"](1) == 2
    assert actual["bytes"] == expected["bytes"]


def names(place):
    return sorted(path.name for path in place.iterdir())


class Calling:
    """An object that calls a function when it is pickled."""

    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        self.function()
        return str, ("",)


# --- round trips ---------------------------------------------------------------------------------


@check
def compressors_are_told_apart_as_joblib_does():
    from joblib.compressor import _COMPRESSORS
    from joblib.numpy_pickle_utils import _ZFILE_PREFIX

    theirs = {name: _COMPRESSORS[name].prefix for name in compression.PREFIXES.keys() - {"compat"}}
    assert {**theirs, "compat": _ZFILE_PREFIX} == compression.PREFIXES


@check
def everything_comes_back_from_every_compression():
    for compress in COMPRESSIONS:
        data = dumps(EVERYTHING, compress)
        for copy in (data, bytearray(data), memoryview(data)):
            loaded = loads(copy)
            assert_same(loaded)
        assert type(loaded["matrix"]) is np.matrix
        assert_same(loads(data, verify=False))
    assert not keras_reduce.is_installed()


@check
def large_arrays_that_are_not_contiguous():
    wide = np.arange(9_000_000, dtype=np.int32)  # larger than one chunk
    for array in (wide[::-1], wide.reshape(3000, 3000)[:, ::2]):
        assert loads(dumps(array)).tobytes() == array.tobytes()
    assert loads(dumps(wide, 1)).tobytes() == wide.tobytes()


@check
def stock_joblib_reads_it():
    little_endian = {k: v for k, v in EVERYTHING.items() if k != "big-endian"}
    with folder() as place:
        for compress in (*COMPRESSIONS, "by extension"):
            path = place / ("a.gz" if compress == "by extension" else "a")
            dump(little_endian, path, 0 if compress == "by extension" else compress)
            assert_same({**joblib.load(path), "big-endian": ARRAYS["big-endian"]})
        assert path.read_bytes()[:2] == b"\x1f\x8b"
        assert load(path)["function"](1) == 2
        dump(EVERYTHING, path := place / "plain")
        loaded = joblib.load(path, mmap_mode="r")
        # It depends on the release of joblib if a mapped array keeps its byte order.
        assert_same({**loaded, "big-endian": ARRAYS["big-endian"]})
        assert isinstance(loaded["f"], np.memmap)


@check
def arrays_are_aligned_and_a_format_that_stays():
    data = dumps(EVERYTHING)
    trailer = Trailer.read(MemorySource([memoryview(data)], ""))
    arrays = [value for value in ARRAYS.values() if value.itemsize] + [EVERYTHING["matrix"]]
    assert sorted(length for _, length in trailer.extents) == sorted(a.nbytes for a in arrays)
    for offset, _ in trailer.extents:
        assert offset % 64 == 0
    pieces = [data[offset : offset + length] for offset, length in trailer.extents]
    assert GRID.tobytes() in pieces
    loaded = loads(data)
    for name, array in ARRAYS.items():
        if array.nbytes:
            assert loaded[name].ctypes.data % 64 == 0, name
            assert loaded[name].flags.writeable
    # The footer, as documented.
    content, count = struct.unpack("<QQ", data[-80:-64])
    assert content + 16 * count + 80 == len(data)
    assert data[content - 1 : content] == pickle.STOP
    assert data[-16:] == struct.pack("<I", 1) + b"keras_reduce"


@check
def what_is_used_of_joblib_is_there():
    from joblib.compressor import _COMPRESSORS
    from joblib.numpy_pickle import NumpyArrayWrapper, NumpyPickler
    from joblib.numpy_pickle_utils import Pickler, Unpickler, _detect_compressor

    arguments = inspect.signature(NumpyArrayWrapper).parameters
    assert list(arguments) == [
        "subclass",
        "shape",
        "order",
        "dtype",
        "allow_mmap",
        "numpy_array_alignment_bytes",
    ]
    assert set(vars(NumpyArrayWrapper(*arguments))) == set(arguments)
    assert (Pickler, Unpickler) == (pickle._Pickler, pickle._Unpickler)
    pickler = NumpyPickler(io.BytesIO())
    assert {"file_handle", "framer", "memo"} <= set(vars(pickler))
    for name, (method, prefix) in {
        "zlib": ("zlib", b"\x78"),
        "gzip": ("gzip", b"\x1f\x8b"),
        "xz": ("xz", b"\xfd7zXZ"),
        "lzma": ("lzma", b"\x5d\x00"),
        "bz2": ("bz2", b"BZ"),
        "plain": ("not-compressed", b"\x80"),
    }.items():
        assert _detect_compressor(io.BytesIO(prefix + bytes(20))) == method, name
        assert method in _COMPRESSORS or name == "plain"


@check
def a_mapped_file_is_shared_and_never_changes():
    with folder() as place:
        dump(EVERYTHING, path := place / "a")
        before = path.read_bytes()
        for mode in "rc":
            for verify in (None, True, False):
                assert_same(load(path, mode, verify))
        shared = load(path, mmap_mode="r")["c"]
        assert isinstance(shared, np.memmap)
        # joblib uses this function to send arrays by file name.
        assert _get_backing_memmap(shared).filename == str(path)
        assert not shared.flags.writeable
        private = load(path, mmap_mode="c")["c"]
        private += 1
        assert private.tobytes() == (GRID + 1).tobytes()
        assert path.read_bytes() == before
        for mode in ("r+", "w+", "x"):
            with raises(ValueError, mode, "joblib.load"):
                load(path, mmap_mode=mode)
        dump(GRID, path, compress=3)
        assert not isinstance(load(path, mmap_mode="r"), np.memmap)


@check
def workers_get_mapped_arrays_as_they_are():
    with folder() as place:
        dump(np.ones((300, 1000)), path := place / "a")
        shared, private = load(path, mmap_mode="r"), load(path, mmap_mode="c")
        private[0] = 5  # the file doesn't change
        tell = joblib.Parallel(2)(
            joblib.delayed(lambda a: (a.sum(), getattr(a, "filename", None)))(a)
            for a in (shared, shared[:200], private)
        )
        assert tell[0] == (300_000, str(path))
        assert tell[1] == (200_000, str(path))
        assert tell[2][0] == 304_000


@check
def plain_files_are_read_on_request():
    with folder() as place:
        joblib.dump(SMALL, path := place / "a")
        with raises(PayloadError, "joblib.load", "verify=False", "cut off", str(path)):
            load(path)
        for mode in (None, "r"):
            assert load(path, mode, verify=False)["array"].tobytes() == SMALL["array"].tobytes()
        path.write_bytes(pickle.dumps([1, "a"]))
        assert load(path, verify=False) == [1, "a"]
        path.write_bytes(b"ZF" + bytes(100))
        with raises(PayloadError, "joblib 0.9", "joblib.load"):
            load(path, verify=False)


@check
def old_text_pickles_are_read():
    obj = [str(number) * (number % 3) for number in range(20_000)]
    assert loads(pickle.dumps(obj, protocol=0), verify=False) == obj
    long = ["a" * 3000, "b"]
    assert loads(pickle.dumps(long, protocol=0), verify=False) == long


@check
def wrong_compressions_are_refused_as_by_joblib():
    for compress in (17, "nonsense", ("zlib", 99), ("zlib", 1, 2), ("nonsense", 1)):
        with raises(ValueError) as theirs:
            joblib.dump(1, io.BytesIO(), compress=compress)
        with raises(ValueError, str(theirs.error)):
            dumps(1, compress)


@check
def an_installed_dump_pickles_once():
    count = []
    with keras_reduce.installed(), folder() as place:
        for compress in (0, 3):
            count.clear()
            dump(Calling(lambda: count.append(1)), place / "a", compress)
            assert len(count) == 1


@check
def code_in_arrays_of_objects_travels_too():
    class Here:
        pass

    array = np.array([lambda: 7, Here(), [1, None]], object)
    with folder() as place:
        dump([array, array], path := place / "a")
        for loaded in (load(path), load(path, mmap_mode="r"), joblib.load(path)):
            assert loaded[0][0]() == 7
            assert loaded[0] is loaded[1]
            assert type(loaded[0][1]).__name__ == "Here"
    # The obstacle is reported; code beside it is none.
    with raises(ReduceError, "list[1][0]", "generator"):
        dumps([array, [(i for i in ())]])


@check
def what_is_too_deep_is_refused():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with raises(ReduceError, "RecursionError", "less deeply"):
        dumps(deep)


@check
def options_of_the_installation_are_respected():
    with keras_reduce.installed(functions_by_value=False), raises(ReduceError, "lambda"):
        dumps([lambda: 1])


@check
def memory_stays_within_bounds():
    size, slack = 96 << 20, 64 << 20
    array = np.random.default_rng(0).integers(0, 4, size // 4, np.int32)
    with folder() as place:
        dump(array, plain := place / "plain")
        dump(array, packed := place / "packed", ("zlib", 1))
        data = plain.read_bytes()
        for bound, work in (
            (slack, lambda: dump(array, place / "new")),
            (slack, lambda: dump(array[::-1], place / "new")),
            (slack, lambda: dump(array, place / "new", 1)),
            (size + slack, lambda: dumps(array)),
            (size + slack, lambda: load(plain)),
            (size + slack, lambda: load(packed)),
            (size + slack, lambda: loads(data)),
            (slack, lambda: load(plain, mmap_mode="r", verify=True)),
        ):
            with growth_below(bound):
                work()


# --- atomic writes -------------------------------------------------------------------------------


@check
def a_failed_dump_leaves_everything_as_it_was():
    with folder() as place:
        path = place / "a"
        dump(SMALL, path)
        before = path.read_bytes()
        for compress in (0, 3, "bz2", ("xz", 1)):
            obj = {"big": os.urandom(1 << 20), "array": GRID, "rows": [(i for i in ())]}
            with raises(ReduceError, "dict['rows'][0]", "generator", "a list") as demand:
                dump(obj, path, compress)
            assert isinstance(demand.error.__cause__, TypeError)
            for exception in (ZeroDivisionError, KeyboardInterrupt):

                def fail(exception=exception):
                    raise exception

                with raises((ReduceError, KeyboardInterrupt)):
                    dump([GRID, Calling(fail)], path, compress)
            assert path.read_bytes() == before
            assert names(place) == ["a"]


@check
def killed_in_the_middle():
    program = """
import os, signal, sys, numpy as np, keras_reduce

class Killer:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

compress = int(sys.argv[2])
keras_reduce.dump([np.random.random(1_000_000), Killer()], sys.argv[1], compress)
"""
    with folder() as place:
        path = place / "a"
        for compress in ("0", "1"):
            for content in (None, SMALL):
                path.unlink(missing_ok=True)
                if content:
                    dump(content, path)
                before = path.read_bytes() if content else None
                command = [sys.executable, "-c", program, str(path), compress]
                assert subprocess.run(command).returncode == -signal.SIGKILL
                assert (path.read_bytes() if path.exists() else None) == before
        left = [name for name in names(place) if name != "a"]
        assert len(left) == 4
        assert all(name.startswith(".keras_reduce-") and name.endswith(".tmp") for name in left)


@check
def modes_and_links():
    with folder() as place:
        path = place / "a"
        for mask in (0o022, 0o077, 0o002):
            before = os.umask(mask)
            try:
                dump(1, path)
            finally:
                os.umask(before)
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
            path.unlink()
        dump(1, path)
        path.chmod(0o640)
        dump(2, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        (link := place / "link").symlink_to("a")
        dump(3, link)
        assert link.is_symlink()
        assert load(path) == load(link) == 3
        (dangling := place / "dangling").symlink_to("b")
        dump(4, dangling)
        assert dangling.is_symlink()
        assert load(place / "b") == 4
        long = place / ("n" * 255)
        dump(5, long)
        assert load(long) == 5
        assert len(names(place)) == 5
        here = Path.cwd()
        os.chdir(place)
        try:
            dump(6, "relative")
            assert load("relative") == 6
        finally:
            os.chdir(here)


@check
def threads_dump_at_once():
    barrier, failures = threading.Barrier(4), []

    def work(place, number):
        try:
            barrier.wait()
            for turn in range(20):
                dump({"number": number, "turn": turn, "f": lambda: number}, place / "one")
                loaded = load(place / "one")  # of any thread, and complete
                assert loaded["f"]() == loaded["number"]
        except BaseException as error:
            failures.append(error)

    with folder() as place:
        threads = [threading.Thread(target=work, args=(place, n)) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert names(place) == ["one"]
    assert not failures, failures
    assert not keras_reduce.is_installed()


@check
def dumps_and_blocks_of_several_threads():
    inside, leave = threading.Event(), threading.Event()

    def wait():
        inside.set()
        leave.wait()

    for work in (lambda: dumps(Calling(wait)), lambda: block(wait)):
        inside.clear()
        leave.clear()
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait()
        assert keras_reduce.is_installed()
        dumps(1)
        with keras_reduce.installed(functions_by_value=False):
            pass
        keras_reduce.install()
        keras_reduce.uninstall()
        assert keras_reduce.is_installed()  # for the other thread
        leave.set()
        thread.join()
        assert not keras_reduce.is_installed()
    # An installation during a dump of another thread stays.
    inside.clear()
    leave.clear()
    thread = threading.Thread(target=lambda: dumps(Calling(wait)))
    thread.start()
    inside.wait()
    keras_reduce.install()
    leave.set()
    thread.join()
    assert keras_reduce.is_installed()
    keras_reduce.uninstall()
    assert not keras_reduce.is_installed()


def block(wait):
    with keras_reduce.installed():
        wait()


# --- errors of the system ------------------------------------------------------------------------


@check
def missing_folders_and_files():
    with folder() as place:
        for attempt in (
            lambda: load(place / "a"),
            lambda: load(str(place / "a" / "b")),
            lambda: dump(1, place / "a" / "b"),
        ):
            with raises(MissingFileError, str(place / "a"), "No such file") as demand:
                attempt()
            error = demand.error
            assert isinstance(error, FileNotFoundError)
            assert isinstance(error, KerasReduceError)
            copied = pickle.loads(pickle.dumps(error))
            assert type(copied) is MissingFileError
            assert str(copied) == str(error)
            assert copied.errno == error.errno == errno.ENOENT
            assert copied.filename == error.filename == error.where
        for attempt in (lambda: load(place), lambda: dump(1, place)):
            with raises(FileError, "Is a directory", str(place), "path of a file") as demand:
                attempt()
            assert demand.error.errno == errno.EISDIR
        for attempt in (lambda: load("/dev/null"), lambda: dump(1, "/dev/null")):
            with raises(FileError, "/dev/null", "device", "loads"):
                attempt()
        assert Path("/dev/null").is_char_device()
        assert names(place) == []


@check
def no_permission():
    program = """
import errno, os, sys
import keras_reduce
from pathlib import Path
keras_reduce.dumps(1)  # imports what the other user may have no access to
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
place = Path(sys.argv[1])
for attempt in (
    lambda: keras_reduce.load(place / "secret"),
    lambda: keras_reduce.dump(1, place / "secret"),
    lambda: keras_reduce.dump(1, place / "new"),
):
    try:
        attempt()
    except keras_reduce.FileError as error:
        assert error.errno == errno.EACCES, error
        assert "Permission denied" in str(error) and "permission" in error.cure
    else:
        raise AssertionError("there was no error")
"""
    with folder() as place:
        dump(1, place / "secret")
        (place / "secret").chmod(0)
        place.chmod(0o555)
        try:
            subprocess.run([sys.executable, "-c", program, str(place)], check=True)
        finally:
            place.chmod(0o755)
        assert names(place) == ["secret"]


@check
def a_limit_is_like_a_full_disk():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with folder() as place:
        dump(SMALL, path := place / "a")
        before = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            for obj in (np.random.default_rng(0).random(1 << 20), os.urandom(3 << 20)):
                for compress in (0, 1, "bz2"):
                    with raises(FileError, str(path), "full", "free space") as demand:
                        dump(obj, path, compress)
                    assert demand.error.errno == errno.EFBIG
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        assert names(place) == ["a"]


@check
def a_full_disk():
    program = """
import errno, os, sys
import numpy as np
import keras_reduce
place = sys.argv[1]
keras_reduce.dump("before", place + "/a")
for compress in (0, 1):
    try:
        keras_reduce.dump(np.random.random(1 << 20), place + "/a", compress)
    except keras_reduce.FileError as error:
        assert error.errno == errno.ENOSPC, error
        assert "full" in str(error), error
    else:
        raise AssertionError("there was no error")
    assert os.listdir(place) == ["a"]
    assert keras_reduce.load(place + "/a") == "before"
print("FULL")
"""
    with folder() as place:
        mount = f"mount -t tmpfs -o size=2m tmpfs {place}"
        unshare = ["unshare", "-rm", "sh", "-c"]
        if subprocess.run([*unshare, mount], capture_output=True).returncode:
            warnings.warn("no file system may be mounted here", stacklevel=1)
            return
        command = f"{mount} && exec {sys.executable} - {place}"
        ran = subprocess.run([*unshare, command], input=program, capture_output=True, text=True)
        assert ran.stdout == "FULL\n", ran.stderr


@check
def the_folder_is_synced():
    synced = []
    original = os.fsync

    def watch(number):
        synced.append(stat.S_IFMT(os.fstat(number).st_mode))
        original(number)

    atomic.os.fsync = watch
    try:
        with folder() as place:
            dump(1, place / "a")
    finally:
        atomic.os.fsync = original
    assert synced == [stat.S_IFREG, stat.S_IFDIR]


# --- damage --------------------------------------------------------------------------------------


def refused(data, *fragments):
    """Require that every way of loading refuses `data`, with cause and cure."""
    with folder() as place:
        path = place / "a"
        path.write_bytes(data)
        for attempt in (
            lambda: loads(data),
            lambda: load(path),
            lambda: load(path, mmap_mode="r"),
            lambda: load(path, mmap_mode="r", verify=True),
        ):
            with raises(PayloadError, *fragments) as demand:
                attempt()
            error = demand.error
            assert error.where in (str(path), "<bytes>")
            assert error.cause
            assert error.cure


@check
def cut_off_at_every_byte():
    for compress in (0, "zlib", "lzma"):
        data = dumps(SMALL, compress)
        for length in range(len(data)):
            with raises(PayloadError):
                loads(data[:length])
    refused(data[:-1])
    refused(dumps(SMALL)[:-1], "cut off", "verify=False")
    refused(b"", "is empty", "cut off")


@check
def every_byte_flipped():
    data = bytearray(dumps(SMALL))
    for position in range(len(data)):
        for bits in (1, 0x80, 0xFF):
            data[position] ^= bits
            with raises(PayloadError):
                loads(data)
            data[position] ^= bits
    loads(data)


@check
def every_byte_of_a_compressed_one_flipped():
    # Some bits of a compressed stream have no meaning: then the result is right.
    for compress in (1, "gzip", "bz2", "lzma"):
        data = bytearray(dumps(SMALL, compress))
        for position in range(len(data)):
            data[position] ^= 0x10
            try:
                loaded = loads(data)
            except PayloadError:
                continue
            finally:
                data[position] ^= 0x10
            assert loaded["words"] == SMALL["words"]
            assert all(np.array_equal(loaded[name], SMALL[name]) for name in ("array", "again"))


@check
def arrays_may_change_while_they_are_written():
    class Changing:
        def __init__(self, array):
            self.array = array

        def __reduce__(self):
            self.array += 1
            return int, ()

    array = np.zeros(100_000)
    for compress in (0, 1):
        (loaded, _) = loads(dumps([array, Changing(array)], compress))
        assert (loaded == loaded[0]).all()
    done = threading.Event()

    def write():
        while not done.is_set():
            array[:] += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with folder() as path:
            for _ in range(20):
                dump(array, path / "a")
                assert load(path / "a").shape == array.shape
                assert loads(dumps(array)).shape == array.shape
    finally:
        done.set()
        thread.join()


@check
def damage_says_where_it_is():
    data = bytearray(dumps(SMALL))
    trailer = Trailer.read(MemorySource([memoryview(data)], ""))
    for position, message in (
        (10, "its pickle is not"),
        (trailer.content + 3, "its trailer is not"),
        (len(data) - 30, "its trailer is not"),
    ):
        data[position] ^= 1
        refused(bytes(data), "damaged", message, "again")
        data[position] ^= 1
    refused(bytes(data) + b"more", "does not end as")
    refused(bytes(data[:20] + data[19:]), "its length")
    data[trailer.extents[0][0]] ^= 1
    with raises(PayloadError, "the bytes of an array"):
        loads(data)
    with folder() as place:
        (path := place / "a").write_bytes(data)
        with raises(PayloadError, "the bytes of an array"):
            load(path, mmap_mode="r", verify=True)
        # As documented, arrays are not checked.
        assert load(path, mmap_mode="r")["words"] == SMALL["words"]


@check
def nothing_of_a_damaged_file_is_run():
    ran = []
    global touch

    def touch(*_):
        ran.append(1)

    class Touching:
        def __reduce__(self):
            return eval, ("__import__('__main__').touch()",)

    data = bytearray(dumps([Touching(), GRID]))
    loads(data)
    assert ran
    ran.clear()
    data[-200] ^= 1
    with raises(PayloadError):
        loads(data)
    assert not ran


@check
def files_of_others():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("config.json", "{}")  # the first bytes of a .keras file
    for data in (
        b"\x89PNG\r\n\x1a\n" + os.urandom(500),
        b"Hello, world\n" * 50,
        archive.getvalue(),
        pickle.dumps([1, 2, 3]),
        bytes(1000),
    ):
        refused(data, "keras_reduce.dump")
        with raises(PayloadError) if data[:1] != b"\x80" else contextlib.nullcontext():
            loads(data, verify=False)
    # The first bytes of a zlib stream.
    refused(b"x marks the spot\n" * 50, "decompressed", "another kind, such as text")


@check
def newer_versions():
    data = dumps(SMALL)
    refused(data[:-16] + struct.pack("<I", 2) + data[-12:], "version 2", "reads 1", "pip install")


@check
def without_a_digest_nothing_huge_is_allocated():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    huge = (1 << 40).to_bytes(8, "little")
    wrapper = pickle.dumps(
        joblib.numpy_pickle.NumpyArrayWrapper(np.ndarray, (1 << 40,), "C", np.dtype("f8"), True, 64)
    )
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
    try:
        for data in (
            b"\x80\x05\x96" + huge + b"abc.",
            b"\x80\x04\x8e" + huge + b"abc.",
            b"\x80\x04\x95" + huge + b"abc.",
            b"\x80\x04\x8d" + huge + b"abc.",
            wrapper[:-1] + b"\x01\xff" + b"abc.",
        ):
            with raises(PayloadError, "damaged"):
                loads(data, verify=False)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@check
def bytes_after_a_compressed_stream_end_it():
    for compress in ("zlib", "gzip", "bz2", "xz"):
        with raises(PayloadError, "goes on after its end"):
            loads(dumps(SMALL, compress) + b"more")


# --- errors of the objects -----------------------------------------------------------------------


@check
def missing_modules_and_names():
    with folder() as place:
        (place / "importable_here.py").write_text("class Holder: pass")
        sys.path.insert(0, str(place))
        import importable_here

        data = dumps([importable_here.Holder()])
        sys.path.remove(str(place))
    holder = importable_here.Holder
    del importable_here.Holder
    with raises(CustomObjectError, "Holder", "versions that wrote it"):
        loads(data)
    importable_here.Holder = holder
    assert loads(data)
    del sys.modules["importable_here"]
    with raises(CustomObjectError, "'importable_here'", "install it", "by_value") as demand:
        loads(data)
    assert isinstance(demand.error.__cause__, ModuleNotFoundError)


@check
def errors_while_unpickling():
    class Sour:
        def __setstate__(self, state):
            raise ArithmeticError("no sugar")

    sour = Sour()
    sour.x = 1
    with raises(PayloadError, "no sugar", "as it was written") as demand:
        loads(dumps(sour))
    assert isinstance(demand.error.__cause__, ArithmeticError)


if __name__ == "__main__":
    main()
