-- All names begin with `omniq_`: the file may be a database of the user's own.
--
-- Every index is partial and named by the one question it answers: each costs a write at every
-- change of status, and a task's life has few of them.

CREATE TABLE omniq_task (
    pk          INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    queue       TEXT    NOT NULL,
    lane        TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    priority    INTEGER NOT NULL DEFAULT 0,
    run_at      INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL DEFAULT 0,
    started_at  INTEGER,
    finished_at INTEGER,
    expires_at  INTEGER,
    keep_until  INTEGER,
    attempt     INTEGER NOT NULL DEFAULT 0,
    epoch       INTEGER NOT NULL DEFAULT 0,
    losses      INTEGER NOT NULL DEFAULT 0,
    claim       TEXT,
    owner       TEXT,
    waiting     INTEGER NOT NULL DEFAULT 0,
    uniq        TEXT,                        -- JSON [key, until, free]
    grp         TEXT,
    tags        TEXT,                        -- JSON, NULL: none
    fault       TEXT,
    cancel      INTEGER NOT NULL DEFAULT 0,
    flags       INTEGER NOT NULL DEFAULT 0,
    reply       TEXT,
    progress    BLOB,
    ties        INTEGER NOT NULL DEFAULT 0,  -- see rows.Tie: what an end has to look after
    preview     TEXT    NOT NULL DEFAULT '',
    error       BLOB,
    body        BLOB    NOT NULL
) STRICT;

-- claim (`status` is one byte more, so that counts need not look at the table)
CREATE INDEX omniq_task_ready ON omniq_task (queue, lane, priority DESC, run_at, id, status)
    WHERE status = 40;
-- promotion, and when to look again
CREATE INDEX omniq_task_scheduled ON omniq_task (queue, lane, run_at, status) WHERE status = 30;
-- a claim resent, a heartbeat, a dead owner
CREATE INDEX omniq_task_running ON omniq_task (owner, claim) WHERE status = 50;
-- counts of what waits
CREATE INDEX omniq_task_waiting ON omniq_task (queue, status) WHERE status < 30;
-- chores
CREATE INDEX omniq_task_stranded ON omniq_task (id) WHERE status = 10 AND flags > 0;
CREATE INDEX omniq_task_expiring ON omniq_task (expires_at)
    WHERE status < 50 AND expires_at IS NOT NULL;
-- counts of what ended, and its removal
CREATE INDEX omniq_task_ended ON omniq_task (queue, status, keep_until) WHERE status >= 60;
-- rows hidden before their end
CREATE INDEX omniq_task_kept ON omniq_task (keep_until)
    WHERE status < 60 AND keep_until IS NOT NULL;
-- ends that still have children to release (Tie.RELEASING)
CREATE INDEX omniq_task_releasing ON omniq_task (pk) WHERE ties >= 8;
-- pages of dead letters among a million successes, pages of a group
CREATE INDEX omniq_task_not_well ON omniq_task (id) WHERE status >= 70;
CREATE INDEX omniq_task_group ON omniq_task (grp, id) WHERE grp IS NOT NULL;

CREATE TABLE omniq_result (
    id    TEXT    NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    until INTEGER,
    value BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX omniq_result_until ON omniq_result (until) WHERE until IS NOT NULL;

CREATE TABLE omniq_event (
    pk         INTEGER PRIMARY KEY AUTOINCREMENT,  -- a reader's cursor never sees a number twice
    task       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    n          INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    type       TEXT    NOT NULL,
    queue      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    worker     TEXT    NOT NULL,
    keep_until INTEGER,
    data       TEXT,                               -- JSON, NULL: {}
    UNIQUE (task, epoch, n)
) STRICT;

CREATE TABLE omniq_doc (
    kind       TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    rev        INTEGER NOT NULL,
    due_at     INTEGER,
    expires_at INTEGER,
    value      BLOB    NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX omniq_doc_due ON omniq_doc (kind, due_at, key) WHERE due_at IS NOT NULL;
CREATE INDEX omniq_doc_expiring ON omniq_doc (expires_at) WHERE expires_at IS NOT NULL;

-- One row per parent of a child that has not ended. `open`: the parent has not ended either.
CREATE TABLE omniq_edge (
    parent TEXT    NOT NULL,
    child  TEXT    NOT NULL,
    need   INTEGER NOT NULL,  -- 1: it must succeed, 0: it must end
    open   INTEGER NOT NULL,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX omniq_edge_child ON omniq_edge (child);

CREATE TABLE omniq_uniq (
    key   TEXT NOT NULL PRIMARY KEY,
    task  TEXT NOT NULL,
    until INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX omniq_uniq_until ON omniq_uniq (until) WHERE until IS NOT NULL;

-- One lease per worker process.
CREATE TABLE omniq_owner (
    id    TEXT    NOT NULL PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX omniq_owner_until ON omniq_owner (until);

-- The number of the last of these files that was applied; every one of them sets it.
CREATE TABLE omniq_schema (version INTEGER NOT NULL) STRICT;
INSERT INTO omniq_schema (version) VALUES (1);
