-- Deleted rows whose deletion a late change must not undo (§8). The version of a deletion is that of the transaction that wrote
-- the row here; number is what stands in its place where the rule goes by a column. An empty key is the whole table.
DROP TABLE pgcanon.tombstone;

CREATE TABLE pgcanon.tombstone (
    nsp_name text NOT NULL,
    table_name text NOT NULL,
    key bytea NOT NULL,
    number int8,
    deleted timestamptz NOT NULL DEFAULT pg_catalog.now()
);

CREATE INDEX tombstone_key ON pgcanon.tombstone (table_name, key, nsp_name);

CREATE INDEX tombstone_deleted ON pgcanon.tombstone (deleted);

-- In the transactions of applications that delete, as the journal.
GRANT INSERT (nsp_name, table_name, key, number) ON pgcanon.tombstone TO PUBLIC;

-- Versions that have won here against others' changes: their nodes may not know them any more, and get them again.
CREATE TABLE pgcanon.echo (
    id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    head bytea NOT NULL,
    image bytea NOT NULL
);

-- Who wrote the row that was there, and when it and the other one were written. By the transaction they are counted, each once.
ALTER TABLE pgcanon.conflict
    ADD COLUMN xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    ADD COLUMN stored_origin text,
    ADD COLUMN stored_time timestamptz,
    ADD COLUMN incoming_time timestamptz;

CREATE INDEX conflict_xid ON pgcanon.conflict (xid);

-- Nodes are told apart by replication origins, which all databases of a server share: pgcanon:DATABASE:NODE.

-- How a version, told as time and origin, stands to that of a row here: 1 if it wins, 0 if it is the same, -1 if it loses. It
-- hangs on nothing but the two, so that all nodes come to the same end (§8).
CREATE FUNCTION pgcanon.rank(at timestamptz, origin text, row_xmin xid, node text, prefer text, resolve text) RETURNS int4
LANGUAGE plpgsql STABLE AS $$
DECLARE
    stored record;
    writer text := node;
BEGIN
    IF row_xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid THEN
        RETURN 1;
    END IF;
    SELECT v."timestamp", v.roident INTO stored FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v;
    -- Older than anything whose time is known.
    IF stored."timestamp" IS NULL THEN
        RETURN CASE resolve WHEN 'first' THEN -1 ELSE 1 END;
    END IF;
    IF stored.roident OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid THEN
        SELECT pg_catalog.substr(o.roname, pg_catalog.strpos(pg_catalog.substr(o.roname, 9), ':') OPERATOR(pg_catalog.+) 9)
        INTO writer FROM pg_catalog.pg_replication_origin AS o WHERE o.roident OPERATOR(pg_catalog.=) stored.roident;
    END IF;
    IF resolve OPERATOR(pg_catalog.=) 'node'
        AND (origin OPERATOR(pg_catalog.=) prefer) OPERATOR(pg_catalog.<>) (writer OPERATOR(pg_catalog.=) prefer)
    THEN
        RETURN CASE origin WHEN prefer THEN 1 ELSE -1 END;
    END IF;
    IF at OPERATOR(pg_catalog.<>) stored."timestamp" THEN
        RETURN CASE (at OPERATOR(pg_catalog.>) stored."timestamp") OPERATOR(pg_catalog.=) (resolve OPERATOR(pg_catalog.<>) 'first')
            WHEN true THEN 1 ELSE -1 END;
    END IF;
    RETURN CASE
        WHEN origin OPERATOR(pg_catalog.=) writer THEN 0
        WHEN origin OPERATOR(pg_catalog.=) prefer THEN 1
        WHEN writer OPERATOR(pg_catalog.=) prefer THEN -1
        WHEN origin OPERATOR(pg_catalog.<) writer COLLATE pg_catalog."C" THEN 1
        ELSE -1
    END;
END $$;

-- Time and origin of a row here.
CREATE FUNCTION pgcanon.version(row_xmin xid, node text, OUT at timestamptz, OUT origin text)
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(v."timestamp", '-infinity'),
        COALESCE(pg_catalog.substr(o.roname, pg_catalog.strpos(pg_catalog.substr(o.roname, 9), ':') OPERATOR(pg_catalog.+) 9), node)
    FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v
    LEFT JOIN pg_catalog.pg_replication_origin AS o ON o.roident OPERATOR(pg_catalog.=) v.roident
$$;
