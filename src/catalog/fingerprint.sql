-- Changes when the picture may have changed, and costs little: sums over the rows that it was made of, and over the names of
-- all that it could be made of. Not of xmin in pg_class, which TRUNCATE and others change that do not matter here.
WITH
mine (oid) AS (SELECT pg_catalog.unnest($1::pg_catalog.oid[])),
space AS (
    SELECT n.oid, n.nspname FROM pg_catalog.pg_namespace AS n
    WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') AND n.nspname <> 'information_schema'
),
sums (what, rows, sum) AS (
    SELECT 'pg_namespace', pg_catalog.count(*),
        pg_catalog.sum(pg_catalog.hashtextextended(s.nspname::pg_catalog.text, s.oid::pg_catalog.int8)) FROM space AS s
    UNION ALL
    SELECT 'pg_class', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(
        c.relname::pg_catalog.text || c.relkind::pg_catalog.text || c.relrowsecurity::pg_catalog.text
            || c.relnamespace::pg_catalog.text, c.oid::pg_catalog.int8))
    FROM pg_catalog.pg_class AS c JOIN space AS s ON s.oid = c.relnamespace
    WHERE c.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']::pg_catalog."char"[]) AND s.nspname <> 'pgcanon'
    UNION ALL
    SELECT 'pg_attribute', pg_catalog.count(*), pg_catalog.sum(a.xmin::pg_catalog.text::pg_catalog.int8)
    FROM mine AS m JOIN pg_catalog.pg_attribute AS a ON a.attrelid = m.oid WHERE a.attnum > 0
    UNION ALL
    SELECT 'pg_attrdef', pg_catalog.count(*), pg_catalog.sum(d.xmin::pg_catalog.text::pg_catalog.int8)
    FROM mine AS m JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = m.oid
    UNION ALL
    SELECT 'pg_index', pg_catalog.count(*), pg_catalog.sum(i.xmin::pg_catalog.text::pg_catalog.int8)
    FROM mine AS m JOIN pg_catalog.pg_index AS i ON i.indrelid = m.oid
    UNION ALL
    SELECT 'pg_constraint', pg_catalog.count(*), pg_catalog.sum(k.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_constraint AS k
    WHERE k.contype = 'f' OR k.contypid >= 16384 OR k.conrelid = ANY (SELECT m.oid FROM mine AS m)
    UNION ALL
    SELECT 'pg_inherits', pg_catalog.count(*), pg_catalog.sum(i.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_inherits AS i
    UNION ALL
    SELECT 'pg_rewrite', pg_catalog.count(*), pg_catalog.sum(r.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class >= 16384
    UNION ALL
    SELECT 'pg_trigger', pg_catalog.count(*), pg_catalog.sum(t.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'pg_type', pg_catalog.count(*), pg_catalog.sum(t.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_type AS t WHERE t.typtype <> 'c' AND t.typcategory <> 'A' AND t.oid >= 16384
    UNION ALL
    SELECT 'pg_proc', pg_catalog.count(*), pg_catalog.sum(p.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_proc AS p WHERE p.oid >= 16384
    UNION ALL
    SELECT 'pg_operator', pg_catalog.count(*), pg_catalog.sum(o.xmin::pg_catalog.text::pg_catalog.int8)
    FROM pg_catalog.pg_operator AS o WHERE o.oid >= 16384
)
SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', s.what, s.rows, s.sum), ', ' ORDER BY s.what) FROM sums AS s
