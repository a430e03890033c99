-- One unit is JSON as msgspec writes the structs of omniq.models.units: bytes as base64.

-- The time by this server's clock, unless the caller brings its own.
CREATE OR REPLACE FUNCTION {schema}.now_v1(p_now bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(p_now, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
$$;

-- A parent is needed while one of its children has not ended.
CREATE OR REPLACE FUNCTION {schema}.needed_v1(p_parent text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- No join: a plan made while the tables are small could begin with all rows there are.
    RETURN EXISTS (SELECT FROM {schema}.edge e WHERE e.parent = p_parent
                   AND (SELECT c.status FROM {schema}.task c WHERE c.id = e.child) < 60);
END $$;

-- Who else holds a unique key; NULL: nobody.
CREATE OR REPLACE FUNCTION {schema}.holder_v1(p_now bigint, p_key text, p_task text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT task FROM {schema}.uniq
            WHERE key = p_key AND task <> p_task AND (until IS NULL OR until > p_now));
END $$;

-- Take a unique key; the id of another that was quicker, else NULL.
CREATE OR REPLACE FUNCTION {schema}.take_key_v1(p_now bigint, p_key text, p_task text, p_until bigint)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF p_until <= p_now THEN
        RETURN NULL;
    END IF;
    INSERT INTO {schema}.uniq AS u (key, task, until) VALUES (p_key, p_task, p_until)
    ON CONFLICT (key) DO UPDATE SET task = excluded.task, until = excluded.until
    WHERE u.until <= p_now OR u.task = excluded.task;
    RETURN CASE WHEN FOUND THEN NULL ELSE {schema}.holder_v1(p_now, p_key, p_task) END;
END $$;

-- Insert one row with its parents and unique key. Where `p_locked`, the parents are locked, so
-- that none of them can end meanwhile. Else (a transaction of somebody else, who may take long)
-- a row with unended parents waits as "not looked at" (waiting = -1), and the next claim looks.
CREATE OR REPLACE FUNCTION {schema}.insert_one_v1(
    p_now bigint, p_unit jsonb, p_locked boolean,
    OUT outcome integer, OUT holder text, OUT absent text[],
    OUT stranded boolean, OUT status integer, OUT queue text
) LANGUAGE plpgsql AS $$
DECLARE
    r      CONSTANT jsonb := p_unit->'row';
    v_id   CONSTANT text := r->>'id';
    v_key  CONSTANT text := r->'unique'->>0;
    v_flags   integer := (r->>'flags')::integer;
    v_waiting integer := 0;
    v_deps    boolean := jsonb_array_length(coalesce(p_unit->'deps', '[]')) > 0;
    v_fails   boolean;
BEGIN
    queue := r->>'queue';
    stranded := false;
    IF EXISTS (SELECT FROM {schema}.task t WHERE t.id = v_id) THEN
        outcome := 2;
        RETURN;
    END IF;
    outcome := 3;
    IF v_key IS NOT NULL THEN
        holder := {schema}.holder_v1(p_now, v_key, v_id);
        IF holder IS NOT NULL THEN
            RETURN;
        END IF;
    END IF;
    IF v_deps THEN
        IF p_locked THEN
            PERFORM FROM {schema}.task t
            WHERE t.id = ANY (ARRAY(SELECT d->>0 FROM jsonb_array_elements(p_unit->'deps') d))
            ORDER BY t.id || '' FOR SHARE;
        END IF;
        SELECT array_agg(d.parent ORDER BY d.n) FILTER (WHERE d.missing = 'refuse'),
               coalesce(bool_or(d.missing = 'fail'), false)
        INTO absent, v_fails
        FROM (SELECT e.d->>0 AS parent, coalesce(e.d->>2, 'refuse') AS missing, e.n
              FROM jsonb_array_elements(p_unit->'deps') WITH ORDINALITY AS e (d, n)) AS d
        WHERE NOT EXISTS (SELECT FROM {schema}.task t WHERE t.id BETWEEN d.parent AND d.parent AND (
            t.keep_until IS NULL OR t.keep_until > p_now OR {schema}.needed_v1(t.id)));
        IF absent IS NOT NULL THEN
            RETURN;
        END IF;
        -- Of two edges to one parent the stricter counts.
        WITH dep AS (
            SELECT e.d->>0 AS parent, bool_or(coalesce(e.d->>1, 'success') = 'success') AS need
            FROM jsonb_array_elements(p_unit->'deps') AS e (d) GROUP BY 1
        ), added AS (
            INSERT INTO {schema}.edge (parent, child, need, open)
            SELECT t.id, v_id, dep.need, t.status < 60
            FROM dep JOIN {schema}.task t ON t.id BETWEEN dep.parent AND dep.parent
            WHERE t.keep_until IS NULL OR t.keep_until > p_now OR {schema}.needed_v1(t.id)
            ON CONFLICT DO NOTHING RETURNING parent, need, open
        )
        SELECT count(*) FILTER (WHERE added.open),
               v_fails OR coalesce(bool_or(added.need AND t.status >= 60 AND t.status <> 60), false)
        INTO v_waiting, v_fails
        FROM added JOIN {schema}.task t ON t.id BETWEEN added.parent AND added.parent;
        IF v_fails THEN
            v_flags := v_flags | 1;
            stranded := true;
        END IF;
    END IF;
    status := CASE WHEN v_waiting > 0 OR v_flags & 1 > 0 THEN 10
                   WHEN (r->>'run_at')::bigint > p_now THEN 30 ELSE 40 END;
    IF v_key IS NOT NULL THEN
        holder := {schema}.take_key_v1(p_now, v_key, v_id, (r->'unique'->>1)::bigint);
        IF holder IS NOT NULL THEN  -- somebody was quicker
            DELETE FROM {schema}.edge WHERE child = v_id;
            stranded := false;
            RETURN;
        END IF;
    END IF;
    INSERT INTO {schema}.task (
        id, queue, lane, name, status, priority, run_at, created_at, started_at, finished_at,
        expires_at, keep_until, attempt, epoch, losses, waiting, uniq, uniq_until, uniq_free,
        grp, tags, fault, flags, reply, progress, preview, error, body
    ) VALUES (
        v_id, queue, r->>'lane', r->>'name', insert_one_v1.status, (r->>'priority')::integer,
        (r->>'run_at')::bigint, (r->>'created_at')::bigint, (r->>'started_at')::bigint,
        (r->>'finished_at')::bigint, (r->>'expires_at')::bigint, (r->>'keep_until')::bigint,
        (r->>'attempt')::integer, (r->>'epoch')::integer, (r->>'losses')::integer,
        CASE WHEN v_waiting > 0 AND NOT p_locked THEN -1 ELSE v_waiting END,
        v_key, (r->'unique'->>1)::bigint, r->'unique'->>2, r->>'group',
        {schema}.tags_v1(r->'tags'), r->>'fault', v_flags, r->>'reply',
        decode(r->>'progress', 'base64'), r->>'preview', decode(r->>'error', 'base64'),
        decode(r->>'body', 'base64')
    ) ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        outcome := 1;
    ELSE  -- sent twice at once
        outcome := 2;
        stranded := false;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION {schema}.tags_v1(p_tags jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg(tag ORDER BY n) FROM jsonb_array_elements_text(p_tags) WITH ORDINALITY AS t (tag, n)
$$;

-- Events in order, each once. `p_told` is a list of lists.
CREATE OR REPLACE FUNCTION {schema}.tell_v1(p_told jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.event (task, epoch, n, at, type, queue, name, worker, keep_until, data)
    SELECT e->>'task', (e->>'epoch')::integer, (e->>'n')::integer, (e->>'at')::bigint, e->>'type',
           e->>'queue', e->>'name', e->>'worker', (e->>'keep_until')::bigint,
           nullif(e->'data', '{}')::json
    FROM jsonb_array_elements(p_told) WITH ORDINALITY AS u (told, a),
         jsonb_array_elements(u.told) WITH ORDINALITY AS v (e, b)
    ORDER BY a, b
    ON CONFLICT DO NOTHING;
END $$;

-- What a transaction of somebody else may call, with one JSON parameter:
--   {"units": [an Insert, ...], "now": null, "notify": null or a channel}
-- It answers {"outcome": [1 new, 2 known, 3 refused], "taken": {index: holder's id},
-- "missing": {index: [parents]}, "woken": [queues]}. No parent is locked. With "notify" the
-- workers learn of it at the commit, else by their next look (within a second).
CREATE OR REPLACE FUNCTION {schema}.insert_v1(p_asked jsonb) RETURNS jsonb
LANGUAGE plpgsql {settings} AS $$
DECLARE
    v_now CONSTANT bigint := {schema}.now_v1((p_asked->>'now')::bigint);
    v_at      integer := 0;
    v_unit    jsonb;
    v         record;
    v_outcome jsonb := '[]';
    v_taken   jsonb := '{}';
    v_missing jsonb := '{}';
    v_told    jsonb := '[]';
    v_woken   text[] := '{}';
BEGIN
    FOR v_unit IN SELECT u FROM jsonb_array_elements(p_asked->'units') AS e (u) LOOP
        SELECT * INTO v FROM {schema}.insert_one_v1(v_now, v_unit, false);
        v_outcome := v_outcome || to_jsonb(v.outcome);
        IF v.outcome = 1 THEN
            v_told := v_told || jsonb_build_array(coalesce(v_unit->'events', '[]'));
            v_woken := v_woken || v.queue;
        ELSIF v.holder IS NOT NULL THEN
            v_taken := v_taken || jsonb_build_object(v_at, v.holder);
        ELSIF v.absent IS NOT NULL THEN
            v_missing := v_missing || jsonb_build_object(v_at, to_jsonb(v.absent));
        END IF;
        v_at := v_at + 1;
    END LOOP;
    PERFORM {schema}.tell_v1(v_told);
    v_woken := ARRAY(SELECT DISTINCT q FROM unnest(v_woken) q ORDER BY q);
    IF p_asked->>'notify' IS NOT NULL AND v_woken <> '{}' THEN
        -- One each: together they may be longer than a payload, and that would be an error.
        PERFORM pg_notify(p_asked->>'notify', E'\nqueue:' || q) FROM unnest(v_woken) q;
    END IF;
    RETURN jsonb_build_object('outcome', v_outcome, 'taken', v_taken, 'missing', v_missing,
                              'woken', to_jsonb(v_woken));
END $$;
