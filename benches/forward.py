"""What replication to a second node costs, and how fast a backlog goes: both nodes, both proxies and pgbench on one machine.

Prints, for TPC-B through one of the proxies: the clients' throughput as a ratio to `direct` in the same round, the processor
time of all servers and proxies for a transaction, how long the peer takes to have everything after the load has ended, and
whether both are equal then. Last a backlog: what the peer misses while it is down, how fast that is made good, as a ratio to
the load which made it, and what memory the proxy needs for it.
"""
import os
import statistics
import time

from cluster import Cluster

TICKS = os.sysconf('SC_CLK_TCK')

RULES = '\n[[table]]\nname = "public.pgbench_*"\n'

SUM = ' union all '.join(
    f"select '{table}', count(*), sum(hashtext(t.*::text)::int8) from pgbench_{table} t"
    for table in ('accounts', 'branches', 'tellers', 'history')) + ' order by 1'  # large tables may be summed side by side


class Forward:
    def __init__(self, bench, free_port, status):
        self.bench, self.status, self.cluster = bench, status, Cluster(bench, free_port, 'ab')
        self.sql = self.cluster.sql

    def run(self):
        bench = self.bench
        cells = [(f'forward: TPC-B, {protocol}, {clients} clients', protocol, clients)
                 for protocol in ('simple', 'prepared') for clients in (1, 8, 32)]
        cells = [cell for cell in cells if self.bench.wanted(cell[0])]
        backlog = self.bench.wanted('forward: backlog')
        if not cells and not backlog:
            return
        fill = lambda node: bench.command(bench.bin + '/pgbench', '-q', '-i', '-s', '10', *bench.at('server-' + node), 'postgres')
        self.cluster.start('', fill, RULES)
        if cells:
            print(f"\n{'':<38}{'direct/s':>9}   {'replicated':<17}   {'CPU µs/tx: direct':>18}{'replicated':>12}{'catch-up s':>14}")
        for title, protocol, clients in cells:
            self.cell(title, clients, '-M', protocol)
        if backlog:
            self.backlog(self.bench.args.backlog)

    def caught_up(self):
        """Seconds until *b* has as many transactions as *a*, and whether both are equal."""
        began = time.monotonic()
        count = 'select count(*) from pgbench_history'
        there = self.sql('a', count)
        # A long queue first: counting a large table again and again would take the processor from those who empty it.
        while self.sql('a', "select count(*) from pgcanon.peer where state = 'spilling'") != '0' or self.sql('b', count) != there:
            if time.monotonic() - began > 600:
                return float('inf'), False
            time.sleep(0.02)
        return time.monotonic() - began, self.sql('a', SUM) == self.sql('b', SUM)

    def cell(self, title, clients, *more):
        bench, ratios, direct, catch, costs = self.bench, [], [], [], {'direct': [], 'node-a': []}
        equal = True
        for turn in range(bench.args.rounds):
            rates = {}
            for name in ('direct', 'node-a') if turn % 2 == 0 else ('node-a', 'direct'):
                before = self.cpu()
                rates[name], transactions = bench.pgbench(name, clients, *more)
                if name == 'node-a':
                    seconds, same = self.caught_up()
                    catch.append(seconds)
                    equal &= same
                costs[name].append((self.cpu() - before) / transactions * 1e6)
            direct.append(rates['direct'])
            ratios.append(rates['node-a'] / rates['direct'])
        cost = {name: statistics.median(seen) for name, seen in costs.items()}
        print(f"{title:<38}{statistics.median(direct):>9,.0f}   {statistics.median(ratios):.2f} [{min(ratios):.2f}..{max(ratios):.2f}]"
              f"   {cost['direct']:>18,.0f}{cost['node-a']:>12,.0f}   {statistics.median(catch):5.2f} (max {max(catch):.2f})"
              + ('' if equal else '   NOT EQUAL'), flush=True)

    def cpu(self):
        """Seconds of all servers and proxies, with what has ended."""
        pids = {child.pid for child in self.bench.children}
        stats = {}
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/stat') as f:
                    fields = f.read().rpartition(')')[2].split()
                stats[int(pid)] = fields
            except OSError:
                continue
        ours = {pid for pid in stats if pid in pids or int(stats[pid][1]) in pids}
        # utime, stime; of those who have ended, what their parents have waited for.
        return sum(sum(int(stats[pid][i]) for i in ((11, 12, 13, 14) if pid in pids else (11, 12))) for pid in ours) / TICKS

    def backlog(self, count):
        bench, clients = self.bench, 8
        self.caught_up()
        pid = bench.pids['node-a']
        before = self.status(pid, 'VmRSS')
        self.cluster.stop_server('b')
        began = time.monotonic()
        bench.command(bench.bin + '/pgbench', '-n', *bench.at('node-a'), '-c', str(clients), '-j', '2', '-t', str(count // clients),
                      '-M', 'prepared', 'postgres', user=False)
        made = time.monotonic() - began
        self.cluster.launch('b')
        seconds, same = self.caught_up()
        print(f'\nforward: backlog of {count:,} transactions, made in {made:.1f} s, gone {seconds:.1f} s after the peer is back: '
              f'{made / seconds:.1f} times as fast as it was made, {count / seconds:,.0f}/s'
              f"\n  the proxy's memory {before / 1024:.0f} MiB before, {self.status(pid, 'VmRSS') / 1024:.0f} MiB after, "
              f"{self.status(pid, 'VmHWM') / 1024:.0f} MiB at most" + ('' if same else '   NOT EQUAL'), flush=True)
