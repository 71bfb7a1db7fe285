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

-- The key first: a plan made while there are few must not read all of a table's later.
CREATE INDEX tombstone_key ON pgcanon.tombstone (key, table_name, nsp_name);

CREATE INDEX tombstone_deleted ON pgcanon.tombstone (deleted);

-- In the transactions of applications that delete, as the journal.
GRANT INSERT (nsp_name, table_name, key, number) ON pgcanon.tombstone TO PUBLIC;

-- Versions that have won here against others' changes: their nodes may not know them any more, and get them again. Whose row it
-- is stands there where the transaction that brought it may yet delete it. What was sent stays for a while, so that it is not
-- sent again to those who have not seen it yet.
CREATE TABLE pgcanon.echo (
    id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    head bytea NOT NULL,
    image bytea NOT NULL,
    nsp_name text,
    table_name text,
    key bytea,
    made timestamptz NOT NULL DEFAULT pg_catalog.now(),
    sent xid8
);

CREATE INDEX echo_waits ON pgcanon.echo (id) WHERE sent IS NULL;

CREATE INDEX echo_key ON pgcanon.echo (key) WHERE sent IS NULL AND key IS NOT NULL;

CREATE INDEX echo_image ON pgcanon.echo USING hash (image);

-- Who wrote the row that was there, and when it and the other one were written. By the transaction they are counted, each once.
ALTER TABLE pgcanon.conflict
    ADD COLUMN xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    ADD COLUMN stored_origin text,
    ADD COLUMN stored_time timestamptz,
    ADD COLUMN incoming_time timestamptz;

CREATE INDEX conflict_xid ON pgcanon.conflict (xid);

-- Nodes are told apart by replication origins, which all databases of a server share: pgcanon:DATABASE:WRITER, or, where
-- another node than its writer brought a version, pgcanon:DATABASE:WRITER/BRINGER, as no two sessions can have the same one.

-- How a version, told as time and origin, stands to that of a row here: 1 if it wins, 0 if it is the same, -1 if it loses. It
-- hangs on nothing but the two, so that all nodes come to the same end (§8). Without a time only prefer decides.
CREATE FUNCTION pgcanon.rank(at timestamptz, origin text, row_xmin xid, node text, prefer text, resolve text) RETURNS int4
LANGUAGE plpgsql STABLE AS $$
DECLARE
    stored record;
    writer text := node;
BEGIN
    IF row_xmin OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.xid THEN
        RETURN 1;
    END IF;
    -- A time that is not known any more is older than any that is.
    SELECT COALESCE(v."timestamp", '-infinity') AS at, v.roident INTO stored
    FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v;
    IF stored.roident OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid THEN
        writer := COALESCE((SELECT pg_catalog.split_part(pg_catalog.split_part(o.roname, ':', 3), '/', 1)
            FROM pg_catalog.pg_replication_origin AS o
            WHERE o.roident OPERATOR(pg_catalog.=) stored.roident AND pg_catalog.starts_with(o.roname, 'pgcanon:')), node);
    END IF;
    IF (at IS NULL OR resolve OPERATOR(pg_catalog.=) 'node')
        AND (origin OPERATOR(pg_catalog.=) prefer) OPERATOR(pg_catalog.<>) (writer OPERATOR(pg_catalog.=) prefer)
    THEN
        RETURN CASE origin WHEN prefer THEN 1 ELSE -1 END;
    END IF;
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

-- Time and origin of a row here.
CREATE FUNCTION pgcanon.version(row_xmin xid, node text, OUT at timestamptz, OUT origin text)
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(v."timestamp", '-infinity'),
        COALESCE(pg_catalog.split_part(pg_catalog.split_part(o.roname, ':', 3), '/', 1), node)
    FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v
    LEFT JOIN pg_catalog.pg_replication_origin AS o
        ON o.roident OPERATOR(pg_catalog.=) v.roident AND pg_catalog.starts_with(o.roname, 'pgcanon:')
$$;

-- Refuses what brings a row back that was deleted while it waited for its place: another session's deletion was not to be seen
-- when it was looked for. Deletions that find no row to wait for take the same lock first.
CREATE FUNCTION pgcanon.outlives(nsp text, tab text, row_key bytea, at timestamptz, origin text, row_number int8, node text,
    prefer text, resolve text) RETURNS int4
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pgcanon.lock_key(row_key);
    IF EXISTS (
        SELECT FROM pgcanon.tombstone AS d
        WHERE d.key OPERATOR(pg_catalog.=) ANY (ARRAY[row_key, '']) AND d.table_name OPERATOR(pg_catalog.=) tab
            AND d.nsp_name OPERATOR(pg_catalog.=) nsp AND CASE WHEN resolve IS NULL
                THEN row_number IS NULL OR d.number OPERATOR(pg_catalog.>=) row_number
                ELSE pgcanon.rank(at, origin, d.xmin, node, prefer, resolve) OPERATOR(pg_catalog.<) 0 END)
    THEN
        RAISE EXCEPTION 'the row has been deleted meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN 1;
END $$;

-- What hardly ever comes is left to functions: a statement pays for each table that it names whenever it is executed, whether it
-- comes to write into it or not.

CREATE FUNCTION pgcanon.decided(origin text, tick int8, ord int4, nsp text, tab text, kind text, decision text, stored jsonb,
    incoming jsonb, stored_origin text, stored_time timestamptz, incoming_time timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO pgcanon.conflict (origin, tick, ord, nsp_name, table_name, kind, decision, stored, incoming, stored_origin,
        stored_time, incoming_time)
    VALUES (origin, tick, ord, nsp, tab, kind, decision, stored, incoming, stored_origin, stored_time, incoming_time);
END $$;

-- Has a version sent that has won against a change. Who made that one had seen this node's changes up to a tick, and what came
-- later is on its way: to say it once more for each change of a backlog would make as many changes of its own. row_xmin is that
-- of the row or the deletion, where the server knows who wrote it.
CREATE FUNCTION pgcanon.tell(told_head bytea, told_image bytea, nsp text, tab text, row_key bytea, seen int8, row_xmin xid)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    shown pg_catalog.pg_snapshot := (SELECT t.snapshot FROM pgcanon.tick AS t WHERE t.id OPERATOR(pg_catalog.=) seen);
BEGIN
    IF EXISTS (SELECT FROM pgcanon.echo AS e
        WHERE e.image OPERATOR(pg_catalog.=) told_image AND e.head OPERATOR(pg_catalog.=) told_head
            AND (e.sent IS NULL OR NOT pg_catalog.pg_visible_in_snapshot(e.sent, shown)))
    THEN
        RETURN;
    END IF;
    -- Clients of this node wrote it, and it is in the journal.
    IF shown IS NOT NULL AND row_xmin IS NOT NULL AND NOT pg_catalog.pg_visible_in_snapshot(pgcanon.whole(row_xmin), shown)
        AND (SELECT v.roident OPERATOR(pg_catalog.=) '0'::pg_catalog.oid FROM pg_catalog.pg_xact_commit_timestamp_origin(row_xmin) AS v)
    THEN
        RETURN;
    END IF;
    INSERT INTO pgcanon.echo (head, image, nsp_name, table_name, key) VALUES (told_head, told_image, nsp, tab, row_key);
END $$;

-- The transaction of a row, which stands there without its epoch.
CREATE FUNCTION pgcanon.whole(row_xmin xid) RETURNS xid8 LANGUAGE sql VOLATILE AS $$
    SELECT (now.xid OPERATOR(pg_catalog.-) ((now.xid OPERATOR(pg_catalog.-) row_xmin::pg_catalog.text::pg_catalog.int8)
        OPERATOR(pg_catalog.&) 4294967295))::pg_catalog.text::pg_catalog.xid8
    FROM (SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8) AS now(xid)
$$;

-- There are not so many of these locks that a long transaction could use them up.
CREATE FUNCTION pgcanon.lock_key(row_key bytea) RETURNS void
LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(1885823842,
        pg_catalog.get_byte(row_key, pg_catalog.octet_length(row_key) OPERATOR(pg_catalog.-) 1))
$$;
