"""Nodes with their proxies, which replicate to each other."""
import os
import shutil

PEER = '''
[[peer]]
name = "{peer}"
connect = "host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=disable"
spill_after = "1s"
max_queue_bytes = "64GB"
'''


class Cluster:
    """Its servers are called `server-NODE`, its proxies `node-NODE`."""

    def __init__(self, bench, free_port, nodes):
        self.bench, self.free_port, self.nodes, self.servers = bench, free_port, nodes, {}

    def start(self, settings, fill, rules):
        """`fill` makes the tables of a node, `rules` are those of all nodes."""
        bench = self.bench
        for node in self.nodes:
            data, port = os.path.join(bench.dir, 'data-' + node), self.free_port()
            bench.command(bench.bin + '/initdb', '-U', 'postgres', '-A', 'trust', '--no-sync', '-D', data)
            shutil.copy(os.path.join(bench.dir, 'data', 'postgresql.conf'), data)
            with open(data + '/postgresql.conf', 'a') as conf:
                conf.write(f'port = {port}\n{settings}')
            bench.ports['server-' + node] = port
            self.launch(node)
            fill(node)
        for node in self.nodes:
            peers = ''.join(PEER.format(peer=peer, port=bench.ports['server-' + peer]) for peer in self.nodes if peer != node)
            extra = 'control = "user=postgres dbname=postgres"\nlog_level = "warn"\n'
            server = f"host=127.0.0.1 port={bench.ports['server-' + node]}"
            config = bench.configure('node-' + node, server, extra, peers + rules, name=node)
            bench.command(bench.program('node-' + node), 'init', '--grant', '--config', config)
        for node in self.nodes:
            bench.run_pgcanon('node-' + node)

    def launch(self, node):
        data = os.path.join(self.bench.dir, 'data-' + node)
        self.servers[node] = self.bench.spawn('server-' + node, self.bench.bin + '/postgres', '-D', data)
        self.bench.wait('server-' + node)

    def stop_server(self, node):
        server = self.servers.pop(node)
        server.send_signal(2)
        server.wait(60)
        self.bench.children.remove(server)

    def sql(self, node, text):
        bench = self.bench
        return bench.command(bench.bin + '/psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', *bench.at('server-' + node), '-c', text,
                             'postgres').strip()
