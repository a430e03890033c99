"""Objects in a JetStream object store, laid out as its own tools know it.

The driver's object store cannot create what must not be there already, so it is written here:
chunks first, each under a subject of the object's own, then one message with its description,
which is what makes the object be there. That one is published with the condition.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from omniq.errors import StorageError
from omniq.ids import uuid7
from omniq.storage.nats.connection import Connection
from omniq.storage.nats.errors import FAILURES, NOT_FOUND, WRONG_LAST, Lost, Refused, refusal

CHUNK: Final = 128 * 1024
_AT_ONCE: Final = 16
"""Requests on their way for one call."""
_SUBJECTS: Final = 100_000
"""How many the server lists in one answer."""
_PLACES: Final = "omniq-chunks"


class Found(msgspec.Struct, frozen=True):
    """An object's description as it stands in the stream."""

    sequence: int
    nuid: str
    size: int
    chunk: int
    places: tuple[int, ...]
    """The sequence of each chunk."""
    deleted: bool


class Objects:
    """To be used on the connection's loop. Raises what its requests raise."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self.chunk = CHUNK
        self._connection = connection
        self._bucket = bucket
        self._stream = f"OBJ_{bucket}"
        self._limit = asyncio.Semaphore(_AT_ONCE)

    @property
    def config(self) -> dict[str, Any]:
        """Of the stream that is the bucket."""
        return {
            "name": self._stream,
            "description": "OmniQ: checkpoints and large values",
            "subjects": [f"$O.{self._bucket}.C.>", f"$O.{self._bucket}.M.>"],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "allow_rollup_hdrs": True,
            "allow_direct": True,
        }

    async def keep(self, name: str, data: bytes) -> bool:
        """Create an object; False if there is one."""
        found = await self._find(name)
        if found is not None and not found.deleted:
            return False
        expected = 0 if found is None else found.sequence  # a tool's own mark of deletion
        nuid, description = await self._upload(name, data)
        headers = {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        try:
            await self._publish(self._meta(name), description, headers)
        except Refused as refused:
            await self._purge(self._chunks(nuid))
            if refused.code in WRONG_LAST:
                return False
            raise
        except (Lost, TimeoutError):
            now = await self._find(name)
            if now is not None and now.nuid == nuid:
                return True
            if now is None or now.deleted:
                raise
            await self._purge(self._chunks(nuid))
            return False
        return True

    async def replace(self, name: str, data: bytes) -> None:
        """Write an object, whether or not it is there."""
        before = await self._find(name)
        _, description = await self._upload(name, data)
        await self._publish(self._meta(name), description, {"Nats-Rollup": "sub"})
        if before is not None and not before.deleted:
            await self._purge(self._chunks(before.nuid))

    async def fetch(self, name: str, offset: int, length: int | None) -> bytes | None:
        """An object's bytes, or a part of them; None if there is no such object."""
        found = await self._find(name)
        if found is None or found.deleted:
            return None
        end = found.size if length is None else min(found.size, offset + length)
        if offset >= end:
            return b""
        first, last = offset // found.chunk, (end - 1) // found.chunk
        chunks = await asyncio.gather(
            *(self._get(place) for place in found.places[first : last + 1])
        )
        if any(chunk is None for chunk in chunks):
            return None  # removed meanwhile
        whole = b"".join(chunk for chunk in chunks if chunk is not None)
        start = offset - first * found.chunk
        return whole[start : start + end - offset]

    async def names(self, prefix: str) -> list[str]:
        """The names that begin so, sorted."""
        head = self._meta("")
        names: list[str] = []
        offset = 0
        while True:
            answer = await self._connection.surely(
                f"STREAM.INFO.{self._stream}", {"subjects_filter": f"{head}>", "offset": offset}
            )
            subjects: dict[str, int] = answer["state"].get("subjects") or {}
            names += (_decoded(subject[len(head) :]) for subject in subjects)
            offset += len(subjects)
            if not subjects or offset >= answer.get("total", 0):
                break
        return sorted(name for name in names if name.startswith(prefix))

    async def drop(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        await asyncio.gather(*(self._drop(name) for name in names))

    async def _drop(self, name: str) -> None:
        async with self._limit:
            found = await self._find(name)
            if found is not None:
                await self._purge(self._meta(name))
                await self._purge(self._chunks(found.nuid))

    async def _upload(self, name: str, data: bytes) -> tuple[str, bytes]:
        """Publish the chunks; the object's own id, and the description that names them."""
        nuid = uuid7().replace("-", "")
        subject = self._chunks(nuid)
        parts = [data[at : at + self.chunk] for at in range(0, len(data), self.chunk)]
        try:
            places = await asyncio.gather(*(self._send(subject, part) for part in parts))
        except BaseException:
            with suppress(*FAILURES):
                await self._purge(subject)
            raise
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
        return nuid, msgspec.json.encode(
            {
                "name": name,
                "metadata": {_PLACES: ",".join(map(str, places))},
                "options": {"max_chunk_size": self.chunk},
                "bucket": self._bucket,
                "nuid": nuid,
                "size": len(data),
                "mtime": datetime.now(UTC).isoformat(),
                "chunks": len(parts),
                "digest": f"SHA-256={digest}",
            }
        )

    async def _send(self, subject: str, part: bytes) -> int:
        async with self._limit:
            return await self._publish(subject, part)

    async def _publish(
        self, subject: str, payload: bytes, headers: dict[str, str] | None = None
    ) -> int:
        message = await self._connection.ask(subject, payload, headers)
        answer = msgspec.json.decode(message.data)
        if (refused := refusal(answer)) is not None:
            raise refused
        sequence: int = answer["seq"]
        return sequence

    async def _find(self, name: str) -> Found | None:
        """The description, from the leader: a replica may not know of it yet."""
        answer = await self._message({"last_by_subj": self._meta(name)})
        if answer is None:
            return None
        info = msgspec.json.decode(base64.b64decode(answer["data"]))
        places: str = (info.get("metadata") or {}).get(_PLACES, "")
        if info.get("size") and not places and not info.get("deleted"):
            raise StorageError(
                f"object {name} of bucket {self._bucket} was not written by OmniQ: use another "
                "namespace, or remove it"
            )
        return Found(
            sequence=answer["seq"],
            nuid=info["nuid"],
            size=info.get("size", 0),
            chunk=(info.get("options") or {}).get("max_chunk_size", CHUNK),
            places=tuple(map(int, places.split(","))) if places else (),
            deleted=bool(info.get("deleted")),
        )

    async def _get(self, sequence: int) -> bytes | None:
        async with self._limit:
            message = await self._connection.direct(self._stream, sequence)
            if not (message.headers and "Status" in message.headers):
                return message.data
            answer = await self._message({"seq": sequence})
            return None if answer is None else base64.b64decode(answer["data"])

    async def _message(self, which: dict[str, Any]) -> dict[str, Any] | None:
        try:
            answer = await self._connection.surely(f"STREAM.MSG.GET.{self._stream}", which)
        except Refused as refused:
            if refused.code in NOT_FOUND:
                return None
            raise
        message: dict[str, Any] = answer["message"]
        return message

    async def _purge(self, subject: str) -> None:
        await self._connection.surely(f"STREAM.PURGE.{self._stream}", {"filter": subject})

    def _meta(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _chunks(self, nuid: str) -> str:
        return f"$O.{self._bucket}.C.{nuid}"


def _decoded(token: str) -> str:
    return base64.urlsafe_b64decode(token).decode()
