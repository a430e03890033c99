"""Changes of rows: plain ends and retries many at once, everything else one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec import Struct
from msgspec.json import Decoder, decode

from omniq.models.row import Unique
from omniq.models.status import FINAL, Status
from omniq.models.units import Applied, Move, Patch
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.docs import put_doc
from omniq.storage.sqlite.edges import close_edges, release
from omniq.storage.sqlite.inserts import free_key, key_holder, spawn, take_key
from omniq.storage.sqlite.rows import Many, Tie, ids_json, tags_text

_READY, _SCHEDULED = int(Status.READY), int(Status.SCHEDULED)
_RUNNING, _CANCELLED = int(Status.RUNNING), int(Status.CANCELLED)
_ONLY_RUNNING = (Status.RUNNING,)
_STATE = "pk, id, queue, status, epoch, claim, cancel, ties, reply, run_at, owner, json(uniq)"
_READ_STATES = (
    f"SELECT json_group_array(json_array({_STATE})) FROM omniq_task "
    "WHERE id IN (SELECT value FROM json_each(?))"
)


class State(Struct, array_like=True, frozen=True, gc=False):
    """What guards and ends look at."""

    pk: int
    id: str
    queue: str
    status: int
    epoch: int
    claim: str | None
    cancel: int
    ties: int
    reply: str | None
    run_at: int
    owner: str | None
    unique: Unique | None


_decode_states = Decoder(list[State]).decode


def is_plain(unit: Move) -> bool:
    """Whether a worker gives a row back without touching any other row."""
    return (
        unit.fence is not None
        and unit.to is not None
        and unit.to != _RUNNING
        and unit.expect == _ONLY_RUNNING
        and not (unit.ask or unit.spawn or unit.docs)
    )


class _Ends:
    """Ends of one shape: to the same status, changing the same fields."""

    __slots__ = ("moves", "results", "values", "wakes")

    def __init__(self) -> None:
        self.moves: list[tuple[int, Move]] = []
        self.values: list[Any] = []
        self.results: list[Any] = []
        self.wakes: set[str] = set()


def end_plain(commit: Commit, units: Sequence[tuple[int, Move]]) -> list[tuple[int, Move]]:
    """Apply ends of which nobody has to be asked anything; gives back what is left to do.

    The guards are part of the statement. If it changes fewer rows than it was given, some
    guard did not hold or some row is tied: it is undone, and all take the careful way.
    """
    left: list[tuple[int, Move]] = []
    shapes: dict[tuple[int, tuple[str, ...]], _Ends] = {}
    for each in units:
        unit = each[1]
        patch, to, fence, wake = unit.patch, unit.to, unit.fence, unit.wake
        if to is None or to < FINAL or fence is None or wake is None or "tags" in patch:
            left.append(each)
            continue
        key = (int(to), tuple(patch))
        if (ends := shapes.get(key)) is None:
            ends = shapes[key] = _Ends()
        ends.moves.append(each)
        ends.values.extend((unit.id, *fence, *patch.values()))
        ends.wakes.add(wake)
        if unit.result is not None:
            value, until = unit.result
            ends.results.extend((unit.id, fence.epoch, until, value))
    for (status, names), ends in shapes.items():
        commit.run("SAVEPOINT plain")
        changed = _end_many(status, names).run(commit.cursor, ends.values)
        if changed < len(ends.moves):
            commit.run("ROLLBACK TO plain")
            left += ends.moves
        commit.run("RELEASE plain")
        if changed == len(ends.moves):
            _keep_ends(commit, ends)
    return left


def _keep_ends(commit: Commit, ends: _Ends) -> None:
    outcome, applied = commit.outcome, Applied.APPLIED
    for at, unit in ends.moves:
        outcome[at] = applied
        if unit.events:
            commit.tell(at, unit.events)
    commit.topics.update(f"inbox:{wake}" for wake in ends.wakes)
    commit.topics.add("tasks")
    _keep_results(commit, ends.results, ends.moves)


def _keep_results(commit: Commit, results: list[Any], units: Sequence[tuple[int, Move]]) -> None:
    if results and 4 * commit.put_results(results) < len(results):
        _refuse_results(commit, results, {unit.id: at for at, unit in units})


def move_plain(commit: Commit, units: Sequence[tuple[int, Move]]) -> list[tuple[int, Move]]:
    """Apply moves for which `is_plain`; gives back those whose row turns out to be tied.

    One read of all rows, then one statement for all that change the same fields.
    """
    if not units:
        return []
    states = read_states(commit, [unit.id for _, unit in units])
    shapes: dict[tuple[int, tuple[str, ...]], list[Any]] = {}
    results: list[Any] = []
    tied: list[tuple[int, Move]] = []
    now, outcome, topics = commit.now, commit.outcome, commit.topics
    for at, unit in units:
        state = states.pop(unit.id, None)
        if state is None or not _holds(unit, state):
            continue  # refused
        if state.ties:
            tied.append((at, unit))
            continue
        patch, to = unit.patch, int(unit.to or 0)
        if to == _READY and patch.get("run_at", state.run_at) > now:
            to = _SCHEDULED
        values = shapes.setdefault((to, tuple(patch)), [])
        values.append(state.pk)
        values += patch.values() if "tags" not in patch else _stored(patch)
        if to >= FINAL:
            if state.reply is not None:
                topics.add(f"inbox:{state.reply}")
        else:
            commit.became(to, state.queue)
        if unit.result is not None:
            results += (unit.id, state.epoch, unit.result.until, unit.result.value)
        commit.tell(at, unit.events)
        outcome[at] = Applied.APPLIED
    for shape, values in shapes.items():
        _update(*shape).run(commit.cursor, values)
    _keep_results(commit, results, units)
    if shapes:
        topics.add("tasks")
    return tied


def move(commit: Commit, at: int, unit: Move) -> Applied:
    """Apply one move with everything that may hang on it."""
    state = read_states(commit, [unit.id]).get(unit.id)
    if state is None or not _holds(unit, state):
        return Applied.REFUSED
    to = None if unit.to is None else int(unit.to)
    if unit.ask:
        if state.status == _RUNNING:
            return _ask(commit, state)
        if state.status >= FINAL:
            return Applied.REFUSED
        to = _CANCELLED
    patch = unit.patch
    if to == _READY and patch.get("run_at", state.run_at) > commit.now:
        to = _SCHEDULED
    if to is not None and to < FINAL <= state.status:
        if state.unique is not None:
            if holder := key_holder(commit, state.unique, state.id):
                commit.taken[at] = holder
                return Applied.REFUSED
            take_key(commit, state.unique, state.id)
        commit.run("DELETE FROM omniq_result WHERE id = ?", state.id)
    _write(commit, state, to, patch)
    if to is not None:
        commit.became(to, state.queue)
        if to >= FINAL:
            _end(commit, state, to)
    if unit.result is not None:
        value, until = unit.result
        if not commit.put_results([state.id, state.epoch, until, value]):
            commit.refuse_rider(at)
    commit.tell(at, unit.events)
    spawn(commit, at, unit.spawn)
    for doc in unit.docs:
        if put_doc(commit, at, doc) is Applied.REFUSED:
            commit.refuse_rider(at)
    commit.topics.add("tasks")
    return Applied.APPLIED


def read_states(commit: Commit, ids: list[str]) -> dict[str, State]:
    """Rows by id, as the guards see them."""
    (found,) = commit.one(_READ_STATES, ids_json(ids))
    return {state.id: state for state in _decode_states(found)}


def _holds(unit: Move, state: State) -> bool:
    """The guards."""
    if state.status not in unit.expect:
        return False
    if unit.fence is not None and unit.fence != (state.epoch, state.claim):
        return False
    # Asked to stop, a running row goes to an end and nowhere else.
    return not (state.cancel and unit.to is not None and unit.to < FINAL and not unit.ask)


def _ask(commit: Commit, state: State) -> Applied:
    if not state.cancel:
        commit.run("UPDATE omniq_task SET cancel = 1 WHERE pk = ?", state.pk)
        commit.topics.add("tasks")
    commit.topics.add(f"owner:{state.owner}")
    return Applied.CANCEL_ASKED


def _write(commit: Commit, state: State, to: int | None, patch: Patch) -> None:
    fields = [f"{name} = ?" for name in patch]
    values = _stored(patch)
    if to is not None:
        fields.append("status = ?")
        values.append(to)
        if to != _RUNNING:
            # Also where it was not running: the mark of a stranded row goes with its status.
            fields.append("claim = NULL, flags = 0, cancel = 0")
        if to >= FINAL:
            fields.append("waiting = 0")
        else:
            fields.append(f"ties = ties & {Tie.RELEASING - 1}")
    if fields:
        text = f"UPDATE omniq_task SET {', '.join(fields)} WHERE pk = ?"
        commit.run(text, *values, state.pk)
    if to is None and state.status == _SCHEDULED:
        commit.became(_SCHEDULED, state.queue)  # it may be due before others now


def _refuse_results(commit: Commit, results: list[Any], places: dict[str, int]) -> None:
    """Some result was not kept: a result of a later run is there already. Find which."""
    (found,) = commit.one(
        "SELECT json_group_object(id, epoch) FROM omniq_result "
        "WHERE id IN (SELECT value FROM json_each(?))",
        ids_json(results[::4]),
    )
    kept = decode(found, type=dict[str, int])
    for id_, epoch in zip(results[::4], results[1::4], strict=True):
        if kept[id_] > epoch:
            commit.refuse_rider(places[id_])


def _end(commit: Commit, state: State, to: int) -> None:
    if state.reply is not None:
        commit.topics.add(f"inbox:{state.reply}")
    if state.unique is not None and state.unique.free != "time":
        free_key(commit, state.unique, state.id)
    if state.ties & Tie.CHILD:
        close_edges(commit, state.id)
    if state.ties & Tie.PARENT:
        release(commit, state.pk, state.id, succeeded=to == Status.SUCCEEDED)


def _stored(patch: Patch) -> list[Any]:
    """Patch values as the columns keep them."""
    return [tags_text(v) if k == "tags" else v for k, v in patch.items()]  # type: ignore[arg-type]


@cache
def _update(to: int, names: tuple[str, ...]) -> Many:
    fields = "".join(f", {name} = v.column{n}" for n, name in enumerate(names, 2))
    return Many(
        f"UPDATE omniq_task SET status = {to}, claim = NULL, flags = 0, cancel = 0{fields} "
        "FROM (VALUES {rows}) AS v WHERE omniq_task.pk = v.column1",
        1 + len(names),
    )


@cache
def _end_many(to: int, names: tuple[str, ...]) -> Many:
    fields = "".join(f", {name} = v.column{n}" for n, name in enumerate(names, 4))
    return Many(
        f"UPDATE omniq_task SET status = {to}, "
        f"claim = NULL, flags = 0, cancel = 0, waiting = 0{fields} "
        "FROM (VALUES {rows}) AS v WHERE omniq_task.id = v.column1 AND omniq_task.status = 50 "
        "AND omniq_task.epoch = v.column2 AND omniq_task.claim = v.column3 AND omniq_task.ties = 0",
        3 + len(names),
    )
