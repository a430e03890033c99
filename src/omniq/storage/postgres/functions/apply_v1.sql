-- A batch of units. Three ways in, so that what is many and plain costs least:
--   e_*      ends of running rows that carry a fence: one statement for all
--   i_*      new rows without parents and unique keys: one statement for all
--   p_units  everything else, [[place in the batch, unit], ...], in order
-- Ends touch only their own row and those behind it, so they may go first; plain inserts may,
-- where no unit before them speaks of their ids (the caller sees to that).
-- p_told: events of the plain ones, [[place, [event, ...]], ...].
-- p_locks: rows to be locked first, by id, where p_units would lock them in another order.
CREATE OR REPLACE FUNCTION {schema}.apply_v1(
    p_now bigint,
    e_at integer[], e_id text[], e_epoch integer[], e_claim text[], e_to integer[],
    e_finished bigint[], e_keep bigint[], e_value bytea[], e_until bigint[],
    i_at integer[], i_id text[], i_queue text[], i_lane text[], i_name text[],
    i_priority integer[], i_run bigint[], i_created bigint[], i_expires bigint[],
    i_tags text[], i_reply text[], i_preview text[], i_body bytea[],
    p_units jsonb, p_locks text[], p_told jsonb
) RETURNS text LANGUAGE plpgsql {settings} AS $$
DECLARE
    v_now   CONSTANT bigint := {schema}.now_v1(p_now);
    v_n     integer;
    v_kept  integer;
    v_want  integer;
    v_done  text[];
    v_tied  text[];
    v_each  jsonb;
    v_unit  jsonb;
    v_at    integer;
    v_out   integer;
    v_ok    boolean;
    v       record;
    v_r     record;
    p {schema}.receipt_v1 := ROW('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', false,
                                 coalesce(p_told, '[]'))::{schema}.receipt_v1;
BEGIN
    IF p_locks IS NOT NULL THEN
        PERFORM FROM {schema}.task t WHERE t.id = ANY (p_locks) ORDER BY t.id FOR NO KEY UPDATE;
    END IF;

    IF e_id IS NOT NULL THEN
        WITH e AS (
            SELECT * FROM unnest(e_id, e_epoch, e_claim, e_to, e_finished, e_keep, e_value, e_until)
            AS e (id, epoch, claim, turn, finished_at, keep_until, value, until)
        ), moved AS (
            UPDATE {schema}.task t SET status = e.turn, claim = NULL, cancel = false, flags = 0,
                finished_at = e.finished_at, keep_until = e.keep_until
            FROM e WHERE t.id = e.id AND t.epoch = e.epoch AND t.claim = e.claim
                AND t.status + 0 = 50  -- the sum keeps it from the index of running rows
            RETURNING t.id, t.epoch, e.value, e.until, t.reply,
                t.waiting <> 0 OR t.uniq IS NOT NULL AS tied
        ), kept AS (
            INSERT INTO {schema}.result AS r (id, epoch, until, value)
            SELECT m.id, m.epoch, m.until, m.value FROM moved m WHERE m.value IS NOT NULL
            ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, until = excluded.until,
                value = excluded.value WHERE r.epoch <= excluded.epoch
            RETURNING 1
        )
        SELECT count(*), count(m.value), (SELECT count(*) FROM kept),
               coalesce(array_agg(m.id) FILTER (WHERE m.tied), '{}'),
               coalesce(array_agg(DISTINCT m.reply) FILTER (WHERE m.reply IS NOT NULL), '{}'),
               CASE WHEN count(*) < cardinality(e_id) THEN array_agg(m.id) END
        INTO v_n, v_want, v_kept, v_tied, p.inboxes, v_done FROM moved m;
        IF v_n < cardinality(e_id) THEN
            SELECT p.refused || jsonb_object_agg(e.at, 3) INTO p.refused FROM unnest(e_at, e_id) e (at, id)
            WHERE v_done IS NULL OR e.id <> ALL (v_done);
        END IF;
        IF v_kept < v_want THEN
            SELECT p.riders || jsonb_object_agg(e.at, 1) INTO p.riders
            FROM unnest(e_at, e_id, e_epoch, e_value) e (at, id, epoch, value)
            JOIN {schema}.result r ON r.id = e.id AND r.epoch > e.epoch
            WHERE e.value IS NOT NULL AND NOT p.refused ? e.at::text;
        END IF;
        p := {schema}.ended_v1(v_now, coalesce(v_done, e_id), v_tied, p);
    END IF;

    IF i_id IS NOT NULL THEN
        WITH added AS (
            INSERT INTO {schema}.task (id, queue, lane, name, status, priority, run_at, created_at,
                expires_at, tags, reply, preview, body)
            SELECT i.id, i.queue, i.lane, i.name, CASE WHEN i.run_at > v_now THEN 30 ELSE 40 END,
                i.priority, i.run_at, i.created_at, i.expires_at,
                CASE WHEN i.tags IS NOT NULL THEN {schema}.tags_v1(i.tags::jsonb) END,
                i.reply, i.preview, i.body
            FROM unnest(i_id, i_queue, i_lane, i_name, i_priority, i_run, i_created, i_expires,
                        i_tags, i_reply, i_preview, i_body)
            AS i (id, queue, lane, name, priority, run_at, created_at, expires_at, tags, reply, preview, body)
            ON CONFLICT (id) DO NOTHING RETURNING id, queue, status
        )
        SELECT count(*), coalesce(array_agg(DISTINCT a.queue) FILTER (WHERE a.status = 40), '{}'),
               coalesce(array_agg(DISTINCT a.queue) FILTER (WHERE a.status = 30), '{}'),
               CASE WHEN count(*) < cardinality(i_id) THEN array_agg(a.id) END
        INTO v_n, p.woken, p.later, v_done FROM added a;
        IF v_n < cardinality(i_id) THEN  -- some ids are known
            SELECT p.refused || jsonb_object_agg(i.at, 2) INTO p.refused FROM unnest(i_at, i_id) i (at, id)
            WHERE v_done IS NULL OR i.id <> ALL (v_done);
        END IF;
    END IF;

    IF p.refused <> '{}' AND p_told IS NOT NULL THEN
        p.told := coalesce((SELECT jsonb_agg(t) FROM jsonb_array_elements(p.told) t
                            WHERE NOT p.refused ? (t->>0)), '[]');
    END IF;

    IF p_units IS NOT NULL THEN
        FOR v_each IN SELECT u FROM jsonb_array_elements(p_units) AS e (u) LOOP
            v_at := (v_each->>0)::integer;
            v_unit := v_each->1;
            CASE v_unit->>'type'
            WHEN 'move' THEN
                SELECT * INTO v_r FROM {schema}.move_v1(v_now, v_at, v_unit, p);
                p := v_r.p;
                v_out := v_r.outcome;
            WHEN 'insert' THEN
                SELECT * INTO v FROM {schema}.insert_one_v1(v_now, v_unit, true);
                v_out := v.outcome;
                IF v_out = 1 THEN
                    p := {schema}.added_v1(p, v_at, v.queue, v.status, v.stranded, v_unit);
                ELSIF v.holder IS NOT NULL THEN
                    p.taken := p.taken || jsonb_build_object(v_at, v.holder);
                ELSIF v.absent IS NOT NULL THEN
                    p.missing := p.missing || jsonb_build_object(v_at, to_jsonb(v.absent));
                END IF;
            WHEN 'doc' THEN
                SELECT * INTO v_r FROM {schema}.put_doc_v1(v_now, v_at, v_unit, p);
                p := v_r.p;
                v_ok := v_r.applied;
                v_n := v_r.refused;
                v_out := CASE WHEN v_ok THEN 1 ELSE 3 END;
                IF v_n > 0 THEN
                    p.riders := p.riders || jsonb_build_object(v_at, v_n);
                END IF;
            WHEN 'result' THEN
                v_out := CASE WHEN {schema}.put_result_v1(
                    v_unit->>'id', (v_unit->>'epoch')::integer, (v_unit->>'until')::bigint,
                    decode(v_unit->>'value', 'base64')) THEN 1 ELSE 3 END;
            ELSE
                v_out := 1;
                p.told := p.told || jsonb_build_array(jsonb_build_array(v_at, v_unit->'events'));
            END CASE;
            IF v_out <> 1 THEN
                p.refused := p.refused || jsonb_build_object(v_at, v_out);
            END IF;
        END LOOP;
    END IF;

    IF p.told <> '[]' THEN
        PERFORM {schema}.tell_v1((SELECT jsonb_agg(t.told->1 ORDER BY (t.told->>0)::integer, t.n)
            FROM jsonb_array_elements(p.told) WITH ORDINALITY AS t (told, n)));
    END IF;
    RETURN {schema}.answer_v1(p);
END $$;

-- What is empty is left out.
CREATE OR REPLACE FUNCTION {schema}.answer_v1(p {schema}.receipt_v1) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'refused', nullif(p.refused, '{}'), 'taken', nullif(p.taken, '{}'),
        'missing', nullif(p.missing, '{}'), 'riders', nullif(p.riders, '{}'),
        'woken', nullif(p.woken, '{}'), 'later', nullif(p.later, '{}'),
        'stranded', nullif(p.stranded, '{}'), 'inboxes', nullif(p.inboxes, '{}'),
        'owners', nullif(p.owners, '{}'), 'kinds', nullif(p.kinds, '{}'),
        'unreleased', nullif(p.unreleased, false), 'told', nullif(p.told <> '[]', false)
    ))::text;
END $$;
