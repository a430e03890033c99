"""What the state machine draws: plain descriptions of tasks, docs, ends and claims."""

from __future__ import annotations

from hypothesis import strategies as st

QUEUES, LANES, OWNERS = ("a", "b"), ("async", "thread"), ("w1", "w2")
FAR = ("far-1", "far-2")
LEASE = 30_500
# Stamps end in 500 ms and the clock moves by seconds: the contract does not say on which side
# of its own stamp a thing stands at the very millisecond.
HALF = 500

PICK = st.integers(0, 30)
INSERT = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QUEUES),
        "lane": st.sampled_from(LANES),
        "priority": st.integers(-1, 1),
        "later": st.sampled_from((0, 0, 0, 5, 20)),
        "ttl": st.sampled_from((None, None, None, 10)),
        "unique": st.sampled_from((None, "u", "v")),
        "until": st.sampled_from((None, 15, 60)),
        "free": st.sampled_from(("end", "start", "time")),
        "parents": st.lists(
            st.tuples(
                PICK,
                st.sampled_from(("success", "end")),
                st.sampled_from(("done", "fail", "refuse")),
            ),
            max_size=2,
        ),
    }
)
DOC = st.fixed_dictionaries(
    {
        "name": st.sampled_from([("pause", "a"), ("pause", "b"), ("k", "x"), ("k", "y")]),
        "value": st.sampled_from((b"1", b"2", None)),
        "expect": st.sampled_from((None, None, 0, 1, 2)),
        "due": st.sampled_from((None, 5)),
        "expires": st.sampled_from((None, 7)),
    }
)
HOW = st.sampled_from(
    ("finish", "finish", "fail", "retry", "later", "snooze", "cancelled", "expired", "progress")
)
SETTLE = st.fixed_dictionaries(
    {
        "pick": PICK,
        "stale": st.sampled_from((False, False, False, True)),
        "how": HOW,
        "keep": st.sampled_from((None, 10)),
        "spawn": st.none() | st.none() | INSERT,
        "doc": st.none() | st.none() | DOC,
    }
)

OWNER = st.sampled_from(OWNERS)
CLAIM = st.fixed_dictionaries(
    {
        "queues": st.sampled_from((QUEUES, QUEUES[::-1], QUEUES, QUEUES[:1], ())),
        "lanes": st.sampled_from((LANES, LANES, LANES[1:])),
        "limit": st.sampled_from((3, 2, 1, 6, 0)),
        "chores": st.sampled_from((True, True, False)),
    }
)
