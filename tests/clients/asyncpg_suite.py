"""asyncpg through a proxy: its own implementation of the protocol, binary everywhere, always prepared."""

import asyncio
import io
import os

import asyncpg


async def connect(**more):
    return await asyncpg.connect(
        host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]), user=os.environ["PGUSER"],
        database=os.environ["PGDATABASE"], **more,
    )


async def prepared(conn):
    statement = await conn.prepare("select $1::int * 2 as double, $2::text as text")
    assert [p.name for p in statement.get_parameters()] == ["int4", "text"]
    assert [a.name for a in statement.get_attributes()] == ["double", "text"]
    for n in range(50):
        row = await statement.fetchrow(n, "ä🐘")
        assert tuple(row) == (n * 2, "ä🐘")
    for n in range(150):  # past its cache of statements: it closes the oldest
        assert await conn.fetchval(f"select {n} + $1::int", 1) == n + 1
    await conn.execute("create type mood as enum ('sad', 'happy'); create table moody (a mood, b int[], c jsonb)")
    await conn.execute("insert into moody values ($1, $2, $3)", "happy", [1, 2, None], '{"k": [1]}')
    assert tuple(await conn.fetchrow("select * from moody")) == ("happy", [1, 2, None], '{"k": [1]}')


async def batches(conn):
    await conn.execute("create table many (a int primary key, b text)")
    await conn.executemany("insert into many values ($1, $2)", [(n, f"row {n}") for n in range(5000)])
    assert await conn.fetchval("select count(*) from many") == 5000
    try:
        await conn.executemany("insert into many values ($1, $2)", [(9000, "undone"), (1, "again"), (9001, "never")])
    except asyncpg.UniqueViolationError as error:
        assert error.constraint_name == "many_pkey"
    else:
        raise AssertionError("the violation went unnoticed")
    assert await conn.fetchval("select count(*) from many") == 5000  # the batch is one implicit transaction
    rows = await conn.fetchmany("insert into many values ($1, $2) returning a", [(n, "x") for n in range(5000, 5100)])
    assert [row["a"] for row in rows] == list(range(5000, 5100))


async def copy(conn):
    out = io.BytesIO()
    assert await conn.copy_from_table("many", output=out, format="csv") == "COPY 5100"
    assert out.getvalue().count(b"\n") == 5100
    await conn.execute("create table copied (like many)")
    out.seek(0)
    assert await conn.copy_to_table("copied", source=out, format="csv") == "COPY 5100"
    assert await conn.copy_records_to_table("copied", records=((n, "binary") for n in range(30_000))) == "COPY 30000"
    assert await conn.fetchval("select count(*) from copied where b = 'binary'") == 30_000
    out = io.BytesIO()
    assert await conn.copy_from_query("select * from copied where a < $1", 10, output=out) == "COPY 20"

    async def broken():
        yield b"1\tx\n"
        raise RuntimeError("the source dried up")

    try:
        await conn.copy_to_table("copied", source=broken())
    except RuntimeError:
        pass
    assert await conn.fetchval("select count(*) from copied") == 35_100


async def cursors(conn):
    async with conn.transaction():
        total = 0
        async for row in conn.cursor("select g from generate_series(1, 1234) g", prefetch=100):
            total += row["g"]
        assert total == 1234 * 1235 // 2
        cursor = await conn.cursor("select g from generate_series(1, 100) g")
        await cursor.forward(10)
        assert [row["g"] for row in await cursor.fetch(3)] == [11, 12, 13]


async def cancel(conn):
    try:
        await conn.fetch("select pg_sleep(60)", timeout=0.3)
    except asyncio.TimeoutError:
        pass
    assert await conn.fetchval("select 1") == 1
    task = asyncio.create_task(conn.execute("select pg_sleep(60)"))
    running = "select count(*) from pg_stat_activity where pid = $1 and state = 'active' and query like '%pg_sleep(60)%'"
    other = await connect()
    while await other.fetchval(running, conn.get_server_pid()) == 0:
        await asyncio.sleep(0)
    await other.close()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    assert await conn.fetchval("select 2") == 2


async def listen(conn):
    other = await connect()
    heard = asyncio.Queue()

    def hear(*event):
        heard.put_nowait(event)

    await conn.add_listener("suite", hear)
    for n in range(3):
        await other.execute("select pg_notify('suite', $1)", str(n))
    got = [await asyncio.wait_for(heard.get(), 20) for _ in range(3)]  # the connection is idle meanwhile
    assert [(event[1], event[3]) for event in got] == [(other.get_server_pid(), str(n)) for n in range(3)]
    await conn.remove_listener("suite", hear)
    messages = []
    conn.add_log_listener(lambda _, message: messages.append((message.severity, message.message)))
    await conn.execute("do $$ begin raise warning 'careful'; end $$")
    await asyncio.sleep(0)
    assert messages == [("WARNING", "careful")], messages
    await other.close()


async def transactions(conn):
    async with conn.transaction(isolation="serializable"):
        await conn.execute("create table moved (a int)")
        try:
            async with conn.transaction():
                await conn.execute("insert into moved values (1)")
                await conn.execute("select 1/0")
        except asyncpg.DivisionByZeroError:
            pass
        await conn.execute("insert into moved values (2)")
    assert await conn.fetch("select a from moved") == [(2,)]
    try:
        await conn.execute("select * from nowhere")
    except asyncpg.UndefinedTableError as error:
        assert error.position == "15"
    await conn.reset()  # several statements in one simple query


async def pool():
    async with asyncpg.create_pool(
        host=os.environ["PGHOST"], port=int(os.environ["PGPORT"]), user=os.environ["PGUSER"],
        database=os.environ["PGDATABASE"], min_size=4, max_size=8,
    ) as pool:
        got = await asyncio.gather(*(pool.fetchval("select $1::int from pg_sleep(0.001)", n) for n in range(300)))
        assert got == list(range(300))


async def main():
    conn = await connect(server_settings={"application_name": "suite"})
    assert await conn.fetchval("show application_name") == "suite"
    for test in (prepared, batches, copy, cursors, cancel, listen, transactions):
        print(test.__name__, flush=True)
        await test(conn)
    await conn.close()
    await pool()
    print(f"all passed (asyncpg {asyncpg.__version__})")


asyncio.run(main())
