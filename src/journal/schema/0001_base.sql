-- The changes of this node, in the transactions that made them (§5). Applications write slot, meta and data alone: what
-- gives a row its place in the order comes from the server.
CREATE TABLE pgcanon.journal (
    slot int2 NOT NULL,
    pid int4 NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
    xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    lsn pg_lsn NOT NULL DEFAULT pg_catalog.pg_current_wal_insert_lsn(),
    meta bytea NOT NULL,
    data bytea NOT NULL
) PARTITION BY LIST (slot);

-- Emptied by TRUNCATE in turn: there is nothing to vacuum, and whoever empties one must not wait for a vacuum.
CREATE TABLE pgcanon.journal_0 PARTITION OF pgcanon.journal (slot DEFAULT 0) FOR VALUES IN (0)
    WITH (autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_threshold = 2147483647);

CREATE TABLE pgcanon.journal_1 PARTITION OF pgcanon.journal (slot DEFAULT 1) FOR VALUES IN (1)
    WITH (autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_threshold = 2147483647);

CREATE TABLE pgcanon.journal_2 PARTITION OF pgcanon.journal (slot DEFAULT 2) FOR VALUES IN (2)
    WITH (autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_threshold = 2147483647);

CREATE INDEX journal_xid ON pgcanon.journal (xid);

-- Cuts through the journal: what is visible in a snapshot and not in the one before.
CREATE TABLE pgcanon.tick (
    id int8 PRIMARY KEY,
    system int8 NOT NULL,
    timeline int4 NOT NULL,
    snapshot pg_snapshot NOT NULL,
    deps jsonb NOT NULL DEFAULT '{}',
    created timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- How far this node has applied every other node's changes; written in the transaction that applies them (I3).
CREATE TABLE pgcanon.progress (
    origin text PRIMARY KEY,
    system int8 NOT NULL,
    timeline int4 NOT NULL,
    tick int8 NOT NULL,
    ord int4 NOT NULL,
    updated timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (fillfactor = 10);

-- What waits for a peer that cannot take it, in order (§6.1).
CREATE TABLE pgcanon.error_queue (
    id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    nsp_name text,
    table_name text,
    dst_server text NOT NULL,
    dst_query text,
    create_time timestamptz NOT NULL DEFAULT pg_catalog.now(),
    sqlstate text,
    message text,
    attempts int4 NOT NULL DEFAULT 0,
    tick int8 NOT NULL,
    ord int4 NOT NULL,
    seq int4 NOT NULL DEFAULT 0,
    entry bytea NOT NULL
);

CREATE UNIQUE INDEX error_queue_order ON pgcanon.error_queue (dst_server, tick, ord, seq);

-- Deleted rows whose deletion a late change must not undo (§8).
CREATE TABLE pgcanon.tombstone (
    nsp_name text NOT NULL,
    table_name text NOT NULL,
    key bytea NOT NULL,
    origin text NOT NULL,
    tick int8 NOT NULL,
    deleted timestamptz NOT NULL,
    PRIMARY KEY (nsp_name, table_name, key)
);

CREATE INDEX tombstone_deleted ON pgcanon.tombstone (deleted);

-- Decisions about conflicts, with both rows (§8).
CREATE TABLE pgcanon.conflict (
    id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decided timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    origin text NOT NULL,
    tick int8 NOT NULL,
    ord int4 NOT NULL,
    nsp_name text NOT NULL,
    table_name text NOT NULL,
    key jsonb,
    kind text NOT NULL,
    decision text NOT NULL,
    stored jsonb,
    incoming jsonb
);

CREATE INDEX conflict_decided ON pgcanon.conflict (decided);

CREATE TABLE pgcanon.meta (
    key text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE pgcanon.migration (
    version int4 PRIMARY KEY,
    name text NOT NULL,
    applied timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- The key of a cluster that has no cluster_key_file is made here, so that it is never shown.
INSERT INTO pgcanon.meta (key, value) VALUES
    ('slot', '0'),
    ('cluster_key', pg_catalog.encode(pg_catalog.sha256(
        pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) || pg_catalog.uuid_send(pg_catalog.gen_random_uuid())), 'hex'));

GRANT USAGE ON SCHEMA pgcanon TO PUBLIC;

GRANT INSERT (slot, meta, data) ON pgcanon.journal, pgcanon.journal_0, pgcanon.journal_1, pgcanon.journal_2 TO PUBLIC;
