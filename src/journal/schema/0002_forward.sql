-- Of the transaction (tick, ord) so many pieces are applied, where not all of it is: 0 for all (§6.1).
ALTER TABLE pgcanon.progress ADD COLUMN part int4 NOT NULL DEFAULT 0;

-- Entry of its transaction that a piece in the queue is of: pieces of one entry may be applied together.
ALTER TABLE pgcanon.error_queue ADD COLUMN nr int4 NOT NULL DEFAULT 0;

-- It has been passed over, and waits for the operator; the others have not (on_error = "park").
ALTER TABLE pgcanon.error_queue ADD COLUMN parked bool NOT NULL DEFAULT false;

-- How every peer stands, as far as it must outlive the proxy. Up to (tick, ord) it has everything, or the queue has; the
-- highest ord is all of the tick.
CREATE TABLE pgcanon.peer (
    name text PRIMARY KEY,
    state text NOT NULL,
    paused bool NOT NULL DEFAULT false,
    tick int8 NOT NULL DEFAULT 0,
    ord int4 NOT NULL DEFAULT 2147483647,
    since timestamptz NOT NULL DEFAULT pg_catalog.now(),
    reason text
);

-- Pieces of other nodes' transactions that were applied behind their place, until those nodes know it (on_error = "park").
CREATE TABLE pgcanon.applied (
    origin text,
    tick int8,
    ord int4,
    seq int4,
    PRIMARY KEY (origin, tick, ord, seq)
);

-- What waits, for the operator.
CREATE VIEW pgcanon.sync_err_rec AS
    SELECT id, nsp_name, table_name, dst_server, dst_query, create_time, sqlstate, message, attempts, parked
    FROM pgcanon.error_queue ORDER BY id;
