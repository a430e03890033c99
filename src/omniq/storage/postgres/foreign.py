"""Inserts in a transaction of somebody else, on any driver: one statement with one parameter.

    sql = insert_call(namespace)                   # SELECT "omniq".insert_v1({}::text::jsonb)
    cursor.execute(sql.format("%s"), [insert_json(units)])
    receipt = insert_receipt(cursor.fetchone()[0])

`{}` stands for the driver's placeholder (`$1`, `%s`, `:tasks`). The answer is JSON, as text or,
where the driver decodes it, as a dict. Rows become visible with the caller's commit. No row of
others is locked until then: a task whose parents have not ended goes in as "not looked at", and
the next claim after the commit locks its parents and decides whether it runs, waits or is
stranded. A unique key is held by the caller's transaction: who inserts the same key waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import convert
from msgspec.json import decode

from omniq.models.row import Ms
from omniq.models.units import Applied, Insert, Receipt
from omniq.storage.postgres.batch import encode_plain
from omniq.storage.postgres.options import schema_of
from omniq.storage.postgres.schema import quoted


def insert_call(namespace: str = "default") -> str:
    """The statement, with `{}` where the parameter goes."""
    return f"SELECT {quoted(schema_of(namespace))}.insert_v1(CAST(CAST({{}} AS text) AS jsonb))"


def insert_json(
    units: Sequence[Insert],
    *,
    namespace: str = "default",
    now: Ms | None = None,
    notify: bool = True,
) -> str:
    """The parameter. `now=None`: the server's clock decides.

    `notify`: workers learn of it at the commit. That takes a lock of the whole server during
    the commit, so a program with thousands of such transactions a second sets it to False, and
    its tasks are found by the workers' next look (within a second or so).
    """
    channel = schema_of(namespace) if notify else None
    return encode_plain({"units": list(units), "now": now, "notify": channel})


def insert_receipt(answer: str | bytes | Mapping[str, Any]) -> Receipt:
    """What became of each unit: APPLIED, ALREADY, or REFUSED with `taken` or `missing`.

    A refused unit changed nothing; whether the caller's transaction goes on is the caller's
    decision.
    """
    told = decode(answer) if isinstance(answer, str | bytes) else dict(answer)
    return Receipt(
        outcome=[Applied(what) for what in told["outcome"]],
        taken=convert(told["taken"], dict[int, str], strict=False),
        missing=convert(told["missing"], dict[int, tuple[str, ...]], strict=False),
        woken=frozenset(told["woken"]),
    )
