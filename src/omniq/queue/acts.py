"""What people do to a task by hand: the change, what its answer means, and the event it leaves."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.models.units import Applied, Move, PutEvents
from omniq.queue import policy
from omniq.queue.policy import Rules


class Act(Struct, frozen=True, gc=False):
    """Send `move`; if the answer is one of `done`, it was done, and `told` is to follow."""

    move: Move
    told: PutEvents
    done: tuple[Applied, ...] = (Applied.APPLIED,)


Do = Callable[[TaskRow, str, Ms, Rules], Act | None]


def cancel(row: TaskRow, actor: str, now: Ms, rules: Rules) -> Act | None:
    """Cancel it at once if it has not started, else ask its worker to stop it."""
    return Act(
        policy.cancel(row.id, now, rules, queue=row.queue, name=row.name, epoch=row.epoch),
        # The end itself leaves an event; this one says who wanted it.
        policy.action(row, "cancel", actor, now, rules) if actor else PutEvents(()),
        (Applied.APPLIED, Applied.CANCEL_ASKED),
    )


def retry(row: TaskRow, actor: str, now: Ms, rules: Rules) -> Act | None:
    """Run an ended one once more, or a scheduled one now. None: it waits or runs."""
    if not row.status.final and row.status is not Status.SCHEDULED:
        return None
    return Act(policy.replay(row, now), policy.action(row, "retry", actor, now, rules))


def delete(row: TaskRow, actor: str, now: Ms, rules: Rules) -> Act | None:
    """Forget an ended one and its result. None: it has not ended."""
    if not row.status.final:
        return None
    move = Move(id=row.id, expect=(row.status,), patch={"keep_until": now})
    return Act(move, policy.action(row, "delete", actor, now, rules))
