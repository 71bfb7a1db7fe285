-- What DDL means in its session: where it makes what has no schema, as whom, and what the names $2 in the schemas $1 are (those
-- without a schema have an empty one). The loader spells every operator OPERATOR(pg_catalog.…).
WITH RECURSIVE
asked (nsp, name, ord) AS (
    SELECT a.nsp, a.name, a.ord
    FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
        WITH ORDINALITY AS a (nsp, name, ord)
),
meant AS MATERIALIZED (
    SELECT a.ord, CASE WHEN a.nsp = '' THEN pg_catalog.to_regclass(pg_catalog.quote_ident(a.name))::pg_catalog.oid
        ELSE (SELECT c.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = a.nsp::pg_catalog.name AND c.relname = a.name::pg_catalog.name) END AS oid
    FROM asked AS a
),
-- With the table of an index.
found AS MATERIALIZED (
    SELECT m.ord, n.nspname AS nsp, c.relname AS name, c.relkind AS kind, c.relpersistence = 't' AS temporary,
        pg_catalog.pg_get_userbyid(c.relowner) AS owner,
        CASE WHEN i.indrelid IS NULL THEN c.oid ELSE i.indrelid END AS base
    FROM meant AS m JOIN pg_catalog.pg_class AS c ON c.oid = m.oid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
),
-- What that is a partition or a child of.
line (ord, oid, up) AS (
    SELECT f.ord, f.base, 0 FROM found AS f
    UNION
    SELECT l.ord, i.inhparent, l.up + 1 FROM line AS l JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = l.oid
),
scene (body) AS (
SELECT pg_catalog.json_build_object(
'schema', pg_catalog.current_schema(),
'path', pg_catalog.current_schemas(false),
'role', current_user::pg_catalog.text,
'names', (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object('asked', a.name, 'found', (
        SELECT pg_catalog.json_build_object('schema', f.nsp, 'name', f.name, 'kind', f.kind, 'temporary', f.temporary,
            'owner', f.owner, 'line', (
                SELECT pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, c.relname, c.relkind) ORDER BY l.up, l.oid)
                FROM line AS l JOIN pg_catalog.pg_class AS c ON c.oid = l.oid
                    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE l.ord = a.ord))
        FROM found AS f WHERE f.ord = a.ord)) ORDER BY a.ord)
    FROM asked AS a)
)::pg_catalog.text
)
SELECT pg_catalog.encode(pg_catalog.convert_to(s.body,
    CASE WHEN pg_catalog.getdatabaseencoding() = 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END::pg_catalog.name), 'base64')
FROM scene AS s
