# The commands of this project; each installs what it needs.

.PHONY: demo test bench soak fuzz

# Three nodes and their proxies from nothing, pgbench on all of them, one killed and brought back, the proof that all are
# equal, and nothing left behind. DEMO passes options (pgcanon demo --help), such as DEMO=--keep.
demo:
	tests/setup server
	cargo build --release --locked
	target/release/pgcanon demo $(DEMO)

# Everything that must hold; the unit tests also optimized as what users run: compilers err there, too. FUZZ_SECONDS is the
# time of each fuzz target.
test: FUZZ_SECONDS ?= 10
test:
	tests/setup
	cargo test --locked
	cargo test --locked --profile optimized --lib
	tests/fuzz/run $(FUZZ_SECONDS)

# Ratios measured side by side: the server, pgbouncer, pgcanon. BENCH passes options (benches/run --help).
bench:
	tests/setup bench
	cargo build --release --locked
	benches/run $(BENCH)

# All of `test` as users run it, and what it runs shortened at its full length.
soak:
	tests/setup
	cargo test --release --locked
	LARGE_MIB=1024 cargo test --release --locked --test capture a_large_transaction
	FAULT_KILLS=100 cargo test --release --locked --test faults -- --nocapture b8 exactly_once
	VERSION_SETS=250 cargo test --release --locked --test apply no_order
	SETTLE_SECONDS=120 cargo test --release --locked --test replicate -- --nocapture --test-threads 1 by_chance c1_ c2_ c3_ c4_
	BOUNDED_SECONDS=3600 cargo test --release --locked --test replicate -- --nocapture what_is_remembered
	CONVERGE_ALL=1 cargo test --release --locked --test replicate -- --nocapture --test-threads 1 converge::

# The fuzz targets for longer.
fuzz:
	tests/fuzz/run $(or $(FUZZ_SECONDS),300)
