"""asyncpg on the console: always prepared, always binary, and a pool that brings sessions back into a known state."""

import asyncio
import datetime
import os

import asyncpg

WHERE = {"host": "127.0.0.1", "port": int(os.environ["PORT"]), "user": "me", "database": "x"}


async def refused(conn, state, sql, *params):
    try:
        await conn.fetch(sql, *params)
    except asyncpg.PostgresError as error:
        assert error.sqlstate == state, error
    else:
        raise AssertionError(f"{sql} was not refused")


async def main():
    conn = await asyncpg.connect(**WHERE)
    peer = await conn.fetchrow("show peers")
    assert (peer["peer"], peer["state"], peer["queue_rows"]) == ("c", "spilling", 3), peer
    assert isinstance(peer["since"], datetime.datetime) and isinstance(peer["queue_seconds"], float), peer
    status = await conn.fetchrow("show status")
    assert (status["node"], status["capturing"]) == ("a", True), status
    rows = await conn.fetch("select id, dst_query, create_time, parked from sync_err_rec where dst_server = $1", "c")
    assert len(rows) == 3 and "'ä'" in rows[1]["dst_query"] and rows[0]["parked"] is False, rows
    assert isinstance(rows[0]["create_time"], datetime.datetime)
    statement = await conn.prepare("select edit_sync_err_rec($2, $1)")
    assert [p.name for p in statement.get_parameters()] == ["text", "int8"]
    assert await statement.fetchval("delete from public.t where id = 3", rows[2]["id"]) is True
    assert await conn.fetchval("select dst_query from sync_err_rec where id = $1", rows[2]["id"]) == "delete from public.t where id = 3;"
    assert await conn.fetchval("select skip_sync_err_rec($1)", rows[0]["id"]) is True
    await refused(conn, "F0000", "select deal_sync_err_rec($1)", 5)  # c is away
    await refused(conn, "22023", "select deal_sync_err_rec($1)", -5)
    await refused(conn, "42601", "select deal_sync_err_rec()")
    script = await conn.fetch("select * from export_sync_err_rec($1)", "c")
    assert "\n".join(row["sql"] for row in script).count("COMMIT;") == 1, script
    async with conn.transaction():
        assert await conn.fetchval("select count(*) from sync_err_rec") == 2
    await conn.close()
    async with asyncpg.create_pool(**WHERE, min_size=1, max_size=1) as pool:
        for _ in range(3):
            assert await pool.fetchval("show version")


asyncio.run(main())
print("all passed")
