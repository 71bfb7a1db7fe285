// node-postgres through a proxy: simple and extended queries, named statements, cursors, COPY streams, cancel.
'use strict';
const assert = require('assert');
const { pipeline } = require('stream/promises');
const { Readable, Writable } = require('stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');
const copy = require('pg-copy-streams');

async function connect(more = {}) {
  const client = new Client(more); // PGHOST and the like
  await client.connect();
  return client;
}

const tests = {
  async queries(c) {
    assert.deepStrictEqual((await c.query('select $1::int as n, $2::text as t, $3::bytea as b', [1, 'ä🐘', Buffer.from([0, 255])])).rows,
      [{ n: 1, t: 'ä🐘', b: Buffer.from([0, 255]) }]);
    const several = await c.query('select 1 as a; select 2 as b; select 3 as c');
    assert.deepStrictEqual(several.map((r) => r.rows[0]), [{ a: 1 }, { b: 2 }, { c: 3 }]);
    assert.strictEqual((await c.query('')).command, null);
    for (let n = 0; n < 30; n++) {
      const r = await c.query({ name: 'double', text: 'select $1::int * 2 as d', values: [n] });
      assert.strictEqual(r.rows[0].d, n * 2);
    }
    // queued without waiting: answers come to the right promise, errors too
    const all = await Promise.allSettled([...Array(200).keys()].map((n) =>
      c.query(`select ${n % 50 === 49 ? '1/0' : n} as v where $1`, [true])));
    all.forEach((r, n) => (n % 50 === 49
      ? assert.strictEqual(r.reason.code, '22012') : assert.strictEqual(r.value.rows[0].v, n)));
    const error = await c.query('select *\nfrom nowhere').catch((e) => e);
    assert.deepStrictEqual([error.code, error.position], ['42P01', '15']);
  },

  async transactions(c) {
    await c.query('create table moved (a int primary key)');
    await c.query('begin');
    await c.query('insert into moved values ($1)', [1]);
    await c.query('savepoint s');
    await assert.rejects(c.query('insert into moved values ($1)', [1]), { code: '23505', table: 'moved' });
    await c.query('rollback to s');
    assert.strictEqual((await c.query('commit')).command, 'COMMIT');
    await c.query('begin');
    await assert.rejects(c.query('select 1/0'));
    assert.strictEqual((await c.query('commit')).command, 'ROLLBACK');
  },

  async cursors(c) {
    const cursor = c.query(new Cursor('select g from generate_series(1, $1) g', [250]));
    const sizes = [];
    for (let rows = await cursor.read(100); rows.length; rows = await cursor.read(100)) sizes.push(rows.length);
    assert.deepStrictEqual(sizes, [100, 100, 50]);
    const early = c.query(new Cursor('select g from generate_series(1, 1000000) g'));
    assert.strictEqual((await early.read(1))[0].g, 1);
    await early.close(); // a portal closed while suspended
    let sum = 0;
    for await (const row of c.query(new QueryStream('select g from generate_series(1, 5000) g', [], { batchSize: 33 }))) sum += row.g;
    assert.strictEqual(sum, 5000 * 5001 / 2);
  },

  async copies(c) {
    await c.query('create table copied (a int, b text)');
    const rows = function* () { for (let n = 0; n < 50000; n++) yield `${n}\trow ä ${n}\n`; };
    const into = c.query(copy.from('copy copied from stdin'));
    await pipeline(Readable.from(rows()), into);
    assert.strictEqual(into.rowCount, 50000);
    let bytes = 0;
    const count = new Writable({ write(chunk, _, done) { bytes += chunk.length; done(); } });
    await pipeline(c.query(copy.to('copy copied to stdout')), count);
    let expected = 0;
    for (const row of rows()) expected += Buffer.byteLength(row);
    assert.strictEqual(bytes, expected);
    await assert.rejects(pipeline(Readable.from(['x\ty\n']), c.query(copy.from('copy copied from stdin'))), { code: '22P02' });
    const failing = c.query(copy.from('copy copied from stdin'));
    failing.write('1\tx\n');
    const refused = new Promise((resolve) => failing.on('error', (e) => e.code === '57014' && resolve()));
    failing.destroy(new Error('gave up')); // CopyFail
    await refused;
    assert.strictEqual((await c.query('select count(*)::int as n from copied')).rows[0].n, 50000);
  },

  async cancel(c) {
    const other = await connect();
    const sleeping = c.query('select pg_sleep(60)');
    sleeping.catch(() => {}); // judged below
    let seen = 0;
    while (!seen) {
      seen = (await other.query("select 1 from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'", [c.processID])).rowCount;
    }
    // the wire's own way: CancelRequest over a new connection
    const { Connection } = require('pg');
    const connection = new Connection();
    connection.connect(Number(process.env.PGPORT), process.env.PGHOST);
    connection.on('connect', () => connection.cancel(c.processID, c.secretKey));
    await assert.rejects(sleeping, { code: '57014' });
    assert.strictEqual((await c.query('select 1 as one')).rows[0].one, 1);
    await other.end();
  },

  async notifications(c) {
    const other = await connect();
    const heard = [];
    const three = new Promise((resolve) => c.on('notification', (m) => heard.push(m.payload) === 3 && resolve()));
    await c.query('listen suite');
    for (const n of ['0', '1', '2']) await other.query('select pg_notify($1, $2)', ['suite', n]);
    await three; // idle meanwhile
    assert.deepStrictEqual(heard, ['0', '1', '2']);
    const notices = [];
    c.on('notice', (m) => notices.push(m.message));
    await c.query("do $$ begin raise notice 'just so'; end $$");
    assert.deepStrictEqual(notices, ['just so']);
    await other.end();
  },

  async pool() {
    const pool = new Pool({ max: 8 });
    const got = await Promise.all([...Array(300).keys()].map((n) => pool.query('select $1::int as n', [n])));
    got.forEach((r, n) => assert.strictEqual(r.rows[0].n, n));
    await pool.end();
  },
};

(async () => {
  const client = await connect({ application_name: 'suite' });
  for (const [name, test] of Object.entries(tests)) {
    console.log(name);
    await test(client);
  }
  await client.end();
  console.log(`all passed (node-postgres ${require('pg/package.json').version})`);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
