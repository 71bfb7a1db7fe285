# pgcanon as a contender of a harness that compares ways to replicate: two or more nodes, each with a proxy in front, clients
# at the first one's. PGCANON is the program to measure. Sourced by the harness, which gives PB_WORK, PB_PROXY_PORT, PB_DB, sql,
# nodes, node_port, spawn, kill_spawned and wait_port.
C_REPLICATES=1 C_NODES=all C_ORDERED=1
PGCANON=${PGCANON:-pgcanon}
c_desc() { "$PGCANON" --version; }
c_conf() { echo "max_connections = 300"; }
config() { echo "$PB_WORK/pgcanon$1.toml"; }
c_start() {
  local i j
  for i in $(nodes); do
    {
      printf '[node]\nname = "n%s"\nlisten = ["127.0.0.1:%s"]\n' "$i" $((PB_PROXY_PORT + i - 1))
      printf 'server = "host=127.0.0.1 port=%s"\ncontrol = "user=postgres dbname=%s"\nlog_level = "warn"\n' "$(node_port "$i")" "$PB_DB"
      for j in $(nodes); do
        [ "$i" = "$j" ] || printf '[[peer]]\nname = "n%s"\nconnect = "host=127.0.0.1 port=%s user=postgres dbname=%s sslmode=disable"\nspill_after = "1s"\n' \
          "$j" "$(node_port "$j")" "$PB_DB"
      done
      printf '[[table]]\nname = "public.*"\n'
    } >"$(config "$i")"
    chmod 644 "$(config "$i")"
    "$PGCANON" init --grant --config "$(config "$i")" >/dev/null || return 1
  done
  for i in $(nodes); do spawn "pgcanon$i" "$PGCANON" run --config "$(config "$i")"; done
  for i in $(nodes); do wait_port $((PB_PROXY_PORT + i - 1)) || return 1; done
}
c_stop() { local i; for i in $(nodes); do kill_spawned "pgcanon$i" TERM; done; }
c_port() { echo "$PB_PROXY_PORT"; }
