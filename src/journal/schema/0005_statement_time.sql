-- When the statements of a transaction began that wrote where conflicts go by that time (§8): the last of them is the time of all
-- that the transaction did, here and on the peers, in place of that of its commit. A row's xmin may be that of a subtransaction,
-- which has nothing in common with its transaction but the time of the commit; that is filled in afterwards.
CREATE TABLE pgcanon.statement_time (
    xid xid NOT NULL DEFAULT pg_catalog.pg_current_xact_id()::pg_catalog.xid,
    at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    committed timestamptz,
    given bool
);

CREATE INDEX statement_time_xid ON pgcanon.statement_time USING hash (xid);

CREATE INDEX statement_time_committed ON pgcanon.statement_time (committed);

CREATE INDEX statement_time_at ON pgcanon.statement_time (at);

-- In the transactions of applications, which choose neither the transaction nor the time: who may insert may give some column,
-- and this one says nothing.
GRANT INSERT (given) ON pgcanon.statement_time TO PUBLIC;

-- As of when a transaction counts. Whoever waited for a row sees what its writer said only by a snapshot of this moment.
CREATE FUNCTION pgcanon.time_of(row_xmin xid, commit_time timestamptz) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    said timestamptz := (SELECT pg_catalog.max(s.at) FROM pgcanon.statement_time AS s
        WHERE s.xid OPERATOR(pg_catalog.=) row_xmin);
BEGIN
    IF said IS NULL THEN
        said := (SELECT pg_catalog.max(s.at) FROM pgcanon.statement_time AS s
            WHERE s.committed OPERATOR(pg_catalog.=) commit_time
                OR s.committed IS NULL AND pg_catalog.pg_xact_commit_timestamp(s.xid) OPERATOR(pg_catalog.=) commit_time);
    END IF;
    RETURN COALESCE(said, commit_time);
END $$;

-- Both as before, but that what was written here counts as of then.

CREATE OR REPLACE FUNCTION pgcanon.rank(at timestamptz, origin text, row_xmin xid, node text, prefer text, resolve text)
RETURNS int4 LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    stored record;
    writer text := node;
BEGIN
    IF row_xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid THEN
        RETURN 1;
    END IF;
    SELECT v."timestamp" AS at, v.roident INTO stored
    FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v;
    IF stored.roident OPERATOR(pg_catalog.=) '0'::pg_catalog.oid THEN
        stored.at := pgcanon.time_of(row_xmin, stored.at);
    ELSE
        writer := COALESCE((SELECT pg_catalog.split_part(pg_catalog.split_part(o.roname, ':', 3), '/', 1)
            FROM pg_catalog.pg_replication_origin AS o
            WHERE o.roident OPERATOR(pg_catalog.=) stored.roident AND pg_catalog.starts_with(o.roname, 'pgcanon:')), node);
    END IF;
    IF (at IS NULL OR resolve OPERATOR(pg_catalog.=) 'node')
        AND (origin OPERATOR(pg_catalog.=) prefer) OPERATOR(pg_catalog.<>) (writer OPERATOR(pg_catalog.=) prefer)
    THEN
        RETURN CASE origin WHEN prefer THEN 1 ELSE -1 END;
    END IF;
    -- A time that is not known any more is older than any that is.
    stored.at := COALESCE(stored.at, '-infinity');
    IF at OPERATOR(pg_catalog.<>) stored.at THEN
        RETURN CASE (at OPERATOR(pg_catalog.>) stored.at) OPERATOR(pg_catalog.=) (resolve OPERATOR(pg_catalog.<>) 'first')
            WHEN true THEN 1 ELSE -1 END;
    END IF;
    RETURN CASE
        WHEN at IS NULL OR origin OPERATOR(pg_catalog.=) writer THEN 0
        WHEN origin OPERATOR(pg_catalog.=) prefer THEN 1
        WHEN writer OPERATOR(pg_catalog.=) prefer THEN -1
        WHEN origin OPERATOR(pg_catalog.<) writer COLLATE pg_catalog."C" THEN 1
        ELSE -1
    END;
END $$;

CREATE OR REPLACE FUNCTION pgcanon.version(row_xmin xid, node text, OUT at timestamptz, OUT origin text)
LANGUAGE sql VOLATILE AS $$
    SELECT COALESCE(CASE v.roident WHEN '0'::pg_catalog.oid THEN pgcanon.time_of(row_xmin, v."timestamp")
            ELSE v."timestamp" END, '-infinity'),
        COALESCE(pg_catalog.split_part(pg_catalog.split_part(o.roname, ':', 3), '/', 1), node)
    FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v
    LEFT JOIN pg_catalog.pg_replication_origin AS o
        ON o.roident OPERATOR(pg_catalog.=) v.roident AND pg_catalog.starts_with(o.roname, 'pgcanon:')
$$;
