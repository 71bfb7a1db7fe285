"""What capture costs: the same transactions directly, through the proxy without a rule, and captured, in one run.

Prints ratios to `direct` in the same round and, in the last columns, what the rules alone cost: captured ÷ without a rule,
and how much of that nobody could save who writes a row of that size beside each change: clients who do so themselves, in the
same message, through the proxy without a rule. Then bytes: what one changed row takes in the journal, beside the WAL that the
change itself writes.
"""
import os
import statistics

CONTENDERS = ('direct', 'pgcanon', 'capture')

RULES = '''
[[table]]
name = "public.pgbench_*"
[[table]]
name = "public.upsert_*"
'''

TABLES = '''
create table upsert_plain (id int primary key, n int not null, note text);
create table upsert_moving (id int primary key, n int not null, seen timestamptz);
'''

# What each transaction changes is known beforehand: the journal's bytes are told per changed row.
SCRIPTS = {
    'upsert': (1, r'''\set id random(1, 100000)
insert into upsert_plain (id, n, note) values (:id, 1, 'abc') on conflict (id) do update set n = upsert_plain.n + 1;
'''),
    'upsert with random(), now()': (1, r'''\set id random(1, 100000)
insert into upsert_moving (id, n, seen) values (:id, (random() * 1000)::int, now())
on conflict (id) do update set n = excluded.n, seen = excluded.seen;
'''),
}

# The same by clients who write into a table like the journal themselves; the bytes are as many as capture makes of each.
BY_HAND = {
    'TPC-B': (850, r'''\set aid random(1, 100000 * :scale)
\set bid random(1, :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
\startpipeline
{row}
END;
\endpipeline
'''),
    'upsert': (240, r'''\set id random(1, 100000)
\startpipeline
insert into upsert_plain (id, n, note) values (:id, 1, 'abc') on conflict (id) do update set n = upsert_plain.n + 1;
{row}
\endpipeline
'''),
}

JOURNAL = '''
select coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'pgcanon' and c.relname ~ '^journal_[0-9]+$'
'''


class Capture:
    def __init__(self, bench):
        self.bench = bench
        self.loads = {'TPC-B': (4, []), 'TPC-B -N': (2, ['-N'])}
        for number, (name, (rows, script)) in enumerate(SCRIPTS.items()):
            path = os.path.join(bench.dir, f'script-{number}.sql')
            with open(path, 'w') as f:
                f.write(script)
            self.loads[name] = (rows, ['-f', path])
        self.by_hand = {}
        for number, (name, (size, script)) in enumerate(BY_HAND.items()):
            path = os.path.join(bench.dir, f'by-hand-{number}.sql')
            row = f"INSERT INTO by_hand (slot, meta, data) VALUES (0, '\\\\x{'2a' * size}'::bytea, '');"
            with open(path, 'w') as f:
                f.write(script.replace('{row}', row))
            self.by_hand[name] = ['-s', str(bench.scale), '-f', path]

    def start(self):
        """Makes the tables and the journal, and puts a proxy with rules before them."""
        self.sql(TABLES)
        extra = 'control = "user=postgres dbname=postgres"\n'
        config = self.bench.configure('capture', f"host=127.0.0.1 port={self.bench.ports['direct']}", extra, RULES)
        self.bench.command(self.bench.program('capture'), 'init', '--config', config)
        self.sql('create table by_hand (like pgcanon.journal_0 including defaults)')
        self.bench.ports['by hand'] = self.bench.ports['pgcanon']
        self.bench.run_pgcanon('capture')

    def sql(self, text):
        bench = self.bench
        return bench.command(bench.bin + '/psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', *bench.at('direct'), '-c', text, 'postgres').strip()

    def run(self):
        cells = [(f'capture: {load}, {protocol}, {clients} clients', load, protocol, clients)
                 for load in self.loads for protocol in ('simple', 'prepared') for clients in (1, 8, 32)]
        cells = [cell for cell in cells if self.bench.wanted(cell[0])]
        weigh = self.bench.wanted('capture: bytes')
        if not cells and not weigh:
            return
        self.start()
        if cells:
            print(f"\n{'':<58}{'direct/s':>9}   {'no rule':<17}   {'captured':<17}   {'captured ÷ no rule':<20}by hand ÷ no rule")
        for title, load, protocol, clients in cells:
            self.cell(title, clients, load, '-M', protocol)
        if cells and self.sql('select count(*) from pgcanon.journal') == '0':
            print('NOTHING WAS CAPTURED: the journal is empty, and the ratios above say nothing')
        if weigh:
            self.bytes()

    def cell(self, title, clients, load, *more):
        by_hand = self.by_hand.get(load) if 'prepared' in more else None
        contenders = CONTENDERS + ('by hand',) if by_hand else CONTENDERS
        seen, _ = self.bench.measure(contenders, clients, *more, *self.loads[load][1], instead={'by hand': [*more, *(by_hand or ())]})

        def ratio(over, under):
            ratios = [a / b for a, b in zip(seen[over], seen[under])]
            return f'   {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]'

        print(f"{title:<58}{statistics.median(seen['direct']):>9,.0f}" + ratio('pgcanon', 'direct') + ratio('capture', 'direct')
              + ratio('capture', 'pgcanon') + ('   ' + ratio('by hand', 'pgcanon') if by_hand else ''), flush=True)

    def bytes(self):
        """One client, a fixed number of transactions, no pages written whole: the WAL of the changes and of nothing else."""
        count = 200 if self.bench.args.seconds < 3 else 2000
        for setting in ('full_page_writes', 'autovacuum'):
            self.sql(f'alter system set {setting} = off')
        self.sql('select pg_reload_conf()')
        heads = ('journal row', 'journal on disk', 'WAL direct', 'WAL captured', 'ratio')
        print(f"\n{'Bytes for one changed row':<58}" + ''.join(f'{head:>17}' for head in heads))
        for load, (rows, flags) in self.loads.items():
            def run(contender):
                self.bench.command(self.bench.bin + '/pgbench', '-n', *self.bench.at(contender), '-c', '1', '-t', str(count),
                                   '-M', 'prepared', *flags, 'postgres', user=False)

            def wal(contender):
                run(contender)  # the pages and plans that the first ones pay for
                before = self.sql('select pg_current_wal_insert_lsn()')
                run(contender)
                return int(float(self.sql(f"select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')")))

            direct = wal('direct')
            size, start = int(self.sql(JOURNAL)), self.sql('select pg_current_wal_insert_lsn()')
            captured = wal('capture')
            changed = rows * count
            # Two runs were captured.
            grown = (int(self.sql(JOURNAL)) - size) / (2 * changed)
            content = float(self.sql('select coalesce(sum(octet_length(meta) + octet_length(data)), 0) from pgcanon.journal '
                                     f"where lsn >= '{start}'")) / (2 * changed)
            cells = (f'{content:.0f}', f'{grown:.0f}' if grown >= 0 else 'trimmed', f'{direct / changed:.0f}',
                     f'{captured / changed:.0f}', f'{captured / direct:.2f}')
            print(f"{load + f' ({rows} rows a transaction)':<58}" + ''.join(f'{cell:>17}' for cell in cells), flush=True)
