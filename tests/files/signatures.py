"""Signed files: changed ones are refused before any of their code runs."""

import contextlib
import functools
import os
import tempfile
import zlib
from pathlib import Path
from unittest import mock

import joblib
import numpy as np

from checks import check, main, raises
from keras_reduce import dump, dumps, load, loads
from keras_reduce.errors import FileError, KerasReduceError, PayloadError, SignatureError
from keras_reduce.files import signing
from keras_reduce.files.sources import MemorySource
from keras_reduce.files.trailer import Trailer
from process_memory import growth_below

KEY, OTHER = b"0123456789abcdef", b"fedcba9876543210"
SIZE = 48  # bytes of a signature
MEBIBYTE = 1 << 20
COMPRESSIONS = (0, 1, "gzip", "bz2", ("lzma", 1), ("xz", 1))
VALUE = {"array": np.arange(1000.0), "objects": np.array(["a", None], object), "text": "b" * 999}


class Trap:
    """An object that leaves a mark when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (MARK,)


def assert_same(loaded):
    assert loaded["array"].tobytes() == VALUE["array"].tobytes()
    assert loaded["objects"].tolist() == ["a", None]
    assert loaded["text"] == VALUE["text"]


# --- memory ----------------------------------------------------------------------------------


@check
def what_bursts_is_not_kept_before_it_is_checked():
    packed = zlib.compressobj(9)
    zeros = bytes(MEBIBYTE)
    bomb = b"".join([*(packed.compress(zeros) for _ in range(256)), packed.flush()])
    assert len(bomb) < 2 * MEBIBYTE
    path = FOLDER / "bomb"
    path.write_bytes(bomb)
    for read in (lambda: load(path, key=KEY), lambda: loads(bomb, key=KEY)):
        with growth_below(64 * MEBIBYTE), raises(SignatureError, "is not signed"):
            read()


@check
def what_is_loaded_is_in_memory_once():
    size = 256 * MEBIBYTE
    path = FOLDER / "large"
    dump(np.zeros(size, np.uint8), path, key=KEY)
    with growth_below(1.1 * size):
        loaded = load(path, key=KEY)
    assert not loaded.flags.owndata
    assert loaded.flags.writeable


# --- round trips -----------------------------------------------------------------------------


@check
def what_is_signed_comes_back():
    for number, compress in enumerate(COMPRESSIONS):
        path = FOLDER / f"signed-{number}"
        dump(VALUE, path, compress, key=KEY)
        for mode in (None, "r", "c"):
            for verify in (None, True, False):
                assert_same(load(path, mode, verify, key=KEY))
        # Readers without the key are not disturbed.
        assert_same(load(path))
        assert_same(load(path, "r"))
        assert_same(joblib.load(path))
        assert_same(loads(path.read_bytes(), key=KEY))
        assert_same(loads(dumps(VALUE, compress, key=KEY), key=KEY))


@check
def a_signature_stands_behind_what_there_is_without():
    plain, with_one = dumps(VALUE), dumps(VALUE, key=KEY)
    assert with_one[:-SIZE] == plain
    assert with_one == dumps(VALUE, key=KEY) != dumps(VALUE, key=OTHER)


# --- refusals --------------------------------------------------------------------------------


def assert_refused(data, kind=KerasReduceError):
    for mode in (None, "r", "c"):
        path = FOLDER / "changed"
        path.write_bytes(data)
        with raises(kind):
            load(path, mode, verify=False, key=KEY)
        assert not MARK.exists()
    with raises(kind):
        loads(data, verify=False, key=KEY)
    assert not MARK.exists()


@check
def the_trap_works():
    loads(dumps(Trap(), key=KEY), key=KEY)
    assert MARK.exists()
    MARK.unlink()


@check
def whatever_byte_is_changed():
    data = dumps([Trap(), np.arange(3.0)], key=KEY)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert_refused(bytes(changed), PayloadError)


@check
def whatever_byte_is_changed_of_what_is_compressed():
    """Accept changes that decompress to the same bytes, such as in the time of a header."""
    refused = total = 0
    for compress in (1, "gzip", "bz2", ("xz", 1)):
        data = dumps("a" * 99, compress, key=KEY)
        for position in range(len(data)):
            changed = bytearray(data)
            changed[position] ^= 1 << position % 8
            total += 1
            try:
                assert loads(bytes(changed), key=KEY) == "a" * 99
            except KerasReduceError:
                refused += 1
    assert refused > 0.9 * total


@check
def whatever_an_attacker_does_who_has_no_key():
    trap, harmless = dumps(Trap()), dumps("harmless", key=KEY)
    signature = harmless[-SIZE:]
    for data in (
        trap,
        trap + signature,
        dumps(Trap(), key=OTHER),
        dumps(Trap(), key=OTHER)[:-SIZE] + signature,
        trap + harmless,
        harmless + trap,
        harmless + dumps(Trap(), key=OTHER),
        trap[:-1] + signature,
        signature,
        b"",
        b"\x80",
        harmless[:-1],
        harmless[1:],
        harmless + b"\0",
    ):
        assert_refused(data, PayloadError)
    for compress in COMPRESSIONS[1:]:
        assert_refused(dumps(Trap(), compress), SignatureError)
        assert_refused(dumps(Trap(), compress, key=OTHER), SignatureError)


def overwriting(path, data):
    """Return a context that overwrites a file right after each check of it."""

    def checked_and_overwritten(blocks, *arguments):
        result = original(blocks, *arguments)
        # In place, so that a reader with the open file sees the new bytes.
        with path.open("r+b") as file:
            file.write(data)
        return result

    original = signing.check
    return mock.patch.object(signing, "check", checked_and_overwritten)


@functools.cache
def trap_of(size):
    """Return a file of the given size with a trap, signed with another key."""
    most = size - len(dumps((Trap(), b""), key=OTHER))
    padded = (dumps((Trap(), b"." * n), key=OTHER) for n in range(most, 0, -1))
    return next(data for data in padded if len(data) == size)


@check
def whoever_writes_to_the_file_after_it_was_checked():
    for number, compress in enumerate(COMPRESSIONS):
        for mode in (None, "r", "c"):
            for verify in (None, True):
                path = FOLDER / f"raced-{number}"
                dump(VALUE, path, compress, key=KEY)
                evil = dumps(Trap()) if compress else trap_of(path.stat().st_size)
                with overwriting(path, evil), contextlib.suppress(KerasReduceError):
                    loaded = load(path, mode, verify, key=KEY)
                    # Mapped arrays have the new bytes of the file.
                    assert loaded["text"] == VALUE["text"]
                    assert loaded["objects"].tolist() == ["a", None]
                    assert mode or loaded["array"].tobytes() == VALUE["array"].tobytes()
                assert not MARK.exists(), (compress, mode, verify)


@check
def whoever_makes_a_file_grow_after_it_was_checked():
    path = FOLDER / "grown"
    dump("short", path, 1, key=KEY)
    bomb = zlib.compress(bytes(256 * MEBIBYTE), 9)
    with (
        growth_below(64 * MEBIBYTE),
        overwriting(path, bomb),
        raises(PayloadError, "it has grown since it was checked"),
    ):
        load(path, key=KEY)


@check
def whoever_lies_about_where_arrays_are():
    """Refuse array extents that are not in the checked bytes."""
    path = FOLDER / "lies"
    dump(VALUE, path, key=KEY)
    data = path.read_bytes()
    honest = Trailer.read(MemorySource([memoryview(data[:-SIZE])], "data"))
    for extents in ([(0, honest.content)], [(9, 8), (0, 4)], [(8, honest.content + 200)]):
        lies = honest._replace(extents=tuple(extents)).pack()
        rest = data[: honest.content] + lies + data[-SIZE:]
        path.write_bytes(rest)

        def read_and_mended(source, original=Trailer.read, data=data):
            result = original(source)
            path.write_bytes(data)
            return result

        with mock.patch.object(Trailer, "read", read_and_mended), raises(PayloadError):
            load(path, "r", key=KEY)


@check
def a_signature_of_a_newer_kind():
    data = bytearray(dumps(1, key=KEY))
    data[-16] = 2
    for key in (KEY, None):
        with raises(PayloadError, "version 2", "pip install --upgrade"):
            loads(data, key=key)


# --- keys ------------------------------------------------------------------------------------


@check
def keys_may_be_anywhere():
    file = FOLDER / "key"
    data = dumps("text", key=KEY)
    for end in (b"", b"\n", b"\r\n"):
        file.write_bytes(KEY + end)
        assert loads(data, key=file) == "text"
        assert dumps("text", key=file) == data
    with mock.patch.dict(os.environ, {"MY_KEY": KEY.decode()}):
        assert loads(data, key="MY_KEY") == "text"
        assert dumps("text", key="MY_KEY") == data
    for kind in (bytearray, memoryview):
        assert loads(data, key=kind(KEY)) == "text"
    # Random bytes may end with a line break.
    for end in (b"\n", b"\r", b"\r\n"):
        file.write_bytes(KEY + end)
        assert loads(dumps("text", key=file), key=KEY + end) == "text"


@check
def keys_may_be_replaced():
    old, new = dumps("text", key=OTHER), dumps("text", key=[KEY, OTHER])
    assert new == dumps("text", key=KEY)
    for data in (old, new):
        assert loads(data, key=[KEY, OTHER]) == "text"
    with raises(SignatureError, "signature is wrong", "another key"):
        loads(old, key=[KEY])


@check
def keys_that_are_none_say_so_and_no_message_repeats_them():
    secret = "not-to-be-told!"
    (FOLDER / "short").write_text(secret)
    for key, kind, said in (
        (secret.encode(), ValueError, "shorter than 16 bytes"),
        (FOLDER / "short", ValueError, "shorter than 16 bytes"),
        (secret, SignatureError, "environment variable"),
        ([KEY, secret.encode()], ValueError, "shorter than 16 bytes"),
        (b"", ValueError, "shorter than 16 bytes"),
        ([], ValueError, "empty list"),
        (5, TypeError, "not int"),
        (FOLDER / "nowhere", FileError, "nowhere"),
    ):
        for use in (
            lambda key: dumps(1, key=key),
            lambda key: dump(1, FOLDER / "unwritten", key=key),
            lambda key: loads(dumps(1), key=key),
            lambda key: load(FOLDER / "signed-0", key=key),
        ):
            with raises(kind, said) as demand:
                use(key)
            assert secret not in str(demand.error)
    assert not (FOLDER / "unwritten").exists()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        FOLDER = Path(name)
        MARK = FOLDER / "mark"
        main()
