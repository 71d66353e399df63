-- How far the clock of the database server is ahead of the time that decisions use: 0 until it steps while a server of
-- ebbgate runs. A server that starts continues that time. Older releases work with this schema but follow the steps.
ALTER TABLE namespace ADD COLUMN IF NOT EXISTS behind_us bigint NOT NULL DEFAULT 0;

-- As in 0003, with the time that decisions use.
CREATE OR REPLACE VIEW limits AS
SELECT r.namespace, r.body ->> 'name' AS name, (r.body ->> 'limit')::bigint AS "limit",
       (r.body ->> 'slot_decay_per_second')::double precision AS slot_decay_per_second,
       (r.body ->> 'active')::boolean AS active, r.body ->> 'description' AS description, r.id,
       instant(r.body ->> 'created_us') AS created_at, instant(r.body ->> 'updated_us') AS updated_at,
       coalesce(t.held, 0) AS held_slots,
       coalesce(ceil(greatest(
           ((m.body ->> 'empty_us')::numeric - clock_us() + n.behind_us) * (m.body ->> 'numerator')::numeric
           + (m.body ->> 'rest')::numeric, 0
       ) / ((m.body ->> 'denominator')::numeric * 1000000)), 0)::bigint AS spent_slots,
       coalesce(t.waiting, 0) AS waiting,
       instant(r.body ->> 'cool_until_us') AS cools_until, nullif(r.body ->> 'cool_why', '') AS cool_why
FROM records r
JOIN namespace n ON n.id = r.namespace_id
LEFT JOIN records m ON m.namespace_id = r.namespace_id AND m.kind = 'meter' AND m.id = r.id
LEFT JOIN (
    SELECT l.namespace_id, e.pair ->> 0 AS limit_id,
           sum((e.pair ->> 1)::bigint) FILTER (WHERE l.body ->> 'state' = 'held')::bigint AS held,
           count(*) FILTER (WHERE l.body ->> 'state' = 'waiting') AS waiting
    FROM records l CROSS JOIN LATERAL json_array_elements(l.body -> 'slots') e (pair)
    WHERE l.kind = 'lease' GROUP BY l.namespace_id, e.pair ->> 0
) t ON t.namespace_id = r.namespace_id AND t.limit_id = r.id
WHERE r.kind = 'limit';

INSERT INTO migration (number, works_from) VALUES (4, 1);
