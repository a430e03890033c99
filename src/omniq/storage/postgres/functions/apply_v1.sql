-- A batch of units. Three ways in, so that what is many and plain costs least:
--   e_*      ends of running rows that carry a fence: one statement for all
--   i_*      new rows without parents and unique keys: one statement for all
--            (each field packed into one text, see unpack_v1; *_at: NULL = their order)
--   p_units  everything else, [[place in the batch, unit], ...], in order
-- Ends touch only their own row and those behind it, so they may go first; plain inserts may,
-- where no unit before them speaks of their ids (the caller sees to that).
-- p_told: events of the plain ones, [[place, [event, ...]], ...].
-- p_locks: rows to be locked first, by id, where p_units would lock them in another order.
CREATE OR REPLACE FUNCTION {schema}.apply_v1(
    p_now bigint,
    e_at integer[], e_id text, e_epoch text, e_claim text, e_to text, e_finished text,
    e_keep text, e_until text, e_offset text, e_length text, e_values bytea,
    i_at integer[], i_id text, i_queue text, i_lane text, i_name text, i_priority text,
    i_run text, i_created text, i_expires text, i_tags text, i_reply text, i_preview text,
    i_offset text, i_length text, i_bodies bytea,
    p_units jsonb, p_locks text[], p_told jsonb
) RETURNS text LANGUAGE plpgsql {settings} AS $$
DECLARE
    v_now   CONSTANT bigint := {schema}.now_v1(p_now);
    v_n     integer;
    v_kept  integer;
    v_want  integer;
    v_done  text[];
    v_known text[];
    v_before text[];
    v_tied  text[];
    v_woken text[];
    v_later text[];
    v_each  jsonb;
    v_unit  jsonb;
    v_at    integer;
    v_out   integer;
    v_ok    boolean;
    v       record;
    v_r     record;
    -- By their names in the batch: ends and new rows.
    v_id       text[];
    v_epoch    integer[];
    v_claim    text[];
    v_to       integer[];
    v_finished bigint[];
    v_keep     bigint[];
    v_until    bigint[];
    v_offset   integer[];
    v_length   integer[];
    v_queue    text[];
    v_lane     text[];
    v_name     text[];
    v_priority integer[];
    v_run      bigint[];
    v_created  bigint[];
    v_expires  bigint[];
    v_tags     text[];
    v_reply    text[];
    v_preview  text[];
    p {schema}.receipt_v1 := ROW('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', false,
                                 coalesce(p_told, '[]'))::{schema}.receipt_v1;
BEGIN
    IF p_locks IS NOT NULL THEN
        PERFORM FROM {schema}.task t WHERE t.id = ANY (p_locks) ORDER BY t.id || '' FOR NO KEY UPDATE;
    END IF;

    IF e_id IS NOT NULL THEN
        v_id := {schema}.unpack_v1(e_id);
        v_epoch := {schema}.unpack_v1(e_epoch)::integer[];
        v_claim := {schema}.unpack_v1(e_claim);
        v_to := {schema}.unpack_v1(e_to)::integer[];
        v_finished := {schema}.unpack_v1(e_finished)::bigint[];
        v_keep := {schema}.unpack_v1(e_keep)::bigint[];
        v_until := {schema}.unpack_v1(e_until)::bigint[];
        v_offset := {schema}.unpack_v1(e_offset)::integer[];
        v_length := {schema}.unpack_v1(e_length)::integer[];
        WITH e AS (
            SELECT e.id,
                CASE WHEN cardinality(v_epoch) = 1 THEN v_epoch[1] ELSE e.epoch END AS epoch,
                CASE WHEN cardinality(v_claim) = 1 THEN v_claim[1] ELSE e.claim END AS claim,
                CASE WHEN cardinality(v_to) = 1 THEN v_to[1] ELSE e.turn END AS turn,
                CASE WHEN cardinality(v_finished) = 1 THEN v_finished[1] ELSE e.finished_at END AS finished_at,
                CASE WHEN cardinality(v_keep) = 1 THEN v_keep[1] ELSE e.keep_until END AS keep_until,
                CASE WHEN cardinality(v_until) = 1 THEN v_until[1] ELSE e.until END AS until,
                substr(e_values, 1 + CASE WHEN cardinality(v_offset) = 1 THEN v_offset[1] ELSE e.start END,
                    CASE WHEN cardinality(v_length) = 1 THEN v_length[1] ELSE e.length END) AS value
            FROM unnest(v_id, v_epoch, v_claim, v_to, v_finished, v_keep, v_until, v_offset, v_length)
            AS e (id, epoch, claim, turn, finished_at, keep_until, until, start, length)
        ), moved AS (
            UPDATE {schema}.task t SET status = e.turn, claim = NULL, cancel = false, flags = 0,
                finished_at = e.finished_at, keep_until = e.keep_until
            FROM e WHERE t.id BETWEEN e.id AND e.id AND t.epoch = e.epoch AND t.claim = e.claim
                AND t.status + 0 = 50  -- the sum keeps it from the index of running rows
            RETURNING t.id, t.epoch, e.value, e.until, t.reply,
                t.waiting <> 0 OR t.uniq IS NOT NULL AS tied
        ), kept AS (
            INSERT INTO {schema}.result AS r (id, epoch, until, value)
            SELECT m.id, m.epoch, m.until, m.value FROM moved m WHERE m.value IS NOT NULL
            ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, until = excluded.until,
                value = excluded.value WHERE r.epoch <= excluded.epoch
            RETURNING r.id
        )
        SELECT count(*), count(m.value), (SELECT count(*) FROM kept),
               coalesce(array_agg(m.id) FILTER (WHERE m.tied), '{}'),
               coalesce(array_agg(DISTINCT m.reply) FILTER (WHERE m.reply IS NOT NULL), '{}'),
               CASE WHEN count(*) < cardinality(v_id) THEN coalesce(array_agg(m.id), '{}') END
        INTO v_n, v_want, v_kept, v_tied, p.inboxes, v_done FROM moved m;
        IF v_n < cardinality(v_id) THEN
            SELECT p.refused || jsonb_object_agg(coalesce(e_at[e.n], e.n - 1), 3) INTO p.refused
            FROM unnest(v_id) WITH ORDINALITY AS e (id, n) WHERE e.id <> ALL (v_done);
        END IF;
        IF v_kept < v_want THEN  -- results of later runs are there
            SELECT p.riders || jsonb_object_agg(coalesce(e_at[e.n], e.n - 1), 1) INTO p.riders
            FROM unnest(v_id) WITH ORDINALITY AS e (id, n)
            JOIN {schema}.task t ON t.id BETWEEN e.id AND e.id
            JOIN {schema}.result r ON r.id BETWEEN e.id AND e.id AND r.epoch > t.epoch
            WHERE NOT p.refused ? coalesce(e_at[e.n], e.n - 1)::text
                AND (CASE WHEN cardinality(v_length) = 1 THEN v_length[1] ELSE v_length[e.n] END) IS NOT NULL;
        END IF;
        p := {schema}.ended_v1(v_now, coalesce(v_done, v_id), v_tied, p);
    END IF;

    IF i_id IS NOT NULL THEN
        v_id := {schema}.unpack_v1(i_id);
        v_queue := {schema}.unpack_v1(i_queue);
        v_lane := {schema}.unpack_v1(i_lane);
        v_name := {schema}.unpack_v1(i_name);
        v_priority := {schema}.unpack_v1(i_priority)::integer[];
        v_run := {schema}.unpack_v1(i_run)::bigint[];
        v_created := {schema}.unpack_v1(i_created)::bigint[];
        v_expires := {schema}.unpack_v1(i_expires)::bigint[];
        v_tags := {schema}.unpack_v1(i_tags);
        v_reply := {schema}.unpack_v1(i_reply);
        v_preview := {schema}.unpack_v1(i_preview);
        v_offset := {schema}.unpack_v1(i_offset)::integer[];
        v_length := {schema}.unpack_v1(i_length)::integer[];
        -- Without ON CONFLICT, which costs a third more. A known id is met after a lost answer only.
        LOOP
            BEGIN
                WITH i AS (
                    SELECT i.id, i.tags,
                        CASE WHEN cardinality(v_queue) = 1 THEN v_queue[1] ELSE i.queue END AS queue,
                        CASE WHEN cardinality(v_lane) = 1 THEN v_lane[1] ELSE i.lane END AS lane,
                        CASE WHEN cardinality(v_name) = 1 THEN v_name[1] ELSE i.name END AS name,
                        CASE WHEN cardinality(v_priority) = 1 THEN v_priority[1] ELSE i.priority END AS priority,
                        CASE WHEN cardinality(v_run) = 1 THEN v_run[1] ELSE i.run_at END AS run_at,
                        CASE WHEN cardinality(v_created) = 1 THEN v_created[1] ELSE i.created_at END AS created_at,
                        CASE WHEN cardinality(v_expires) = 1 THEN v_expires[1] ELSE i.expires_at END AS expires_at,
                        CASE WHEN cardinality(v_reply) = 1 THEN v_reply[1] ELSE i.reply END AS reply,
                        coalesce(CASE WHEN cardinality(v_preview) = 1 THEN v_preview[1] ELSE i.preview END, '') AS preview,
                        substr(i_bodies, 1 + CASE WHEN cardinality(v_offset) = 1 THEN v_offset[1] ELSE i.start END,
                            CASE WHEN cardinality(v_length) = 1 THEN v_length[1] ELSE i.length END) AS body
                    FROM unnest(v_id, v_queue, v_lane, v_name, v_priority, v_run, v_created, v_expires,
                                v_tags, v_reply, v_preview, v_offset, v_length)
                    AS i (id, queue, lane, name, priority, run_at, created_at, expires_at, tags, reply,
                          preview, start, length)
                    WHERE v_known IS NULL OR i.id <> ALL (v_known)
                ), added AS (
                    INSERT INTO {schema}.task (id, queue, lane, name, status, priority, run_at, created_at,
                        expires_at, tags, reply, preview, body)
                    SELECT i.id, i.queue, i.lane, i.name, CASE WHEN i.run_at > v_now THEN 30 ELSE 40 END,
                        i.priority, i.run_at, i.created_at, i.expires_at,
                        CASE WHEN i.tags IS NOT NULL THEN {schema}.tags_v1(i.tags::jsonb) END,
                        i.reply, i.preview, i.body
                    FROM i RETURNING queue, status
                )
                SELECT coalesce(array_agg(DISTINCT a.queue) FILTER (WHERE a.status = 40), '{}'),
                       coalesce(array_agg(DISTINCT a.queue) FILTER (WHERE a.status = 30), '{}')
                INTO v_woken, v_later FROM added a;
                EXIT;
            EXCEPTION WHEN unique_violation THEN
                v_before := v_known;
                SELECT array_agg(t.id ORDER BY t.id) INTO v_known
                FROM {schema}.task t WHERE t.id = ANY (v_id);
                IF v_known IS NOT DISTINCT FROM v_before THEN
                    -- Too new for this transaction to see it, or gone already: a matter of once more.
                    RAISE 'a row of this id came between' USING ERRCODE = 'serialization_failure';
                END IF;
            END;
        END LOOP;
        p.woken := p.woken || v_woken;
        p.later := p.later || v_later;
        IF v_known IS NOT NULL THEN
            SELECT p.refused || jsonb_object_agg(coalesce(i_at[i.n], i.n - 1), 2) INTO p.refused
            FROM unnest(v_id) WITH ORDINALITY AS i (id, n) WHERE i.id = ANY (v_known);
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

-- Many values in one text, each behind a unit separator (U+001F); a record separator (U+001E)
-- stands for NULL. One value alone is that of all. Drivers take a text for a tenth of what they
-- take for an array.
CREATE OR REPLACE FUNCTION {schema}.unpack_v1(p_text text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT string_to_array(p_text, E'\x1f', E'\x1e')
$$;

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

-- One new row without parents and unique key, as a lone `enqueue` brings it: its status, or NULL
-- where its id is known.
CREATE OR REPLACE FUNCTION {schema}.add_v1(
    p_now bigint, p_id text, p_queue text, p_lane text, p_name text, p_priority integer,
    p_run bigint, p_created bigint, p_expires bigint, p_tags text, p_reply text, p_preview text,
    p_body bytea
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_status integer;
BEGIN
    INSERT INTO {schema}.task (id, queue, lane, name, status, priority, run_at, created_at,
        expires_at, tags, reply, preview, body)
    VALUES (p_id, p_queue, p_lane, p_name,
        CASE WHEN p_run > {schema}.now_v1(p_now) THEN 30 ELSE 40 END, p_priority, p_run, p_created,
        p_expires, CASE WHEN p_tags IS NOT NULL THEN {schema}.tags_v1(p_tags::jsonb) END,
        p_reply, p_preview, p_body)
    ON CONFLICT (id) DO NOTHING RETURNING status INTO v_status;
    RETURN v_status;
END $$;
