-- The tables of one namespace in one SQLite file. Applied in one transaction by stores/sqlite_schema.py.
-- No rule lives here: Python decides, these tables keep. Instants are microseconds since 1970, by the store's clock.

-- One row a commit. The newest row is the store's version and head; all of them are what others take in and
-- what people see as history. The oldest are dropped by count.
CREATE TABLE log (
    version    INTEGER PRIMARY KEY,  -- rises by one a commit
    tag        TEXT    NOT NULL,     -- random: tells this commit from any other of the same number
    instant_us INTEGER NOT NULL,     -- these three are the head: what the next decision builds on
    token      INTEGER NOT NULL,
    arrival    INTEGER NOT NULL,
    rows       TEXT    NOT NULL      -- JSON: [[kind, id, whether it is kept, the record or null], ...]
) STRICT;

INSERT INTO log VALUES (0, '', 0, 0, 0, '[]');

-- Every live record as it is now.
CREATE TABLE record (
    kind    TEXT    NOT NULL,  -- limit, meter, session, lease or request
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL,  -- the commit that wrote it
    body    TEXT    NOT NULL,  -- JSON, with the field names of core/model.py; a lease leaves out what says nothing
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- Every boot of the machine that used this file. The newest row anchors the store's clock: its time is
-- wall_us + (the machine's monotonic clock - monotonic_us).
CREATE TABLE boot (
    number       INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,  -- as the kernel names it
    wall_us      INTEGER NOT NULL,
    monotonic_us INTEGER NOT NULL,
    version      INTEGER NOT NULL          -- the commit that began it; 0: the file was new
) STRICT;

-- For people with a shell: nothing below is used by the program.
CREATE VIEW limits AS
SELECT body ->> '$.name' AS name, body ->> '$.limit' AS "limit",
       body ->> '$.slot_decay_per_second' AS slot_decay_per_second, body ->> '$.active' AS active,
       body ->> '$.description' AS description, id
FROM record WHERE kind = 'limit';

CREATE VIEW leases AS
SELECT id, body ->> '$.state' AS state, coalesce(body ->> '$.why', '') AS why, body ->> '$.kind' AS kind,
       body ->> '$.asked' AS asked, body ->> '$.session' AS session, coalesce(body ->> '$.labels', '{}') AS labels,
       body ->> '$.token' AS token,
       strftime('%FT%TZ', (body ->> '$.since_us') / 1000000, 'unixepoch') AS asked_at,
       iif(body ->> '$.at_us' < 0, NULL, strftime('%FT%TZ', (body ->> '$.at_us') / 1000000, 'unixepoch')) AS granted_at,
       iif(body ->> '$.expires_us' < 0, NULL,
           strftime('%FT%TZ', (body ->> '$.expires_us') / 1000000, 'unixepoch')) AS expires_at
FROM record WHERE kind = 'lease';

CREATE VIEW waiters AS
SELECT id, coalesce(body ->> '$.priority', 0) AS priority, body ->> '$.arrival' AS arrival, body ->> '$.asked' AS asked,
       body ->> '$.session' AS session, coalesce(body ->> '$.labels', '{}') AS labels,
       strftime('%FT%TZ', (body ->> '$.since_us') / 1000000, 'unixepoch') AS asked_at
FROM record WHERE kind = 'lease' AND body ->> '$.state' = 'waiting'
ORDER BY priority DESC, arrival;

CREATE VIEW sessions AS
SELECT id, body ->> '$.host' AS host, body ->> '$.pid' AS pid, coalesce(body ->> '$.labels', '{}') AS labels,
       body ->> '$.epoch' AS epoch,
       iif(body ->> '$.away_us' < 0, NULL, strftime('%FT%TZ', (body ->> '$.away_us') / 1000000, 'unixepoch')) AS away_since
FROM record WHERE kind = 'session';
