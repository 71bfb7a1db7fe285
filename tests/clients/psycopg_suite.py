"""psycopg 3 through a proxy: everything it does on the wire, each step checked by its data."""

import os
import sys
import threading

import psycopg
from psycopg import sql

DSN = "host={PGHOST} port={PGPORT} user={PGUSER} dbname={PGDATABASE}".format(**os.environ)


def connect(**more):
    return psycopg.connect(DSN, **more)


def parameters_and_types():
    with connect() as conn:
        row = conn.execute("select %s::int, %s, %s::text[], %b::bytea, null", (42, "ä🐘", ["a", "b"], b"\0\xff")).fetchone()
        assert row == (42, "ä🐘", ["a", "b"], b"\0\xff", None), row
        cur = conn.cursor(binary=True)
        assert cur.execute("select 1::int8, 1.5::numeric, '2024-02-29'::date").fetchone()[0] == 1
        assert conn.execute("select 1").statusmessage == "SELECT 1"


def prepared_statements():
    with connect(prepare_threshold=2) as conn:
        for n in range(20):
            assert conn.execute("select %s::int * 2", (n,)).fetchone() == (n * 2,)
        assert conn.execute("select count(*) from pg_prepared_statements").fetchone() == (1,)
        for n in range(150):  # more than it keeps: it deallocates
            conn.execute(f"select {n} + %s::int", (1,), prepare=True)
        assert conn.execute("select count(*) <= 101 from pg_prepared_statements").fetchone() == (True,)


def pipeline_mode():
    with connect(autocommit=True) as conn:
        conn.execute("create table pipelined (a int primary key)")
        with conn.pipeline():
            cursors = [conn.execute("insert into pipelined values (%s) returning a", (n,)) for n in range(500)]
        assert [cur.fetchone()[0] for cur in cursors] == list(range(500))
        try:
            with conn.pipeline() as pipe:
                conn.execute("insert into pipelined values (1000)")
                conn.execute("insert into pipelined values (1)")
                conn.execute("select 'dropped'")
                pipe.sync()
                conn.execute("select 'after'")
                pipe.sync()
        except psycopg.errors.UniqueViolation as error:
            assert error.diag.constraint_name == "pipelined_pkey"
        else:
            raise AssertionError("the violation went unnoticed")
        assert conn.execute("select count(*) from pipelined").fetchone() == (500,)
        with conn.pipeline(), conn.transaction():
            conn.execute("insert into pipelined values (2000)")
            cur = conn.execute("select count(*) from pipelined")
            assert cur.fetchone() == (501,)
        with connect() as other, other.pipeline(), other.cursor() as cur:
            cur.executemany("insert into pipelined values (%s) returning a", [(n,) for n in range(3000, 3300)], returning=True)
            got = [cur.fetchone()[0]]
            while cur.nextset():
                got.append(cur.fetchone()[0])
            assert got == list(range(3000, 3300))


def copy():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("create table copied (a int, b text, c float8)")
        with cur.copy("copy copied from stdin") as into:
            for n in range(20_000):
                into.write_row((n, f"row\t{n}\\ ä", n / 3))
        with cur.copy("copy copied to stdout") as out:
            assert sum(1 for _ in out.rows()) == 20_000
        with cur.copy("copy copied (a, b, c) from stdin (format binary)") as into:
            into.set_types(["int4", "text", "float8"])
            for n in range(1000):
                into.write_row((n, None, 0.5))
        cur.execute("select count(*), count(b), sum(a) from copied")
        assert cur.fetchone() == (21_000, 20_000, 199_990_000 + 499_500)
        with cur.copy("copy (select * from copied order by a) to stdout (format csv)") as out:
            data = b"".join(bytes(block) for block in out)
        assert data.count(b"\n") == 21_000
    with connect() as conn:
        try:
            with conn.cursor().copy("copy copied from stdin") as into:
                into.write_row((1, "x", 1))
                raise KeyboardInterrupt  # the client gives up in the middle: CopyFail
        except KeyboardInterrupt:
            pass
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
        conn.rollback()
        try:
            with conn.cursor().copy("copy copied from stdin") as into:
                for _ in range(1000):
                    into.write("not a number\tx\t1\n" * 100)
        except psycopg.errors.InvalidTextRepresentation as error:
            assert "line 1" in error.diag.context
        else:
            raise AssertionError("bad data was taken")
        conn.rollback()
        # it stops reading in the middle: cancels and drains
        try:
            with conn.cursor().copy("copy (select generate_series(1, 1000000)) to stdout") as out:
                next(iter(out))
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        conn.rollback()
        assert conn.execute("select count(*) from copied").fetchone() == (21_000,)


def server_cursors():
    with connect() as conn:
        with conn.cursor("named") as cur:
            cur.itersize = 100
            cur.execute("select g from generate_series(1, 1050) g")
            assert [row[0] for row in cur] == list(range(1, 1051))
        with conn.cursor("scrolling", scrollable=True) as cur:
            cur.execute("select g from generate_series(1, 100) g")
            cur.scroll(50)
            assert cur.fetchone() == (51,)
            cur.scroll(-51)
            assert cur.fetchone() == (1,)
        with conn.cursor() as cur:  # single-row mode
            assert sum(row[0] for row in cur.stream("select g from generate_series(1, 10000) g")) == 50_005_000


def cancel():
    for how in ("cancel", "cancel_safe"):
        with connect() as conn:
            timer = threading.Timer(0.2, getattr(conn, how))
            timer.start()
            try:
                conn.execute("select pg_sleep(60)")
            except psycopg.errors.QueryCanceled:
                pass
            else:
                raise AssertionError("the query was not cancelled")
            timer.join()
            conn.rollback()
            assert conn.execute("select 1").fetchone() == (1,)


def notifies_and_notices():
    with connect(autocommit=True) as listener, connect(autocommit=True) as speaker:
        heard = []
        listener.add_notice_handler(lambda diag: heard.append((diag.severity_nonlocalized, diag.message_primary)))
        listener.execute("do $$ begin raise warning 'careful ä'; raise notice 'just so'; end $$")
        assert heard == [("WARNING", "careful ä"), ("NOTICE", "just so")], heard
        listener.execute("listen suite")
        for n in range(3):
            speaker.execute("select pg_notify('suite', %s)", (str(n),))
        got = [notify.payload for notify in listener.notifies(timeout=20, stop_after=3)]
        assert got == ["0", "1", "2"], got


def transactions():
    with connect() as conn:
        conn.execute("create table moved (a int)")
        conn.commit()
        with conn.transaction():
            conn.execute("insert into moved values (1)")
            try:
                with conn.transaction():  # a savepoint
                    conn.execute("insert into moved values (2)")
                    conn.execute("select 1/0")
            except psycopg.errors.DivisionByZero:
                pass
            conn.execute("insert into moved values (3)")
        assert conn.execute("select array_agg(a order by a) from moved").fetchone() == ([1, 3],)
        try:
            conn.execute("select * from nowhere")
        except psycopg.errors.UndefinedTable as error:
            assert error.diag.statement_position == "15", error.diag.statement_position
        conn.rollback()


def encodings():
    with connect(client_encoding="latin1") as conn:
        assert conn.execute("select %s || 'ß', octet_length(%s)", ("ü", "ü")).fetchone() == ("üß", 2)
    with connect() as conn:
        conn.execute(sql.SQL("set client_encoding to {}").format("sjis"))
        assert conn.info.encoding == "shift_jis"
        assert conn.execute("select %s", ("表ソ",)).fetchone() == ("表ソ",)


def large_values():
    with connect() as conn:
        big = os.urandom(1 << 20) * 32
        assert conn.execute("select %b::bytea", (big,), binary=True).fetchone()[0] == big


def main():
    for test in (
        parameters_and_types, prepared_statements, pipeline_mode, copy, server_cursors, cancel, notifies_and_notices,
        transactions, encodings, large_values,
    ):
        print(test.__name__, flush=True)
        test()
    print(f"all passed (psycopg {psycopg.__version__}, libpq {psycopg.pq.version()})")


sys.exit(main())
