"""Answers that get lost on their way: what was asked for may have happened, once."""

from __future__ import annotations

import pytest

from omniq.errors import StorageUnavailable
from tests.waiting import blocking_until

from .nats_hand import Wire, new_namespace, opened


def test_a_put_whose_answer_is_lost_is_not_known(nats_url: str) -> None:
    namespace = new_namespace()
    with Wire(nats_url) as wire, opened(wire.url, namespace) as log:
        assert log.put(1, b"one")
        wire.swallow = f"oq.{namespace}.log".encode()
        with pytest.raises(StorageUnavailable):
            log.put(2, b"two")
        assert wire.cuts == 1
        # It was heard; the stream writes it when its turn comes. The way back is found meanwhile.
        blocking_until(lambda: list(log.read_on(2)) == [b"two"])
        assert not log.put(2, b"two")


def test_an_object_whose_answer_is_lost_is_there_once(nats_url: str) -> None:
    namespace = new_namespace()
    with Wire(nats_url) as wire, opened(wire.url, namespace) as log:
        wire.swallow = f"$O.OQ_{namespace}.M.".encode()
        assert log.keep("big/one", b"x" * 300_000)
        assert wire.cuts == 1
        assert log.fetch("big/one") == b"x" * 300_000
