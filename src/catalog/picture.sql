-- The catalog as the rules see it, in one value. The loader spells every operator OPERATOR(pg_catalog.…), so that it means
-- the same whatever search_path says; functions and types are qualified here.
WITH RECURSIVE
rule (nsp, rel) AS (VALUES /*rules*/),
space AS MATERIALIZED (
    SELECT n.oid, n.nspname AS name FROM pg_catalog.pg_namespace AS n
    WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
        AND n.nspname <> ALL (ARRAY['information_schema', 'pgcanon']::pg_catalog.name[])
),
class AS MATERIALIZED (
    SELECT c.oid, s.name AS nsp, c.relname AS name, c.relkind AS kind, c.relrowsecurity AS secured
    FROM pg_catalog.pg_class AS c JOIN space AS s ON s.oid = c.relnamespace
    WHERE c.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']::pg_catalog."char"[]) AND c.relpersistence <> 't'
),
fk AS MATERIALIZED (
    SELECT k.conrelid AS a, k.confrelid AS b, k.confdeltype AS del, k.confupdtype AS upd, k.condeferrable AS late
    FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f'
),
heir AS MATERIALIZED (
    SELECT i.inhparent AS a, i.inhrelid AS b FROM pg_catalog.pg_inherits AS i JOIN class AS c ON c.oid = i.inhrelid
),
-- What stands in the rewrite rules of a view, or of a table.
rewrite AS MATERIALIZED (
    SELECT DISTINCT d.refobjid AS a, r.ev_class AS b
    FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND d.objid >= 16384 AND d.refobjid <> r.ev_class
),
link AS MATERIALIZED (
    SELECT a, b FROM heir UNION ALL SELECT b, a FROM heir UNION ALL SELECT a, b FROM fk UNION ALL SELECT a, b FROM rewrite
),
reach (oid) AS (
    SELECT c.oid FROM class AS c JOIN rule AS r
        ON pg_catalog.textlike(c.nsp::pg_catalog.text COLLATE pg_catalog."C", r.nsp)
        AND pg_catalog.textlike(c.name::pg_catalog.text COLLATE pg_catalog."C", r.rel)
    WHERE c.kind = ANY (ARRAY['r', 'p', 'f']::pg_catalog."char"[])
    UNION
    SELECT l.b FROM reach AS r JOIN link AS l ON l.a = r.oid
),
relation AS MATERIALIZED (SELECT c.* FROM class AS c JOIN reach AS r ON r.oid = c.oid),
col AS MATERIALIZED (
    SELECT a.* FROM relation AS r JOIN pg_catalog.pg_attribute AS a ON a.attrelid = r.oid
    WHERE a.attnum > 0 AND NOT a.attisdropped
),
-- Their types, and what those are made of.
kind (oid) AS (
    SELECT DISTINCT c.atttypid FROM col AS c
    UNION
    SELECT p.oid FROM kind AS k JOIN pg_catalog.pg_type AS t ON t.oid = k.oid
        JOIN pg_catalog.pg_type AS p ON p.oid = ANY (ARRAY[t.typbasetype, t.typelem])
),
-- Functions of the users' own: not those that extensions brought.
routine AS MATERIALIZED (
    SELECT p.oid, p.prosrc, p.prosqlbody
    FROM pg_catalog.pg_proc AS p JOIN space AS s ON s.oid = p.pronamespace
        JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    WHERE l.lanname = ANY (ARRAY['sql', 'plpgsql']::pg_catalog.name[])
        AND p.prokind = ANY (ARRAY['f', 'p']::pg_catalog."char"[])
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
            WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
),
picture (body) AS (
SELECT pg_catalog.json_build_object(
'server', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
'relations', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(r.oid::pg_catalog.int8, r.nsp, r.name, r.kind, r.secured,
        r.oid = ANY (SELECT w.ev_class FROM pg_catalog.pg_rewrite AS w WHERE w.ev_type <> '1'),
        r.oid = ANY (SELECT k.conrelid FROM pg_catalog.pg_constraint AS k WHERE k.condeferrable)
        ) ORDER BY r.oid)
    FROM relation AS r),
'columns', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.attrelid::pg_catalog.int8, c.attnum, c.attname,
        c.atttypid::pg_catalog.int8, pg_catalog.format_type(c.atttypid, c.atttypmod),
        c.attnotnull, c.attgenerated, c.attidentity, c.attcollation::pg_catalog.int8,
        CASE WHEN d.adbin IS NULL THEN NULL
            WHEN pg_catalog.textlike(d.adbin::pg_catalog.text, '{CONST %') THEN 'i'
            WHEN pg_catalog.textlike(d.adbin::pg_catalog.text, '%:funcid 1574 %') THEN 'v'
            ELSE d.adbin::pg_catalog.text END
        ) ORDER BY c.attrelid, c.attnum)
    FROM col AS c LEFT JOIN pg_catalog.pg_attrdef AS d ON c.atthasdef AND d.adrelid = c.attrelid AND d.adnum = c.attnum),
'types', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.oid::pg_catalog.int8, n.nspname, t.typname, t.typtype,
        t.typbasetype::pg_catalog.int8, t.typelem::pg_catalog.int8, t.typcategory, t.typsend::pg_catalog.oid <> 0,
        t.oid = ANY (SELECT k.contypid FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'c'),
        t.typdefaultbin::pg_catalog.text, pg_catalog.format_type(t.oid, NULL)
        ) ORDER BY t.oid)
    FROM kind AS k JOIN pg_catalog.pg_type AS t ON t.oid = k.oid JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace),
'indexes', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(i.indrelid::pg_catalog.int8, i.indisprimary,
        (i.indkey::pg_catalog.int2[])[0 : i.indnkeyatts::pg_catalog.int4 - 1], NOT i.indimmediate,
        i.indisexclusion OR NOT i.indisunique OR NOT i.indisvalid OR i.indpred IS NOT NULL OR i.indexprs IS NOT NULL,
        i.indcollation::pg_catalog.int8[]
        ) ORDER BY i.indrelid, i.indisprimary DESC, i.indexrelid)
    FROM relation AS r JOIN pg_catalog.pg_index AS i ON i.indrelid = r.oid
    WHERE (i.indisunique OR i.indisexclusion) AND i.indislive),
'keys', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(f.a::pg_catalog.int8, f.b::pg_catalog.int8, f.del, f.upd, f.late)
        ORDER BY f.a, f.b, f.del, f.upd, f.late)
    FROM fk AS f),
'heirs', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(h.a::pg_catalog.int8, h.b::pg_catalog.int8) ORDER BY h.a, h.b)
    FROM heir AS h),
'rewrites', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(w.a::pg_catalog.int8, w.b::pg_catalog.int8) ORDER BY w.a, w.b)
    FROM rewrite AS w JOIN reach AS r ON r.oid = w.a),
'triggers', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.tgrelid::pg_catalog.int8, c.nsp, c.name, c.kind,
        t.tgtype::pg_catalog.int4, t.tgdeferrable, t.tgfoid::pg_catalog.int8) ORDER BY t.tgrelid, t.oid)
    FROM pg_catalog.pg_trigger AS t JOIN class AS c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'),
'immutable', (
    SELECT pg_catalog.json_agg(f.name ORDER BY f.name) FROM (
        SELECT p.proname AS name FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace GROUP BY p.proname
        -- length(bytea, name), 1713, counts as stable, and looks at its arguments alone.
        HAVING pg_catalog.bool_and(p.prokind = 'f' AND (p.provolatile = 'i' OR p.oid = 1713) AND NOT p.proretset
            -- cstring, internal, xml, money: what goes in and out of these hangs on settings.
            AND p.prorettype <> ALL (ARRAY[2275, 2281, 142, 790]::pg_catalog.oid[])
            AND NOT (p.proargtypes::pg_catalog.oid[] && ARRAY[2275, 2281, 142, 790]::pg_catalog.oid[]))
    ) AS f),
'unsteady', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.oid::pg_catalog.int8, p.provolatile) ORDER BY p.oid)
    FROM pg_catalog.pg_proc AS p WHERE p.oid < 16384 AND p.provolatile <> 'i'),
'functions', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.oid::pg_catalog.int8, s.name, p.proname,
        -- Of triggers and event triggers: nobody calls them.
        p.prorettype = ANY (ARRAY[2279, 3838]::pg_catalog.oid[])) ORDER BY p.oid)
    FROM pg_catalog.pg_proc AS p JOIN space AS s ON s.oid = p.pronamespace),
'operators', (
    SELECT pg_catalog.json_agg(o.name ORDER BY o.name) FROM (
        SELECT DISTINCT o.oprname AS name FROM pg_catalog.pg_operator AS o
        WHERE o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace
    ) AS o),
'routines', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(p.oid::pg_catalog.int8,
        CASE WHEN p.prosqlbody IS NULL THEN p.prosrc END,
        -- A body that was parsed when it was made: whether it holds an UPDATE, INSERT, DELETE or MERGE.
        CASE WHEN p.prosqlbody IS NOT NULL THEN pg_catalog.textregexeq(p.prosqlbody::pg_catalog.text, ':commandType [2345] ') END
        ) ORDER BY p.oid)
    FROM routine AS p),
-- … and the relations that such bodies name.
'uses', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(d.objid::pg_catalog.int8, d.refobjid::pg_catalog.int8)
        ORDER BY d.objid, d.refobjid)
    FROM pg_catalog.pg_depend AS d
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid >= 16384
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass),
-- PostgreSQL 18: a NOT NULL that was never checked says nothing of the rows that are there.
'unchecked', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(k.conrelid::pg_catalog.int8, k.conkey[1])
        ORDER BY k.conrelid, k.conkey)
    FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'n' AND NOT k.convalidated),
-- Collations by which strings can be equal without being the same.
'loose', (
    SELECT pg_catalog.json_agg(l.oid::pg_catalog.int8 ORDER BY l.oid)
    FROM pg_catalog.pg_collation AS l WHERE NOT l.collisdeterministic)
)::pg_catalog.text
)
SELECT pg_catalog.encode(pg_catalog.convert_to(p.body,
    CASE WHEN pg_catalog.getdatabaseencoding() = 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END::pg_catalog.name), 'base64')
FROM picture AS p
