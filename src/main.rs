//! The `pgcanon` command.

use std::process::ExitCode;

/// Sessions take and give back many small buffers, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pgcanon::cli::main()
}
