//! The `pgcanon` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgcanon::cli::main()
}
