-- What happened at each limit, step by step, for people; no decision reads it. Older releases work beside it.

-- Blocks are put together out of parts that servers append; where a row grows it is to stay on its page.
CREATE TABLE history_block (
    namespace  integer  NOT NULL,
    resolution smallint NOT NULL,  -- 0: steps of 10 seconds, 1: of a minute
    number     bigint   NOT NULL,  -- microseconds since 1970, divided by the length of a block
    limit_id   text     COLLATE "C" NOT NULL,
    text       text     NOT NULL,  -- JSON arrays, each followed by a comma
    PRIMARY KEY (namespace, resolution, number, limit_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);

-- When which server saw everything, and wrote it.
CREATE TABLE history_span (
    namespace integer NOT NULL,
    writer    text    COLLATE "C" NOT NULL,
    began_us  bigint  NOT NULL,
    ended_us  bigint  NOT NULL,
    PRIMARY KEY (namespace, writer)
);

INSERT INTO migration (number, works_from) VALUES (2, 1);
