-- Rows inserted in transactions of others, now that their parents may be locked: each runs, waits
-- or is stranded. What somebody else has locked is left for the next time.
CREATE OR REPLACE FUNCTION {schema}.weigh_v1(p_now bigint) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    v_child   text;
    v_parents text[];
    v_locked  integer;
    v_waiting integer;
    v_fails   boolean;
    v_status  integer;
    v_queue   text;
    v_woken   text[] := '{}';
BEGIN
    FOR v_child IN SELECT t.id FROM {schema}.task t WHERE t.waiting < 0 ORDER BY t.id LIMIT 200 LOOP
        v_parents := ARRAY(SELECT e.parent FROM {schema}.edge e WHERE e.child = v_child);
        SELECT count(*) INTO v_locked FROM (SELECT FROM {schema}.task t
            WHERE t.id = ANY (v_parents) ORDER BY t.id || '' FOR SHARE SKIP LOCKED) AS locked;
        CONTINUE WHEN v_locked < (SELECT count(*) FROM {schema}.task t WHERE t.id = ANY (v_parents));
        PERFORM FROM {schema}.task t WHERE t.id = v_child AND t.waiting < 0 FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        -- A parent that is gone had ended. How is known if it had when the row came in: such an
        -- edge was never open, and the row has its flag if that one failed.
        SELECT count(*) FILTER (WHERE t.status < 60),
               coalesce(bool_or(e.need AND CASE WHEN t.id IS NULL THEN e.open
                                                ELSE t.status > 60 END), false)
        INTO v_waiting, v_fails
        FROM {schema}.edge e LEFT JOIN {schema}.task t ON t.id BETWEEN e.parent AND e.parent WHERE e.child = v_child;
        UPDATE {schema}.edge e SET open = coalesce(
            (SELECT t.status < 60 FROM {schema}.task t WHERE t.id = e.parent), false)
        WHERE e.child = v_child;
        UPDATE {schema}.task t SET waiting = v_waiting,
            flags = CASE WHEN v_fails THEN t.flags | 1 ELSE t.flags END,
            status = CASE WHEN t.status <> 10 OR v_fails OR v_waiting > 0 OR t.flags & 1 > 0 THEN t.status
                          WHEN t.run_at > p_now THEN 30 ELSE 40 END
        WHERE t.id = v_child RETURNING t.status, t.queue INTO v_status, v_queue;
        IF v_status = 40 THEN
            v_woken := v_woken || v_queue;
        END IF;
    END LOOP;
    RETURN v_woken;
END $$;

-- Renew the lease of an owner that runs something. Two idle workers whose claims always wrote
-- would wake each other for ever, so it moves by `p_slack` at least.
CREATE OR REPLACE FUNCTION {schema}.renew_v1(p_owner text, p_until bigint, p_slack bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF abs((SELECT o.until FROM {schema}.owner o WHERE o.id = p_owner) - p_until) < p_slack THEN
        RETURN;
    END IF;
    INSERT INTO {schema}.owner AS o (id, until)
    SELECT p_owner, p_until WHERE EXISTS
        (SELECT FROM {schema}.task t WHERE t.status = 50 AND t.owner = p_owner)
    ON CONFLICT (id) DO UPDATE SET until = excluded.until;
END $$;

-- Hand out work and chores, or again what this request was given before. Slots are named by
-- s_*; where s_hint_id is not NULL, rows up to that key are passed over (see `Hints`). The last
-- row answered has `slot` 0 and carries what is not a row: the receipt of the units that were
-- applied in the same statement, the queues of rows made ready, the next run_at ahead, and how
-- many index entries each slot walked. Chores have slot -1.
CREATE OR REPLACE FUNCTION {schema}.claim_v1(
    p_now bigint, p_owner text, p_request text, s_queue text[], s_lane text[], s_limit integer[],
    s_hint_rank integer[], s_hint_run bigint[], s_hint_id text[],
    p_limit integer, p_lease bigint, p_chores integer, p_receipt text
) RETURNS TABLE (
    id text, queue text, lane text, name text, priority integer, run_at bigint, created_at bigint,
    started_at bigint, finished_at bigint, expires_at bigint, keep_until bigint,
    attempt integer, epoch integer, losses integer, waiting integer,
    uniq text, uniq_until bigint, uniq_free text, grp text, tags text[], fault text,
    cancel boolean, flags integer, reply text, progress bytea, body bytea, error bytea, preview text,
    slot integer, receipt text, woken text[], next_due bigint, walked bigint[]
) LANGUAGE plpgsql {settings} AS $$
DECLARE
    v_now    CONSTANT bigint := {schema}.now_v1(p_now);
    v_ready  CONSTANT oid := '{schema}.task_ready'::regclass;
    v_left   integer := p_limit;
    v_room   integer;
    v_got    integer;
    v_before bigint;
    v_used   jsonb := '{}';
    v_woken  text[] := '{}';
    v_walked bigint[] := '{}';
    v_due    bigint;
    v_paused text[];
BEGIN
    IF EXISTS (SELECT FROM {schema}.task t WHERE t.waiting < 0) THEN
        v_woken := {schema}.weigh_v1(v_now);
    END IF;
    v_due := {schema}.next_due_v1(s_queue, s_lane);
    IF v_due <= v_now THEN
        v_woken := v_woken || {schema}.promote_v1(v_now, s_queue, s_lane);
        v_due := {schema}.next_due_v1(s_queue, s_lane);
    END IF;

    IF EXISTS (SELECT FROM {schema}.task t
               WHERE t.status = 50 AND t.owner = p_owner AND t.claim = p_request) THEN
        RETURN QUERY SELECT
            t.id, t.queue, t.lane, t.name, t.priority, t.run_at, t.created_at, t.started_at,
            t.finished_at, t.expires_at, t.keep_until, t.attempt, t.epoch, t.losses,
            greatest(t.waiting, 0), t.uniq, t.uniq_until, t.uniq_free, t.grp, t.tags, t.fault,
            t.cancel, t.flags::integer, t.reply, t.progress, t.body, t.error, t.preview,
            CASE WHEN t.flags > 0 THEN -1 ELSE coalesce((SELECT min(n) FROM generate_subscripts(s_queue, 1) n
                WHERE s_queue[n] = t.queue AND s_lane[n] = t.lane), 1) END,
            NULL::text, NULL::text[], NULL::bigint, NULL::bigint[]
        FROM {schema}.task t WHERE t.status = 50 AND t.owner = p_owner AND t.claim = p_request;
    ELSE
        v_paused := ARRAY(SELECT d.key FROM {schema}.doc d WHERE d.kind = 'pause'
            AND d.key = ANY (s_queue) AND (d.expires_at IS NULL OR d.expires_at > v_now));
        FOR n IN 1 .. cardinality(s_queue) LOOP
            v_room := least(v_left, s_limit[n] - coalesce((v_used->>s_lane[n])::integer, 0));
            CONTINUE WHEN v_room <= 0 OR s_queue[n] = ANY (v_paused);
            v_before := pg_stat_get_xact_tuples_returned(v_ready);
            IF s_hint_id[n] IS NULL THEN
                RETURN QUERY
                WITH chosen AS MATERIALIZED (
                    SELECT t.id FROM {schema}.task t
                    WHERE t.status = 40 AND t.queue = s_queue[n] AND t.lane = s_lane[n]
                        AND (t.expires_at IS NULL OR t.expires_at > v_now)
                    ORDER BY (-t.priority), t.run_at, t.id LIMIT v_room FOR NO KEY UPDATE SKIP LOCKED)
                UPDATE {schema}.task t SET status = 50, epoch = t.epoch + 1, attempt = t.attempt + 1,
                    claim = p_request, owner = p_owner, started_at = v_now
                FROM chosen WHERE t.id BETWEEN chosen.id AND chosen.id
                RETURNING t.id, t.queue, t.lane, t.name, t.priority, t.run_at, t.created_at, t.started_at,
                    t.finished_at, t.expires_at, t.keep_until, t.attempt, t.epoch, t.losses,
                    t.waiting, t.uniq, t.uniq_until, t.uniq_free, t.grp, t.tags, t.fault,
                    t.cancel, t.flags::integer, t.reply, t.progress, t.body, t.error, t.preview,
                    n, NULL::text, NULL::text[], NULL::bigint, NULL::bigint[];
            ELSE
                RETURN QUERY
                WITH chosen AS MATERIALIZED (
                    SELECT t.id FROM {schema}.task t
                    WHERE t.status = 40 AND t.queue = s_queue[n] AND t.lane = s_lane[n]
                        AND (t.expires_at IS NULL OR t.expires_at > v_now)
                        AND ((-t.priority), t.run_at, t.id) > (s_hint_rank[n], s_hint_run[n], s_hint_id[n])
                    ORDER BY (-t.priority), t.run_at, t.id LIMIT v_room FOR NO KEY UPDATE SKIP LOCKED)
                UPDATE {schema}.task t SET status = 50, epoch = t.epoch + 1, attempt = t.attempt + 1,
                    claim = p_request, owner = p_owner, started_at = v_now
                FROM chosen WHERE t.id BETWEEN chosen.id AND chosen.id
                RETURNING t.id, t.queue, t.lane, t.name, t.priority, t.run_at, t.created_at, t.started_at,
                    t.finished_at, t.expires_at, t.keep_until, t.attempt, t.epoch, t.losses,
                    t.waiting, t.uniq, t.uniq_until, t.uniq_free, t.grp, t.tags, t.fault,
                    t.cancel, t.flags::integer, t.reply, t.progress, t.body, t.error, t.preview,
                    n, NULL::text, NULL::text[], NULL::bigint, NULL::bigint[];
            END IF;
            GET DIAGNOSTICS v_got = ROW_COUNT;
            v_walked[n] := pg_stat_get_xact_tuples_returned(v_ready) - v_before;
            v_left := v_left - v_got;
            v_used := v_used || jsonb_build_object(s_lane[n],
                coalesce((v_used->>s_lane[n])::integer, 0) + v_got);
        END LOOP;
        IF v_left < p_limit THEN
            DELETE FROM {schema}.uniq u USING {schema}.task t
            WHERE t.status = 50 AND t.owner = p_owner AND t.claim = p_request
                AND t.uniq_free = 'start' AND u.key BETWEEN t.uniq AND t.uniq AND u.task = t.id || '';
        END IF;
        IF p_chores > 0 THEN
            -- Chores hold the leases of others: with its own held before, no two wait in a circle.
            PERFORM {schema}.renew_v1(p_owner, v_now + p_lease, least(p_lease / 10, 1000));
            v_got := {schema}.chores_v1(v_now, p_owner, p_request, p_chores);
            IF v_got > 0 THEN
                v_due := {schema}.next_due_v1(s_queue, s_lane);  -- some of them were scheduled
                RETURN QUERY SELECT
                    t.id, t.queue, t.lane, t.name, t.priority, t.run_at, t.created_at, t.started_at,
                    t.finished_at, t.expires_at, t.keep_until, t.attempt, t.epoch, t.losses,
                    greatest(t.waiting, 0), t.uniq, t.uniq_until, t.uniq_free, t.grp, t.tags, t.fault,
                    t.cancel, t.flags::integer, t.reply, t.progress, t.body, t.error, t.preview,
                    -1, NULL::text, NULL::text[], NULL::bigint, NULL::bigint[]
                FROM {schema}.task t
                WHERE t.status = 50 AND t.owner = p_owner AND t.claim = p_request AND t.flags > 0;
            END IF;
        END IF;
    END IF;

    PERFORM {schema}.renew_v1(p_owner, v_now + p_lease, least(p_lease / 10, 1000));
    RETURN QUERY SELECT NULL::text, NULL::text, NULL::text, NULL::text, NULL::integer, NULL::bigint, NULL::bigint,
        NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
        NULL::integer, NULL::integer, NULL::integer, NULL::integer,
        NULL::text, NULL::bigint, NULL::text, NULL::text, NULL::text[], NULL::text,
        NULL::boolean, NULL::integer, NULL::text, NULL::bytea, NULL::bytea, NULL::bytea, NULL::text,
        0, p_receipt, nullif(v_woken, '{}'), v_due, v_walked;
END $$;

-- The next run_at of what is scheduled in these lines.
CREATE OR REPLACE FUNCTION {schema}.next_due_v1(s_queue text[], s_lane text[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_due bigint;
BEGIN
    FOR n IN 1 .. cardinality(s_queue) LOOP
        v_due := least(v_due, (SELECT t.run_at FROM {schema}.task t
            WHERE t.status = 30 AND t.queue = s_queue[n] AND t.lane = s_lane[n]
            ORDER BY t.run_at LIMIT 1));
    END LOOP;
    RETURN v_due;
END $$;

-- Make due rows ready; their queues.
CREATE OR REPLACE FUNCTION {schema}.promote_v1(p_now bigint, s_queue text[], s_lane text[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    v_woken text[] := '{}';
BEGIN
    FOR n IN 1 .. cardinality(s_queue) LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM {schema}.task t WHERE t.status = 30
            AND t.queue = s_queue[n] AND t.lane = s_lane[n] AND t.run_at <= p_now);
        WITH due AS MATERIALIZED (
            SELECT d.id FROM {schema}.task d
            WHERE d.status = 30 AND d.queue = s_queue[n] AND d.lane = s_lane[n] AND d.run_at <= p_now
            ORDER BY d.run_at LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)
        UPDATE {schema}.task t SET status = 40 FROM due WHERE t.id BETWEEN due.id AND due.id;
        v_woken := v_woken || s_queue[n];
    END LOOP;
    RETURN v_woken;
END $$;

-- Rows whose ending is a rule's business: lost (4), stranded (1), expired (2); how many.
CREATE OR REPLACE FUNCTION {schema}.chores_v1(p_now bigint, p_owner text, p_request text, p_limit integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_left integer := p_limit;
    v_got  integer;
BEGIN
    WITH silent AS MATERIALIZED (
        -- The owner's row is locked too: one that is just being renewed is not silent.
        SELECT held.id FROM (SELECT o.id FROM {schema}.owner o
            WHERE o.until <= p_now AND o.id <> p_owner
                AND (SELECT t.id FROM {schema}.task t
                     WHERE t.status = 50 AND t.owner = o.id LIMIT 1) IS NOT NULL
            FOR NO KEY UPDATE SKIP LOCKED) AS gone
        CROSS JOIN LATERAL (SELECT t.id FROM {schema}.task t
            WHERE t.status = 50 AND t.owner = gone.id LIMIT v_left FOR NO KEY UPDATE SKIP LOCKED) AS held
        LIMIT v_left)
    UPDATE {schema}.task t SET epoch = t.epoch + 1, claim = p_request, owner = p_owner,
        flags = t.flags | 4, losses = t.losses + 1
    FROM silent WHERE t.id BETWEEN silent.id AND silent.id;
    GET DIAGNOSTICS v_got = ROW_COUNT;
    v_left := v_left - v_got;
    IF v_left > 0 THEN
        WITH stranded AS MATERIALIZED (
            SELECT t.id FROM {schema}.task t WHERE t.status = 10 AND t.flags > 0
            ORDER BY t.id LIMIT v_left FOR NO KEY UPDATE SKIP LOCKED)
        UPDATE {schema}.task t SET status = 50, epoch = t.epoch + 1, claim = p_request, owner = p_owner,
            flags = t.flags | 1 | CASE WHEN t.expires_at <= p_now THEN 2 ELSE 0 END
        FROM stranded WHERE t.id BETWEEN stranded.id AND stranded.id;
        GET DIAGNOSTICS v_got = ROW_COUNT;
        v_left := v_left - v_got;
    END IF;
    IF v_left > 0 THEN
        WITH expired AS MATERIALIZED (
            SELECT t.id FROM {schema}.task t
            WHERE t.status < 50 AND t.expires_at IS NOT NULL AND t.expires_at <= p_now
            ORDER BY t.expires_at LIMIT v_left FOR NO KEY UPDATE SKIP LOCKED)
        UPDATE {schema}.task t SET status = 50, epoch = t.epoch + 1, claim = p_request, owner = p_owner,
            flags = t.flags | 2
        FROM expired WHERE t.id BETWEEN expired.id AND expired.id;
        GET DIAGNOSTICS v_got = ROW_COUNT;
        v_left := v_left - v_got;
    END IF;
    RETURN p_limit - v_left;
END $$;

-- A heartbeat: renew, write progress, and compare what the owner holds with what it says. It
-- waits for nobody's row, or a transaction somebody forgot would cost the owner all its tasks.
CREATE OR REPLACE FUNCTION {schema}.extend_v1(
    p_now bigint, p_owner text, p_lease bigint,
    h_id text[], h_epoch integer[], h_claim text[], h_progress bytea[]
) RETURNS TABLE (id text, epoch integer, claim text, cancel boolean)
LANGUAGE plpgsql {settings} AS $$
BEGIN
    PERFORM {schema}.renew_v1(p_owner, {schema}.now_v1(p_now) + p_lease, least(p_lease / 10, 1000));
    IF h_id IS NOT NULL THEN
        UPDATE {schema}.task t SET progress = h.progress
        FROM (
            SELECT t.id, h.progress
            FROM unnest(h_id, h_epoch, h_claim, h_progress) AS h (id, epoch, claim, progress)
            JOIN {schema}.task t ON t.id BETWEEN h.id AND h.id
            WHERE t.status + 0 = 50 AND t.owner = p_owner AND t.epoch = h.epoch
                AND t.claim = h.claim AND t.progress IS DISTINCT FROM h.progress
            FOR NO KEY UPDATE OF t SKIP LOCKED
        ) AS h WHERE t.id BETWEEN h.id AND h.id;
    END IF;
    RETURN QUERY SELECT t.id, t.epoch, t.claim, t.cancel FROM {schema}.task t
    WHERE t.status = 50 AND t.owner = p_owner;
END $$;
