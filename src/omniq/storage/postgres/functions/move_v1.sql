-- What became of a batch so far; the rarer it is, the later it is looked at.
DO $$ BEGIN
    CREATE TYPE {schema}.receipt_v1 AS (
        refused jsonb, taken jsonb, missing jsonb, riders jsonb,
        woken text[], later text[], stranded text[], inboxes text[], owners text[], kinds text[],
        unreleased boolean, told jsonb
    );
EXCEPTION WHEN duplicate_object THEN NULL; END $$;

-- Parents ended: up to `p_limit` children of each run, wait on for others, or are stranded.
CREATE OR REPLACE FUNCTION {schema}.release_v1(
    p_now bigint, p_parents text[], p_limit integer, INOUT p {schema}.receipt_v1, OUT released integer
) LANGUAGE plpgsql AS $$
DECLARE
    v_parent   text;
    v_children text[];
    v_well     boolean;
    v_more     boolean;
    v_was      boolean;
    v_all      text[] := '{}';
    c          record;
BEGIN
    released := 0;
    IF cardinality(p_parents) > 1 THEN  -- lock the children of all, by id
        FOREACH v_parent IN ARRAY p_parents LOOP
            v_all := v_all || ARRAY(SELECT e.child FROM {schema}.edge e
                WHERE e.parent = v_parent AND e.open ORDER BY e.child LIMIT p_limit);
        END LOOP;
        PERFORM FROM {schema}.task t WHERE t.id = ANY (v_all) ORDER BY t.id || '' FOR NO KEY UPDATE;
    END IF;
    FOREACH v_parent IN ARRAY p_parents LOOP
        SELECT t.status = 60, t.releasing INTO v_well, v_was
        FROM {schema}.task t WHERE t.id = v_parent;
        v_children := ARRAY(SELECT e.child FROM {schema}.edge e
            WHERE e.parent = v_parent AND e.open ORDER BY e.child LIMIT p_limit);
        PERFORM FROM {schema}.task t WHERE t.id = ANY (v_children) ORDER BY t.id || '' FOR NO KEY UPDATE;
        -- Another call may have come here first: only what is still open is closed, and counted.
        FOR c IN
            WITH closed AS (
                UPDATE {schema}.edge e SET open = false
                WHERE e.parent = v_parent AND e.child = ANY (v_children) AND e.open
                RETURNING e.child, e.need AND NOT v_well AS fails
            )
            UPDATE {schema}.task t SET
                waiting = t.waiting - 1,
                flags = CASE WHEN t.status = 10 AND closed.fails THEN t.flags | 1 ELSE t.flags END,
                status = CASE
                    WHEN t.status <> 10 OR t.waiting > 1 OR closed.fails OR t.flags & 1 > 0 THEN t.status
                    WHEN t.run_at > p_now THEN 30 ELSE 40 END
            FROM closed WHERE t.id BETWEEN closed.child AND closed.child AND t.waiting > 0
            RETURNING t.id, t.queue, t.status, closed.fails
        LOOP
            IF c.status = 40 THEN
                p.woken := p.woken || c.queue;
            ELSIF c.status = 30 THEN
                p.later := p.later || c.queue;
            ELSIF c.status = 10 AND c.fails THEN
                p.stranded := p.stranded || c.id;
            END IF;
        END LOOP;
        released := released + cardinality(v_children);
        v_more := EXISTS (SELECT FROM {schema}.edge e WHERE e.parent = v_parent AND e.open);
        IF v_more THEN
            p.unreleased := true;
        END IF;
        IF v_more <> v_was THEN
            UPDATE {schema}.task t SET releasing = v_more WHERE t.id = v_parent;
        END IF;
    END LOOP;
END $$;

-- Rows ended: keys are given back, edges closed, children told.
CREATE OR REPLACE FUNCTION {schema}.ended_v1(
    p_now bigint, p_ids text[], p_tied text[], INOUT p {schema}.receipt_v1
) LANGUAGE plpgsql AS $$
DECLARE
    v_parents text[];
    v_r       record;
BEGIN
    IF p_tied <> '{}' THEN
        DELETE FROM {schema}.uniq u USING {schema}.task t
        WHERE t.id = ANY (p_tied) AND u.key BETWEEN t.uniq AND t.uniq AND u.task = t.id || '' AND t.uniq_free <> 'time';
        UPDATE {schema}.edge SET open = false WHERE child = ANY (p_tied) AND open IS NOT FALSE;
        UPDATE {schema}.task SET waiting = 0 WHERE id = ANY (p_tied) AND waiting <> 0;
    END IF;
    v_parents := ARRAY(SELECT DISTINCT i FROM unnest(p_ids) i
        WHERE (SELECT e.open FROM {schema}.edge e WHERE e.parent = i AND e.open LIMIT 1) ORDER BY i);
    IF v_parents <> '{}' THEN
        SELECT * INTO v_r FROM {schema}.release_v1(p_now, v_parents, 500, p);
        p := v_r.p;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- Somebody else's transaction with a snapshot of its own, older perhaps than some
        -- children: `sweep` looks for them once more.
        UPDATE {schema}.task SET releasing = true WHERE id = ANY (p_ids) AND NOT releasing;
    END IF;
END $$;

-- Insert riders; how many were refused is counted for unit `p_at`.
CREATE OR REPLACE FUNCTION {schema}.spawn_v1(
    p_now bigint, p_at integer, p_units jsonb, INOUT p {schema}.receipt_v1, OUT refused integer
) LANGUAGE plpgsql AS $$
DECLARE
    v_unit jsonb;
    v      record;
BEGIN
    refused := 0;
    FOR v_unit IN SELECT u FROM jsonb_array_elements(p_units) AS e (u) LOOP
        SELECT * INTO v FROM {schema}.insert_one_v1(p_now, v_unit, true);
        IF v.outcome = 1 THEN
            p := {schema}.added_v1(p, p_at, v.queue, v.status, v.stranded, v_unit);
        ELSIF v.outcome = 3 THEN
            refused := refused + 1;
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION {schema}.added_v1(
    p {schema}.receipt_v1, p_at integer, p_queue text, p_status integer, p_stranded boolean, p_unit jsonb
) RETURNS {schema}.receipt_v1 LANGUAGE plpgsql AS $$
BEGIN
    IF p_status = 40 THEN
        p.woken := p.woken || p_queue;
    ELSIF p_status = 30 THEN
        p.later := p.later || p_queue;
    END IF;
    IF p_stranded THEN
        p.stranded := p.stranded || (p_unit->'row'->>'id');
    END IF;
    IF jsonb_array_length(p_unit->'events') > 0 THEN
        p.told := p.told || jsonb_build_array(jsonb_build_array(p_at, p_unit->'events'));
    END IF;
    RETURN p;
END $$;

-- Write or delete a doc if it has the revision expected.
CREATE OR REPLACE FUNCTION {schema}.put_doc_v1(
    p_now bigint, p_at integer, p_unit jsonb, INOUT p {schema}.receipt_v1,
    OUT applied boolean, OUT refused integer
) LANGUAGE plpgsql AS $$
DECLARE
    v_kind   CONSTANT text := p_unit->>'kind';
    v_key    CONSTANT text := p_unit->>'key';
    v_expect CONSTANT integer := (p_unit->>'expect')::integer;
    v_rev    integer;
    v_dead   boolean;
    v_r      record;
BEGIN
    refused := 0;
    applied := false;
    LOOP
        SELECT d.rev, d.expires_at <= p_now INTO v_rev, v_dead
        FROM {schema}.doc d WHERE d.kind = v_kind AND d.key = v_key FOR UPDATE;
        IF NOT FOUND OR v_dead THEN
            v_rev := 0;
        END IF;
        IF v_expect <> v_rev THEN
            RETURN;
        END IF;
        IF p_unit->>'value' IS NULL THEN
            DELETE FROM {schema}.doc d WHERE d.kind = v_kind AND d.key = v_key;
            EXIT;
        END IF;
        INSERT INTO {schema}.doc AS d (kind, key, rev, due_at, expires_at, value)
        VALUES (v_kind, v_key, v_rev + 1, (p_unit->>'due_at')::bigint,
                (p_unit->>'expires_at')::bigint, decode(p_unit->>'value', 'base64'))
        ON CONFLICT (kind, key) DO UPDATE SET rev = excluded.rev, due_at = excluded.due_at,
            expires_at = excluded.expires_at, value = excluded.value
        -- not one that came in between
        WHERE v_rev > 0 OR v_dead;
        EXIT WHEN FOUND;
    END LOOP;
    applied := true;
    p.kinds := p.kinds || v_kind;
    IF jsonb_array_length(p_unit->'events') > 0 THEN
        p.told := p.told || jsonb_build_array(jsonb_build_array(p_at, p_unit->'events'));
    END IF;
    IF jsonb_array_length(p_unit->'spawn') > 0 THEN
        SELECT * INTO v_r FROM {schema}.spawn_v1(p_now, p_at, p_unit->'spawn', p);
        p := v_r.p;
        refused := v_r.refused;
    END IF;
END $$;

-- Keep a result, unless one of a later run is there.
CREATE OR REPLACE FUNCTION {schema}.put_result_v1(p_id text, p_epoch integer, p_until bigint, p_value bytea)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.result AS r (id, epoch, until, value) VALUES (p_id, p_epoch, p_until, p_value)
    ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, until = excluded.until, value = excluded.value
    WHERE r.epoch <= excluded.epoch;
    RETURN FOUND;
END $$;

-- Apply one move with everything that may hang on it.
CREATE OR REPLACE FUNCTION {schema}.move_v1(
    p_now bigint, p_at integer, p_unit jsonb, INOUT p {schema}.receipt_v1, OUT outcome integer
) LANGUAGE plpgsql AS $$
DECLARE
    v_id    CONSTANT text := p_unit->>'id';
    v_patch CONSTANT jsonb := p_unit->'patch';
    v_to    integer := (p_unit->>'to')::integer;
    v_ask   CONSTANT boolean := (p_unit->>'ask')::boolean;
    v_doc   jsonb;
    v_holder text;
    v_refused integer := 0;
    v_n     integer;
    v_done  boolean;
    v_r     record;
    s       record;
BEGIN
    outcome := 3;
    SELECT t.queue, t.status, t.epoch, t.claim, t.cancel, t.owner, t.reply, t.run_at, t.waiting,
           t.uniq, t.uniq_until, t.releasing
    INTO s FROM {schema}.task t WHERE t.id = v_id FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT (p_unit->'expect') @> to_jsonb(s.status) THEN
        RETURN;
    END IF;
    IF jsonb_typeof(p_unit->'fence') = 'array' AND (
        (p_unit->'fence'->>0)::integer <> s.epoch OR p_unit->'fence'->>1 IS DISTINCT FROM s.claim
    ) THEN
        RETURN;
    END IF;
    IF v_ask THEN
        IF s.status = 50 THEN
            IF NOT s.cancel THEN
                UPDATE {schema}.task SET cancel = true WHERE id = v_id;
            END IF;
            p.owners := p.owners || s.owner;
            outcome := 4;
            RETURN;
        END IF;
        IF s.status >= 60 THEN
            RETURN;
        END IF;
        v_to := 80;
    ELSIF v_to < 60 AND s.cancel AND s.status = 50 THEN  -- asked to stop, it goes to an end only
        RETURN;
    END IF;
    IF v_to = 40 AND coalesce((v_patch->>'run_at')::bigint, s.run_at) > p_now THEN
        v_to := 30;
    END IF;
    IF s.status >= 60 AND v_to < 60 THEN  -- a replay
        IF s.uniq IS NOT NULL THEN
            v_holder := coalesce({schema}.holder_v1(p_now, s.uniq, v_id),
                                 {schema}.take_key_v1(p_now, s.uniq, v_id, s.uniq_until));
            IF v_holder IS NOT NULL THEN
                p.taken := p.taken || jsonb_build_object(p_at, v_holder);
                RETURN;
            END IF;
        END IF;
        DELETE FROM {schema}.result WHERE id = v_id;
        v_done := true;
    END IF;
    outcome := 1;
    UPDATE {schema}.task t SET
        status = coalesce(v_to, t.status),
        claim = CASE WHEN v_to <> 50 THEN NULL ELSE t.claim END,
        cancel = CASE WHEN v_to <> 50 THEN false ELSE t.cancel END,
        flags = CASE WHEN v_to <> 50 THEN 0 ELSE t.flags END,
        run_at = CASE WHEN v_patch ? 'run_at' THEN (v_patch->>'run_at')::bigint ELSE t.run_at END,
        attempt = CASE WHEN v_patch ? 'attempt' THEN (v_patch->>'attempt')::integer ELSE t.attempt END,
        losses = CASE WHEN v_patch ? 'losses' THEN (v_patch->>'losses')::integer ELSE t.losses END,
        priority = CASE WHEN v_patch ? 'priority' THEN (v_patch->>'priority')::integer ELSE t.priority END,
        progress = CASE WHEN v_patch ? 'progress' THEN decode(v_patch->>'progress', 'base64') ELSE t.progress END,
        error = CASE WHEN v_patch ? 'error' THEN decode(v_patch->>'error', 'base64') ELSE t.error END,
        fault = CASE WHEN v_patch ? 'fault' THEN v_patch->>'fault' ELSE t.fault END,
        body = CASE WHEN v_patch ? 'body' THEN decode(v_patch->>'body', 'base64') ELSE t.body END,
        preview = CASE WHEN v_patch ? 'preview' THEN v_patch->>'preview' ELSE t.preview END,
        tags = CASE WHEN v_patch ? 'tags' THEN {schema}.tags_v1(v_patch->'tags') ELSE t.tags END,
        finished_at = CASE WHEN v_patch ? 'finished_at' THEN (v_patch->>'finished_at')::bigint ELSE t.finished_at END,
        started_at = CASE WHEN v_patch ? 'started_at' THEN (v_patch->>'started_at')::bigint ELSE t.started_at END,
        keep_until = CASE WHEN v_patch ? 'keep_until' THEN (v_patch->>'keep_until')::bigint ELSE t.keep_until END,
        expires_at = CASE WHEN v_patch ? 'expires_at' THEN (v_patch->>'expires_at')::bigint ELSE t.expires_at END
    WHERE t.id = v_id AND (v_to IS NOT NULL OR v_patch <> '{}');
    IF v_to = 40 THEN
        p.woken := p.woken || s.queue;
    ELSIF v_to = 30 OR (v_to IS NULL AND s.status = 30) THEN  -- it may be due before others now
        p.later := p.later || s.queue;
    ELSIF v_to >= 60 THEN
        IF s.reply IS NOT NULL THEN
            p.inboxes := p.inboxes || s.reply;
        END IF;
        p := {schema}.ended_v1(p_now, ARRAY[v_id],
            CASE WHEN s.uniq IS NOT NULL OR s.waiting <> 0 THEN ARRAY[v_id] ELSE '{}' END, p);
    END IF;
    IF v_done AND s.releasing THEN
        UPDATE {schema}.task SET releasing = false WHERE id = v_id;
    END IF;
    IF jsonb_typeof(p_unit->'result') = 'array' AND NOT {schema}.put_result_v1(
        v_id, s.epoch, (p_unit->'result'->>1)::bigint, decode(p_unit->'result'->>0, 'base64')
    ) THEN
        v_refused := 1;
    END IF;
    IF jsonb_array_length(p_unit->'events') > 0 THEN
        p.told := p.told || jsonb_build_array(jsonb_build_array(p_at, p_unit->'events'));
    END IF;
    IF jsonb_array_length(p_unit->'spawn') > 0 THEN
        SELECT * INTO v_r FROM {schema}.spawn_v1(p_now, p_at, p_unit->'spawn', p);
        p := v_r.p;
        v_n := v_r.refused;
        v_refused := v_refused + v_n;
    END IF;
    FOR v_doc IN SELECT d FROM jsonb_array_elements(p_unit->'docs') AS e (d) LOOP
        SELECT * INTO v_r FROM {schema}.put_doc_v1(p_now, p_at, v_doc, p);
        p := v_r.p;
        v_done := v_r.applied;
        v_n := v_r.refused;
        v_refused := v_refused + v_n + (NOT v_done)::integer;
    END LOOP;
    IF v_refused > 0 THEN
        p.riders := p.riders || jsonb_build_object(p_at, v_refused);
    END IF;
END $$;
