-- At most `p_limit` rows past their stamps, and releases gone on with; how many it was.
-- What others have locked is left for the next time.
CREATE OR REPLACE FUNCTION {schema}.sweep_v1(p_now bigint, p_limit integer, OUT done integer, OUT receipt text)
LANGUAGE plpgsql {settings} AS $$
DECLARE
    v_now  CONSTANT bigint := {schema}.now_v1(p_now);
    v_id   text;
    v_ids  text[];
    v_n    integer;
    v_pair record;
    v_r    record;
    p {schema}.receipt_v1 := ROW('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', false,
                                 '[]')::{schema}.receipt_v1;
BEGIN
    done := 0;
    FOR v_id IN SELECT t.id FROM {schema}.task t WHERE t.releasing ORDER BY t.id LIMIT 16
                FOR NO KEY UPDATE SKIP LOCKED LOOP
        EXIT WHEN done >= p_limit;
        SELECT * INTO v_r FROM {schema}.release_v1(v_now, ARRAY[v_id], p_limit - done, p);
        p := v_r.p;
        v_n := v_r.released;
        done := done + v_n;
    END LOOP;

    -- Every (queue, status) that ended rows have: one step along the index for each.
    FOR v_pair IN
        WITH RECURSIVE pair AS (
            (SELECT t.queue, t.status FROM {schema}.task t WHERE t.status >= 60
             ORDER BY t.queue, t.status LIMIT 1)
            UNION ALL
            SELECT later.queue, later.status FROM pair CROSS JOIN LATERAL (
                SELECT t.queue, t.status FROM {schema}.task t WHERE t.status >= 60
                AND (t.queue, t.status) > (pair.queue, pair.status)
                ORDER BY t.queue, t.status LIMIT 1) AS later
        ) SELECT pair.queue, pair.status FROM pair
    LOOP
        EXIT WHEN done >= p_limit;
        v_ids := ARRAY(SELECT t.id FROM {schema}.task t
            WHERE t.status >= 60 AND t.queue = v_pair.queue AND t.status = v_pair.status
                AND t.keep_until <= v_now AND NOT {schema}.needed_v1(t.id)
            LIMIT p_limit - done FOR UPDATE SKIP LOCKED);
        done := done + {schema}.drop_v1({schema}.unneeded_v1(v_ids));
    END LOOP;
    v_ids := ARRAY(SELECT t.id FROM {schema}.task t
        WHERE t.status < 60 AND t.keep_until IS NOT NULL AND t.keep_until <= v_now
            AND NOT {schema}.needed_v1(t.id)
        LIMIT p_limit - done FOR UPDATE SKIP LOCKED);
    done := done + {schema}.drop_v1({schema}.unneeded_v1(v_ids));

    v_ids := ARRAY(SELECT r.id FROM {schema}.result r
        WHERE r.until IS NOT NULL AND r.until <= v_now AND NOT {schema}.needed_v1(r.id)
        ORDER BY r.until LIMIT p_limit - done FOR UPDATE SKIP LOCKED);
    -- Without those whose rows are held, by a new child perhaps.
    v_ids := ARRAY(SELECT i FROM unnest(v_ids) i
                   WHERE (SELECT t.id FROM {schema}.task t WHERE t.id = i) IS NULL)
          || ARRAY(SELECT t.id FROM {schema}.task t WHERE t.id = ANY (v_ids)
                   FOR NO KEY UPDATE SKIP LOCKED);
    v_ids := {schema}.unneeded_v1(v_ids);  -- by itself: within a condition it ran for each row
    DELETE FROM {schema}.result WHERE id = ANY (v_ids);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    done := done + v_n;
    DELETE FROM {schema}.doc d USING (SELECT x.kind, x.key FROM {schema}.doc x
        WHERE x.expires_at IS NOT NULL AND x.expires_at <= v_now
        ORDER BY x.expires_at LIMIT p_limit - done FOR UPDATE SKIP LOCKED) AS old
    WHERE (d.kind, d.key) BETWEEN (old.kind, old.key) AND (old.kind, old.key);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    done := done + v_n;
    DELETE FROM {schema}.uniq WHERE key = ANY (ARRAY(SELECT u.key FROM {schema}.uniq u
        WHERE u.until IS NOT NULL AND u.until <= v_now
        ORDER BY u.until LIMIT p_limit - done FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_n = ROW_COUNT;
    done := done + v_n;
    -- Events are kept for one length of time, so the oldest go first: no index is needed.
    DELETE FROM {schema}.event WHERE n_stored = ANY (ARRAY(SELECT old.n_stored FROM (
        SELECT e.n_stored, e.keep_until FROM {schema}.event e WHERE e.keep_until IS NOT NULL
        ORDER BY e.n_stored LIMIT p_limit - done) AS old WHERE old.keep_until <= v_now));
    GET DIAGNOSTICS v_n = ROW_COUNT;
    done := done + v_n;

    DELETE FROM {schema}.owner WHERE id = ANY (ARRAY(SELECT o.id FROM {schema}.owner o
        WHERE o.until <= v_now AND (SELECT t.id FROM {schema}.task t
            WHERE t.status = 50 AND t.owner = o.id LIMIT 1) IS NULL
        LIMIT p_limit FOR UPDATE SKIP LOCKED)) AND until <= v_now;
    -- One whose claim was committed late may have gone too early; without it nobody would ever
    -- look after what it runs. If it lives, its next heartbeat says how long its lease is.
    INSERT INTO {schema}.owner (id, until)
    WITH RECURSIVE holder AS (
        (SELECT t.owner FROM {schema}.task t WHERE t.status = 50 ORDER BY t.owner LIMIT 1)
        UNION ALL
        SELECT later.owner FROM holder CROSS JOIN LATERAL (
            SELECT t.owner FROM {schema}.task t WHERE t.status = 50 AND t.owner > holder.owner
            ORDER BY t.owner LIMIT 1) AS later
    ) SELECT holder.owner, v_now + 60000 FROM holder
    WHERE (SELECT o.id FROM {schema}.owner o WHERE o.id = holder.owner) IS NULL
    ON CONFLICT DO NOTHING;
    receipt := {schema}.answer_v1(p);
END $$;

-- Which of the rows locked are not needed. A child may have come in while they were looked for,
-- and none can any more; a statement of its own sees it.
CREATE OR REPLACE FUNCTION {schema}.unneeded_v1(p_ids text[]) RETURNS text[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(SELECT i FROM unnest(p_ids) i WHERE NOT {schema}.needed_v1(i));
END $$;

-- Rows go, with what hangs on them. A key without a time of its own goes with its row.
CREATE OR REPLACE FUNCTION {schema}.drop_v1(p_ids text[]) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    IF p_ids = '{}' THEN
        RETURN 0;
    END IF;
    DELETE FROM {schema}.uniq u USING {schema}.task t WHERE t.id = ANY (p_ids) AND u.key BETWEEN t.uniq AND t.uniq
        AND u.task = t.id || '' AND (t.uniq_free <> 'time' OR t.uniq_until IS NULL);
    DELETE FROM {schema}.result WHERE id = ANY (p_ids) AND until IS NULL;
    DELETE FROM {schema}.edge WHERE child = ANY (p_ids);
    DELETE FROM {schema}.edge WHERE parent = ANY (p_ids);
    DELETE FROM {schema}.task WHERE id = ANY (p_ids);
    RETURN cardinality(p_ids);
END $$;
