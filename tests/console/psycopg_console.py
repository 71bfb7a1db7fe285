"""psycopg 3 on the console: parameters, transactions, text and binary results, errors."""

import datetime
import os

import psycopg

DSN = f"host=127.0.0.1 port={os.environ['PORT']} user=me dbname=x"


def refused(conn, state, sql, *params):
    try:
        conn.execute(sql, params)
    except psycopg.Error as error:
        assert error.sqlstate == state, error
    else:
        raise AssertionError(f"{sql} was not refused")


with psycopg.connect(DSN, autocommit=True) as conn:
    row = conn.execute("show peers").fetchone()
    assert row[:2] == ("c", "spilling") and isinstance(row[2], datetime.datetime) and row[7] == 3, row
    ids = [id for id, in conn.execute("select id from sync_err_rec order by id")]
    assert len(ids) == 3
    for binary in False, True:
        cur = conn.cursor(binary=binary)
        cur.execute("select id, dst_query, create_time, sqlstate from sync_err_rec where id = %s", (ids[1],))
        id, query, created, state = cur.fetchone()
        assert (id, state) == (ids[1], None) and "'ä'" in query and created.tzinfo, (id, query, created, state)
        assert [column.name for column in cur.description] == ["id", "dst_query", "create_time", "sqlstate"]
    assert conn.execute("select count(*) from sync_err_rec where dst_query like %s", ("%it''s%",)).fetchone() == (1,)
    assert conn.execute("select skip_sync_err_rec(%s)", (10**12,)).fetchone() == (False,)
    sql = "insert into public.t values (2, 'edited')"
    assert conn.execute("select edit_sync_err_rec(%s, %s)", (ids[1], sql)).fetchone() == (True,)
    assert conn.execute("select dst_query from sync_err_rec where id = %s", (ids[1],)).fetchone() == (sql + ";",)
    refused(conn, "F0000", "select deal_sync_err_rec(%s)", 5)  # c is away
    refused(conn, "22023", "select * from deal_sync_err_rec(%s)", 0)
    refused(conn, "22P02", "select deal_sync_err_rec(%s)", "many")
    refused(conn, "42601", "select %s from meta", 1)
    assert conn.execute("pause c").statusmessage == "PAUSE"
    assert conn.execute("show peers").fetchone()[1] == "paused"
    assert conn.execute("resume c").statusmessage == "RESUME"

with psycopg.connect(DSN, prepare_threshold=1) as conn:  # in a transaction, prepared
    for n in range(4):
        assert conn.execute("select count(*) from sync_err_rec where id > %s", (0,)).fetchone() == (3,)
    refused(conn, "42601", "show nonsense")
    conn.rollback()
    assert conn.execute("select skip_sync_err_rec(%s)", (ids[0],), prepare=True).fetchone() == (True,)

print("all passed")
