-- The tables of all namespaces in one schema of a PostgreSQL database. Applied in one transaction, with this schema
-- as the search path, by stores/postgres_schema.py. No rule lives here: Python decides, these tables keep.
-- Instants are microseconds since 1970, by the clock of the database server.

-- What was applied. A release works with every schema whose newest row says so: several servers are upgraded
-- one after the other.
CREATE TABLE migration (
    number     integer     PRIMARY KEY,
    works_from integer     NOT NULL,  -- releases that know this migration or a later one may use the schema
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Independent sets of limits.
CREATE TABLE namespace (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text    COLLATE "C" NOT NULL UNIQUE
);

-- One row a commit. The newest row of a namespace is its version and head; all of them are what other servers take
-- in and what people see as history. The oldest are dropped by count. Only ever added to and cut at its end.
CREATE TABLE log (
    namespace  integer NOT NULL,
    version    bigint  NOT NULL,  -- rises by one a commit
    tag        text    COLLATE "C" NOT NULL,  -- random: tells this commit from any other of the same number
    instant_us bigint  NOT NULL,  -- these three are the head: what the next decision builds on
    token      bigint  NOT NULL,
    arrival    bigint  NOT NULL,
    rows       json    NOT NULL,  -- [[kind, ...], [id, ...], [whether it is kept, ...], [record or null, ...]]
    PRIMARY KEY (namespace, version)
) WITH (autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- Every live record as it is now. Pages are left half empty, so that a record that changes stays on its page and
-- its index entry stays as it is.
CREATE TABLE record (
    namespace integer NOT NULL,
    kind      text    COLLATE "C" NOT NULL,  -- limit, meter, session, lease or request
    id        text    COLLATE "C" NOT NULL,
    version   bigint  NOT NULL,  -- the commit that wrote it
    body      json    NOT NULL,  -- with the field names of core/model.py; a lease leaves out what says nothing
    PRIMARY KEY (namespace, kind, id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

CREATE FUNCTION clock_us() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Both functions below plan for tables that grow: the first plan, made for an empty table, would read all of it
-- ever after.

-- What was committed after the version `base_`, oldest first, after a row for `base_` itself that has no rows.
-- Nothing at all: `base_` is not in the log.
CREATE FUNCTION read_changes(namespace_ integer, base_ bigint, tag_ text, most_ integer)
RETURNS TABLE (now_us bigint, version bigint, tag text, instant_us bigint, token bigint, arrival bigint, rows json)
LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
BEGIN
    PERFORM FROM log b WHERE b.namespace = namespace_ AND b.version = base_ AND b.tag = tag_;
    IF FOUND THEN
        RETURN QUERY
            SELECT clock_us(), l.version, l.tag, l.instant_us, l.token, l.arrival,
                   CASE WHEN l.version > base_ THEN l.rows END
            FROM log l WHERE l.namespace = namespace_ AND l.version >= base_
            ORDER BY l.version LIMIT most_ + 1;
    END IF;
END $$;

-- One commit: if the newest version is `base_` with `base_tag_`, all rows are written, else none.
-- Returns one row with only the clock when it was made; else the clock, and what `read_changes` returns, if anything.
-- Those who commit at the same time wait for each other in the order in which they came. That lock is a courtesy:
-- the key of the log decides. Records are never looked into: `->` stumbles over a \u0000 anywhere in them.
CREATE FUNCTION write_commit(
    namespace_ integer, lock_ bigint, base_ bigint, base_tag_ text, tag_ text,
    instant_us_ bigint, token_ bigint, arrival_ bigint, rows_ json, keep_ bigint, channel_ text, most_ integer
)
RETURNS TABLE (
    made boolean, now_us bigint, version bigint, tag text, instant_us bigint, token bigint, arrival bigint, rows json
)
LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
SET lock_timeout = '8s'
AS $$
DECLARE
    number_ bigint := base_ + 1;
    parts_  json[];
    kind_   text;
    id_     text;
BEGIN
    PERFORM pg_advisory_xact_lock(lock_);
    INSERT INTO log AS l
        SELECT namespace_, number_, tag_, instant_us_, token_, arrival_, rows_
        FROM log b WHERE b.namespace = namespace_ AND b.version = base_ AND b.tag = base_tag_
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, c.* FROM read_changes(namespace_, base_, base_tag_, most_) c;
        RETURN;
    END IF;
    parts_ := ARRAY(SELECT json_array_elements(rows_));
    INSERT INTO record AS r
        SELECT namespace_, u.kind, u.id, number_, u.body
        FROM ROWS FROM (
            json_array_elements_text(parts_[1]), json_array_elements_text(parts_[2]),
            json_array_elements_text(parts_[3]), json_array_elements(parts_[4])
        ) u (kind, id, keep, body)
        WHERE u.keep = 'true'
        ON CONFLICT ON CONSTRAINT record_pkey DO UPDATE SET version = excluded.version, body = excluded.body;
    FOR kind_, id_ IN
        SELECT u.kind, u.id
        FROM ROWS FROM (
            json_array_elements_text(parts_[1]), json_array_elements_text(parts_[2]), json_array_elements_text(parts_[3])
        ) u (kind, id, keep)
        WHERE u.keep = 'false'
    LOOP
        DELETE FROM record r WHERE r.namespace = namespace_ AND r.kind = kind_ AND r.id = id_;
    END LOOP;
    IF number_ % 256 = 0 THEN
        DELETE FROM log l WHERE l.namespace = namespace_ AND l.version < number_ - keep_;
    END IF;
    PERFORM pg_notify(channel_, number_::text);
    RETURN QUERY SELECT true, clock_us(), number_, tag_, NULL::bigint, NULL::bigint, NULL::bigint, NULL::json;
END $$;

-- For people with psql: nothing below is used by the program.
CREATE FUNCTION instant(us text) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN us::bigint >= 0 THEN to_timestamp(us::bigint / 1000000.0) END $$;

CREATE VIEW records AS
SELECT n.name AS namespace, r.kind, r.id, r.version, replace(r.body::text, '\u0000', '?')::json AS body
FROM record r JOIN namespace n ON n.id = r.namespace;

CREATE VIEW limits AS
SELECT namespace, body ->> 'name' AS name, (body ->> 'limit')::bigint AS "limit",
       (body ->> 'slot_decay_per_second')::double precision AS slot_decay_per_second,
       (body ->> 'active')::boolean AS active, body ->> 'description' AS description, id,
       instant(body ->> 'created_us') AS created_at, instant(body ->> 'updated_us') AS updated_at
FROM records WHERE kind = 'limit';

CREATE VIEW sessions AS
SELECT namespace, id, body ->> 'host' AS host, (body ->> 'pid')::bigint AS pid, body -> 'labels' AS labels,
       (body ->> 'epoch')::bigint AS epoch, instant(body ->> 'away_us') AS away_since
FROM records WHERE kind = 'session';

CREATE VIEW leases AS
SELECT r.namespace, r.id, r.body ->> 'state' AS state, r.body ->> 'why' AS why, r.body ->> 'kind' AS kind,
       r.body -> 'asked' AS asked, s.host, s.pid, r.body -> 'labels' AS labels,
       coalesce((r.body ->> 'priority')::bigint, 0) AS priority, (r.body ->> 'arrival')::bigint AS arrival,
       (r.body ->> 'token')::bigint AS token, instant(r.body ->> 'since_us') AS asked_at,
       instant(r.body ->> 'at_us') AS granted_at, instant(r.body ->> 'expires_us') AS expires_at,
       instant(r.body ->> 'ended_us') AS ended_at, r.body ->> 'session' AS session
FROM records r LEFT JOIN sessions s ON s.namespace = r.namespace AND s.id = r.body ->> 'session'
WHERE r.kind = 'lease';

CREATE VIEW waiters AS
SELECT namespace, id, priority, arrival, asked, host, pid, labels, asked_at, session
FROM leases WHERE state = 'waiting' ORDER BY namespace, priority DESC, arrival;

INSERT INTO migration (number, works_from) VALUES (1, 1);
