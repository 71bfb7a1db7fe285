"""What conflicts cost: three nodes on one machine, all of which write one table at once, ten clients each.

Each script has five upserts, five updates and two deletes, by random keys of 30 000. Prints scripts per second of all three
together, as a ratio to three servers that know nothing of each other in the same round; how long it takes after the end until
all have the same rows; and how many conflicts each node has settled.
"""
import os
import re
import statistics
import subprocess
import time

from cluster import Cluster

NODES = 'xyz'
KEYS = 30_000

RULES = '''
[[table]]
name = "public.plain"
[[table]]
name = "public.settled"
conflict = { resolve = "last", by = "commit_time", prefer = "y" }
'''

TABLES = ''.join(f'create table {name} (id int primary key, info text, mod_time timestamptz);' for name in ('plain', 'settled'))

UPSERT = '''\\set id {key}
insert into {table} values (:id, md5(:id::text), now()) on conflict (id) do update
 set info = excluded.info, mod_time = clock_timestamp();
'''
UPDATE = '''\\set id {key}
update {table} set info = md5(random()::text), mod_time = clock_timestamp() where id = :id;
'''
DELETE = '''\\set id {key}
delete from {table} where id = :id;
'''

OWN_KEYS, ALL_KEYS = f'3 * random(0, {KEYS // 3}) + {{turn}}', f'random(1, {KEYS})'


class Masters:
    def __init__(self, bench, free_port):
        self.bench, self.cluster = bench, Cluster(bench, free_port, NODES)

    def run(self):
        cells = [('masters: own keys, no policy', 'plain', OWN_KEYS), ('masters: own keys, last', 'settled', OWN_KEYS),
                 ('masters: every key, last', 'settled', ALL_KEYS)]
        cells = [cell for cell in cells if self.bench.wanted(cell[0])]
        if not cells:
            return
        self.cluster.start('track_commit_timestamp = on\n', lambda node: self.cluster.sql(node, TABLES), RULES)
        print(f"\n{'':<38}{'direct/s':>9}   {'replicated':<17}   {'equal after s':<16}{'conflicts/s':>14}")
        for cell in cells:
            self.cell(*cell)

    def cell(self, title, table, key):
        direct, ratios, waits, conflicts = [], [], [], []
        for turn in range(self.bench.args.rounds):
            rates = {}
            for prefix in ('server-', 'node-') if turn % 2 == 0 else ('node-', 'server-'):
                if prefix == 'node-':
                    before = self.conflicts()
                    rates[prefix] = self.load(prefix, table, key)
                    waits.append(self.equal(table))
                    conflicts.append((self.conflicts() - before) / self.bench.args.seconds)
                else:
                    rates[prefix] = self.load(prefix, table, key)
                    # What they have written by themselves is not what the proxies know of.
                    for node in NODES:
                        self.cluster.sql(node, f'truncate {table}')
            direct.append(rates['server-'])
            ratios.append(rates['node-'] / rates['server-'])
        print(f"{title:<38}{statistics.median(direct):>9,.0f}   {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
              f"   {statistics.median(waits):5.2f} (max {max(waits):5.2f}){statistics.median(conflicts):>14,.0f}", flush=True)

    def load(self, prefix, table, key):
        """Scripts per second of all nodes."""
        bench, running = self.bench, []
        for turn, node in enumerate(NODES):
            script = os.path.join(bench.dir, f'masters-{node}.sql')
            with open(script, 'w') as f:
                for text, times in ((UPSERT, 5), (UPDATE, 5), (DELETE, 2)):
                    f.write(text.format(table=table, key=key.format(turn=turn)) * times)
            argv = [bench.bin + '/pgbench', '-n', *bench.at(prefix + node), '-c', '10', '-T', str(bench.args.seconds), '-M', 'prepared',
                    '-f', script, 'postgres']
            running.append(subprocess.Popen(argv, env=bench.env, cwd=bench.dir, stdin=subprocess.DEVNULL, text=True,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        rate = 0.0
        for client in running:
            out, _ = client.communicate()
            if client.returncode != 0:
                raise RuntimeError(out)
            rate += float(re.search(r'tps = ([\d.]+)', out).group(1))
        return rate

    def equal(self, table):
        """Seconds until all nodes have the same rows."""
        began = time.monotonic()
        rows = f'select count(*), sum(hashtext(t.*::text)::int8), (select count(*) from pgcanon.echo where sent is null) = 0 from {table} t'
        while len({self.cluster.sql(node, rows) for node in NODES}) > 1:
            if time.monotonic() - began > 600:
                return float('inf')
            time.sleep(0.02)
        return time.monotonic() - began

    def conflicts(self):
        return sum(int(self.cluster.sql(node, 'select count(*) from pgcanon.conflict')) for node in NODES)
