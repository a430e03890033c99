-- {schema} is the namespace's own schema. Ids and names compare by bytes (COLLATE "C"), as
-- everywhere in OmniQ, whatever the database's language is.
--
-- Every index is partial and named by the one question it answers: each costs a write at every
-- change of status, and none of these changes can be HOT, since a status is in their conditions.
-- Body and error need no table of their own: above 2 KB PostgreSQL keeps them out of the row
-- (TOAST) and does not copy them when the row changes, below that a copy costs less than a join.

CREATE TABLE {schema}.task (
    run_at      bigint   NOT NULL DEFAULT 0,
    created_at  bigint   NOT NULL DEFAULT 0,
    started_at  bigint,
    finished_at bigint,
    expires_at  bigint,
    keep_until  bigint,
    uniq_until  bigint,
    priority    integer  NOT NULL DEFAULT 0,
    attempt     integer  NOT NULL DEFAULT 0,
    epoch       integer  NOT NULL DEFAULT 0,
    losses      integer  NOT NULL DEFAULT 0,
    waiting     integer  NOT NULL DEFAULT 0,      -- open edges; -1: nobody has looked yet (insert_v1)
    status      smallint NOT NULL,
    flags       smallint NOT NULL DEFAULT 0,
    cancel      boolean  NOT NULL DEFAULT false,
    releasing   boolean  NOT NULL DEFAULT false,  -- ended, and some children are not told yet
    id          text COLLATE "C" NOT NULL PRIMARY KEY,
    queue       text COLLATE "C" NOT NULL,
    lane        text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    claim       text COLLATE "C",
    owner       text COLLATE "C",
    uniq        text COLLATE "C",
    uniq_free   text COLLATE "C",                 -- start, end or time
    grp         text COLLATE "C",
    fault       text COLLATE "C",
    reply       text COLLATE "C",
    tags        text[],                           -- NULL: none
    progress    bytea,
    preview     text     NOT NULL DEFAULT '',
    error       bytea,
    body        bytea    NOT NULL
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_vacuum_cost_delay = 1
);

-- claim: (-priority) so that one row comparison says "behind the last one claimed"
CREATE INDEX task_ready ON {schema}.task (queue, lane, (-priority), run_at, id) WHERE status = 40;
-- promotion, and when to look again
CREATE INDEX task_scheduled ON {schema}.task (queue, lane, run_at) WHERE status = 30;
-- a claim resent, a heartbeat, a dead owner
CREATE INDEX task_running ON {schema}.task (owner, claim) WHERE status = 50;
-- counts of what waits
CREATE INDEX task_waiting ON {schema}.task (queue, status) WHERE status < 30;
-- chores
CREATE INDEX task_stranded ON {schema}.task (id) WHERE status = 10 AND flags > 0;
CREATE INDEX task_expiring ON {schema}.task (expires_at)
    WHERE status < 50 AND expires_at IS NOT NULL;
-- inserted in transactions of others, parents not looked at yet
CREATE INDEX task_unweighed ON {schema}.task (id) WHERE waiting < 0;
-- counts of what ended, and its removal
CREATE INDEX task_ended ON {schema}.task (queue, status, keep_until) WHERE status >= 60;
-- rows hidden before their end
CREATE INDEX task_kept ON {schema}.task (keep_until) WHERE status < 60 AND keep_until IS NOT NULL;
CREATE INDEX task_releasing ON {schema}.task (id) WHERE releasing;
-- pages of dead letters among a million successes, pages of a group
CREATE INDEX task_not_well ON {schema}.task (id) WHERE status >= 70;
CREATE INDEX task_group ON {schema}.task (grp, id) WHERE grp IS NOT NULL;

CREATE TABLE {schema}.result (
    until bigint,
    epoch integer NOT NULL,
    id    text COLLATE "C" NOT NULL PRIMARY KEY,
    value bytea   NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_vacuum_cost_delay = 1
);
CREATE INDEX result_until ON {schema}.result (until) WHERE until IS NOT NULL;

CREATE TABLE {schema}.event (
    n_stored   bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         bigint  NOT NULL,
    keep_until bigint,
    epoch      integer NOT NULL,
    n          integer NOT NULL,
    task       text COLLATE "C" NOT NULL,
    type       text COLLATE "C" NOT NULL,
    queue      text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    worker     text COLLATE "C" NOT NULL,
    data       json,                              -- NULL: {}
    UNIQUE (task, epoch, n)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE {schema}.doc (
    due_at     bigint,
    expires_at bigint,
    rev        integer NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      bytea   NOT NULL,
    PRIMARY KEY (kind, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX doc_due ON {schema}.doc (kind, due_at, key) WHERE due_at IS NOT NULL;
CREATE INDEX doc_expiring ON {schema}.doc (expires_at) WHERE expires_at IS NOT NULL;

-- One row per parent of a child. `open`: the parent has not ended. Kept as long as both rows.
CREATE TABLE {schema}.edge (
    need    boolean NOT NULL,                     -- it must succeed; false: it must end
    open    boolean NOT NULL,
    parent  text COLLATE "C" NOT NULL,
    child   text COLLATE "C" NOT NULL,
    PRIMARY KEY (parent, child)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX edge_child ON {schema}.edge (child);
CREATE INDEX edge_open ON {schema}.edge (parent, child) WHERE open;

CREATE TABLE {schema}.uniq (
    until bigint,
    key   text COLLATE "C" NOT NULL PRIMARY KEY,
    task  text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX uniq_until ON {schema}.uniq (until) WHERE until IS NOT NULL;

-- One lease per worker process. No index on `until`: so that renewing it is a HOT update.
CREATE TABLE {schema}.owner (
    until bigint NOT NULL,
    id    text COLLATE "C" NOT NULL PRIMARY KEY
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- One row per migration. `oldest`: the oldest version of the tables whose OmniQ still works
-- with them; such an older one keeps calling the functions of its own version.
CREATE TABLE {schema}.omniq_schema (
    version integer NOT NULL PRIMARY KEY,
    oldest  integer NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO {schema}.omniq_schema (version, oldest) VALUES (1, 1);
