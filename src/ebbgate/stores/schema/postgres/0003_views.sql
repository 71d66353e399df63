-- For people with psql: how full each limit is, and who takes its slots. Nothing here is used by the program, and
-- views are replaced, not made anew, so that whoever was allowed to read them still is.

-- `namespace_id` is what views are joined by: with it there is an index for each look-up, however small or new the
-- table, and the planner needs no statistics to find that out.
CREATE OR REPLACE VIEW records AS
SELECT n.name AS namespace, r.kind, r.id, r.version, replace(r.body::text, '\u0000', '?')::json AS body,
       r.namespace AS namespace_id
FROM record r JOIN namespace n ON n.id = r.namespace;

CREATE OR REPLACE VIEW sessions AS
SELECT namespace, id, body ->> 'host' AS host, (body ->> 'pid')::bigint AS pid, body -> 'labels' AS labels,
       (body ->> 'epoch')::bigint AS epoch, instant(body ->> 'away_us') AS away_since, namespace_id
FROM records WHERE kind = 'session';

CREATE OR REPLACE VIEW leases AS
SELECT r.namespace, r.id, r.body ->> 'state' AS state, r.body ->> 'why' AS why, r.body ->> 'kind' AS kind,
       r.body -> 'asked' AS asked, s.host, s.pid, r.body -> 'labels' AS labels,
       coalesce((r.body ->> 'priority')::bigint, 0) AS priority, (r.body ->> 'arrival')::bigint AS arrival,
       (r.body ->> 'token')::bigint AS token, instant(r.body ->> 'since_us') AS asked_at,
       instant(r.body ->> 'at_us') AS granted_at, instant(r.body ->> 'expires_us') AS expires_at,
       instant(r.body ->> 'ended_us') AS ended_at, r.body ->> 'session' AS session,
       r.body -> 'slots' AS slots, r.namespace_id
FROM records r LEFT JOIN sessions s ON s.namespace_id = r.namespace_id AND s.id = r.body ->> 'session'
WHERE r.kind = 'lease';

-- One row for each limit that a lease holds or waits for.
CREATE VIEW slots AS
SELECT l.namespace, n.body ->> 'name' AS "limit", (e.pair ->> 1)::bigint AS slots, l.state, l.id AS lease,
       l.host, l.pid, l.labels, l.priority, l.arrival, l.token, l.asked_at, l.granted_at, l.expires_at
FROM leases l
CROSS JOIN LATERAL json_array_elements(l.slots) e (pair)
JOIN records n ON n.namespace_id = l.namespace_id AND n.kind = 'limit' AND n.id = e.pair ->> 0
WHERE l.state <> 'ended';

-- The arithmetic of what is spent is that of core/decay.py.
CREATE OR REPLACE VIEW limits AS
SELECT r.namespace, r.body ->> 'name' AS name, (r.body ->> 'limit')::bigint AS "limit",
       (r.body ->> 'slot_decay_per_second')::double precision AS slot_decay_per_second,
       (r.body ->> 'active')::boolean AS active, r.body ->> 'description' AS description, r.id,
       instant(r.body ->> 'created_us') AS created_at, instant(r.body ->> 'updated_us') AS updated_at,
       coalesce(t.held, 0) AS held_slots,
       coalesce(ceil(greatest(
           ((m.body ->> 'empty_us')::numeric - clock_us()) * (m.body ->> 'numerator')::numeric
           + (m.body ->> 'rest')::numeric, 0
       ) / ((m.body ->> 'denominator')::numeric * 1000000)), 0)::bigint AS spent_slots,
       coalesce(t.waiting, 0) AS waiting,
       instant(r.body ->> 'cool_until_us') AS cools_until, nullif(r.body ->> 'cool_why', '') AS cool_why
FROM records r
LEFT JOIN records m ON m.namespace_id = r.namespace_id AND m.kind = 'meter' AND m.id = r.id
LEFT JOIN (
    SELECT l.namespace_id, e.pair ->> 0 AS limit_id,
           sum((e.pair ->> 1)::bigint) FILTER (WHERE l.body ->> 'state' = 'held')::bigint AS held,
           count(*) FILTER (WHERE l.body ->> 'state' = 'waiting') AS waiting
    FROM records l CROSS JOIN LATERAL json_array_elements(l.body -> 'slots') e (pair)
    WHERE l.kind = 'lease' GROUP BY l.namespace_id, e.pair ->> 0
) t ON t.namespace_id = r.namespace_id AND t.limit_id = r.id
WHERE r.kind = 'limit';

COMMENT ON VIEW limits IS 'every limit, and how full it is';
COMMENT ON VIEW slots IS 'who holds slots of which limit, and who waits for them';
COMMENT ON VIEW leases IS 'one acquisition each, from asking to ending; ended ones for a minute';
COMMENT ON VIEW waiters IS 'who waits, in the order of the line';
COMMENT ON VIEW sessions IS 'client processes';
COMMENT ON VIEW records IS 'every record as it is kept';
COMMENT ON TABLE log IS 'one row a commit: the version of a namespace, and its history';
COMMENT ON TABLE record IS 'for the program: see the view records';
COMMENT ON TABLE history_block IS 'what happened at each limit, step by step';
COMMENT ON TABLE history_span IS 'when which server saw everything, and wrote it down';
COMMENT ON TABLE namespace IS 'independent sets of limits';
COMMENT ON TABLE migration IS 'which steps this schema has seen';

INSERT INTO migration (number, works_from) VALUES (3, 1);
