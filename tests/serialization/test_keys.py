"""Keys: the file made once, what is refused, and what an error never says."""

from __future__ import annotations

import base64
import errno
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omniq.errors import ConfigError, UntrustedPayload
from omniq.serialization import KeyRing, SerializationManager, private_dir
from tests.serialization.support import OTHER, RESULT, SECRET, Point, keys


def opens(one: KeyRing, other: KeyRing) -> bool:
    """Whether what one signs, the other opens."""
    payload = SerializationManager(one).encode_value(Point(1, 2), RESULT)
    try:
        return bool(SerializationManager(other).decode_value(payload, RESULT) == Point(1, 2))
    except UntrustedPayload:
        return False


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    base = tmp_path / "deep" / ".omniq"
    first = KeyRing.local(base)
    text = (base / "signing.key").read_text()
    assert opens(first, KeyRing.local(base))
    assert (base / "signing.key").read_text() == text
    assert (base / "signing.key").stat().st_mode & 0o777 == 0o600
    assert base.stat().st_mode & 0o777 == 0o700
    assert (base / ".gitignore").read_text() == "*\n"
    assert sorted(p.name for p in base.iterdir()) == [".gitignore", "signing.key"]
    assert not opens(first, KeyRing.local(tmp_path / "other"))


def test_a_directory_that_was_there_is_left_as_it_is(tmp_path: Path) -> None:
    KeyRing.local(tmp_path)
    assert not (tmp_path / ".gitignore").exists()


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    code = (
        "import sys; from omniq.serialization import KeyRing; sys.stdin.read(1)\n"
        "KeyRing.local('.omniq'); print(open('.omniq/signing.key').read())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdin=-1, stdout=-1, stderr=-1, text=True
        )
        for _ in range(6)
    ]
    for process in started:  # all wait for this before they look for the file
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in started]
    assert {error for _, error in answers} == {""}
    assert len({out for out, _ in answers}) == 1
    assert answers[0][0].startswith("local-")
    assert not list((tmp_path / ".omniq").glob("*.tmp"))


def test_a_key_others_can_read_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    KeyRing.local(tmp_path)
    (tmp_path / "signing.key").chmod(0o644)
    with caplog.at_level(logging.WARNING, "omniq"):
        KeyRing.local(tmp_path)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("text", ["\n", "nonsense\n", "k1:short\n", "k1:base64:!!!\n"])
def test_a_damaged_key_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "signing.key").write_text(text)
    with pytest.raises(ConfigError, match="the key file is damaged"):
        KeyRing.local(tmp_path)


def test_a_base_dir_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is not a directory"):
        KeyRing.local(tmp_path / "file")
    with pytest.raises(ConfigError, match="OMNIQ_BASE_DIR"):
        private_dir(tmp_path / "file" / "below")


def test_a_read_only_base_dir_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only filesystem refuses to make a file, and to take one away that is not there."""

    def refuse(path: object, *_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(ConfigError, match=r"Read-only file system.*OMNIQ_BASE_DIR"):
        KeyRing.local(tmp_path)


def test_secrets_as_text_and_as_base64_are_the_same(tmp_path: Path) -> None:
    text = KeyRing.from_setting([("a", SECRET.decode())])
    encoded = KeyRing.from_setting([("a", "base64:" + base64.b64encode(SECRET).decode())])
    assert opens(text, encoded)
    assert opens(text, keys(("a", SECRET)))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no signing key"),
        ([("a", "hunter2")], "has 7 bytes, at least 32"),
        ([("a", SECRET.decode()), ("a", OTHER.decode())], "given twice"),
        ([("a b", SECRET.decode())], "key id"),
        ([("", SECRET.decode())], "key id"),
        ([("a", "base64:hunter2!")], "not valid base64"),
    ],
)
def test_wrong_keys_are_refused_without_saying_them(
    pairs: list[tuple[str, str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        KeyRing.from_setting(pairs)
    assert "OMNIQ_SIGNING_KEYS" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert SECRET.decode() not in str(caught.value)


def test_a_process_key_is_known_to_nobody_else() -> None:
    one = KeyRing.ephemeral()
    assert opens(one, one)
    assert not opens(one, KeyRing.ephemeral())
