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

-- Transaction that a piece in the queue is of.
ALTER TABLE pgcanon.error_queue ADD COLUMN xid int8 NOT NULL DEFAULT 0;

-- Other nodes' transactions that were applied before their turn, until that has come (delivery = "atomic").
CREATE TABLE pgcanon.early (
    origin text,
    xid int8,
    PRIMARY KEY (origin, xid)
);

-- What the transaction that asks has in the journal: an application's session may not read anything else of it.
CREATE FUNCTION pgcanon.own_changes() RETURNS TABLE (xid text, meta bytea, data bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT xid::text, meta, data FROM pgcanon.journal WHERE xid = pg_current_xact_id_if_assigned() ORDER BY lsn, slot, ctid
$$;

-- What the transaction that asks may hang on: this node's transactions that are in no tick yet, the last tick (without a number of
-- a transaction and a name), and how far this node has others' changes.
CREATE FUNCTION pgcanon.before_own_changes()
RETURNS TABLE (xid text, origin text, system int8, timeline int4, tick int8, ord int4)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    WITH last AS (SELECT id, snapshot FROM pgcanon.tick ORDER BY id DESC LIMIT 1)
    SELECT DISTINCT j.xid::text, NULL::text, 0::int8, 0, 0::int8, 0
    FROM pgcanon.journal AS j, (SELECT COALESCE((SELECT snapshot FROM last), '1:1:') AS snapshot) AS last
    WHERE j.xid >= pg_snapshot_xmin(last.snapshot) AND NOT pg_visible_in_snapshot(j.xid, last.snapshot)
        AND j.xid IS DISTINCT FROM pg_current_xact_id_if_assigned()
    UNION ALL
    SELECT NULL, NULL, 0, 0, id, 0 FROM last
    UNION ALL
    SELECT NULL, origin, system, timeline, tick, ord FROM pgcanon.progress
$$;

-- What the peer had for good when it was asked last: one that has less now was set back, and needs again what it has lost.
ALTER TABLE pgcanon.peer
    ADD COLUMN had_tick int8 NOT NULL DEFAULT 0,
    ADD COLUMN had_ord int4 NOT NULL DEFAULT 0,
    ADD COLUMN had_part int4 NOT NULL DEFAULT 0;
