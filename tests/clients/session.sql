-- A psql session whose output must be the same on the server and through the proxy; :dir is a directory of its own.
\set ON_ERROR_STOP off
\set VERBOSITY verbose
\encoding
select version() ~ 'PostgreSQL' as ok;
create table t (a int primary key, b text, c numeric default 1.5);
\d t
insert into t select g, 'row ' || g from generate_series(1, 1000) g;
select a, b from t order by a limit 3 \gdesc
select a, b from t order by a limit 3 \gx
select count(*) as n from t \gset
\echo :n
select format('create view v%s as select %s as x', g, g) from generate_series(1, 3) g \gexec
\dv
-- \copy in every direction and format, and failing
\set out '\\copy (select * from t order by a) to ' :dir '/t.tsv'
:out
\set in '\\copy t2 from ' :dir '/t.tsv'
create table t2 (like t);
:in
\set out '\\copy t to ' :dir '/t.csv csv header'
:out
\set in '\\copy t2 from ' :dir '/t.csv csv header'
:in
\set out '\\copy t to ' :dir '/t.bin (format binary)'
:out
\set in '\\copy t2 from ' :dir '/t.bin (format binary)'
:in
\set in '\\copy t2 from ' :dir '/t.csv'
:in
\copy nowhere from '/dev/null'
select count(*), sum(a), sum(c) from t2;
copy t2 (a) from stdin;
1
2
not a number
\.
copy t2 (a, b) from stdin csv;
5001,"five thousand, one"
\.
copy (select a, b from t2 where a > 1000) to stdout;
-- rows fetched through a cursor, a few at a time
\set FETCH_COUNT 7
select a from t where a <= 20 order by a;
select a, 1 / (15 - a) as fails_after_some_rows from t where a <= 20 order by a;
\unset FETCH_COUNT
-- savepoints around every statement
\set ON_ERROR_ROLLBACK on
begin;
insert into t values (2001);
insert into t values (1);
insert into t values (2002);
commit;
\unset ON_ERROR_ROLLBACK
select count(*) from t where a > 2000;
begin;
select 1/0;
select 2;
commit;
selec nonsense;
\errverbose
select * from
  t
where nosuchcolumn = 1;
-- several results of one string
\; select 1 \; select 2 \; select 3;
-- large objects
\set import '\\lo_import ' :dir '/t.tsv'
\o /dev/null
:import
\o
\set export '\\lo_export ' :LASTOID ' ' :dir '/t.lo'
:export
\set unlink '\\lo_unlink ' :LASTOID
\o /dev/null
:unlink
\o
-- asynchronous messages
set client_min_messages = notice;
do $$ begin raise notice 'a notice'; raise warning 'a warning' using hint = 'the hint'; end $$;
listen nobody;
set client_encoding = latin1;
select 'encoded';
reset client_encoding;
prepare p as select a from t where a = $1;
execute p (7);
deallocate p;
select a, b from t where a < 4 \crosstabview a b b
\sf pg_catalog.obj_description(oid, name)
drop view v1, v2, v3;
drop table t, t2 cascade;
