//! `pgcanon check`: what `run` would stumble over, found without serving anybody.

use std::process::ExitCode;

use crate::cli::{ConfigFile, FAILED, USAGE, block_on, load};
use crate::cluster::check::{Finding, check};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon check --config /etc/pgcanon/a.toml")]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let config = load(&args.file.config)?;
    println!("ok      configuration {}", args.file.config.display());
    let findings = block_on(check(&config))?.map_err(|e| {
        eprintln!("pgcanon: {e}");
        USAGE
    })?;
    let mut failed = false;
    for finding in findings {
        match finding {
            Finding::Ok(what) => println!("ok      {what}"),
            Finding::Warning(what) => println!("warning {what}"),
            Finding::Failed(what) => {
                failed = true;
                println!("FAILED  {what}");
            }
        }
    }
    if failed { Err(FAILED) } else { Ok(ExitCode::SUCCESS) }
}
