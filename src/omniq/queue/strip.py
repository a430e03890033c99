"""Taking the events off a unit, where they are kept at another place than tasks."""

from __future__ import annotations

from msgspec.structs import replace

from omniq.models.event import TaskEvent
from omniq.models.units import Insert, Move, PutDoc, PutResult, Unit

Events = tuple[TaskEvent, ...]


def stripped(unit: Unit) -> tuple[Unit, Events]:
    """The unit without its events, those of its riders included; and the events."""
    if isinstance(unit, PutResult):
        return unit, ()
    if isinstance(unit, Insert):
        return _insert(unit)
    if isinstance(unit, PutDoc):
        return _doc(unit)
    events = unit.events
    if isinstance(unit, Move) and (unit.spawn or unit.docs):
        spawn = [_insert(each) for each in unit.spawn]
        docs = [_doc(each) for each in unit.docs]
        events += sum((told for _, told in [*spawn, *docs]), ())
        if events:
            inserts, puts = tuple(each for each, _ in spawn), tuple(each for each, _ in docs)
            return replace(unit, events=(), spawn=inserts, docs=puts), events
    return (replace(unit, events=()), events) if events else (unit, ())


def _insert(unit: Insert) -> tuple[Insert, Events]:
    return (replace(unit, events=()), unit.events) if unit.events else (unit, ())


def _doc(unit: PutDoc) -> tuple[PutDoc, Events]:
    spawn = [_insert(each) for each in unit.spawn]
    events = sum((told for _, told in spawn), unit.events)
    if not events:
        return unit, ()
    return replace(unit, events=(), spawn=tuple(each for each, _ in spawn)), events
