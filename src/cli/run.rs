//! `pgcanon run`.

use std::io;
use std::process::ExitCode;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, reload};

use crate::cli::{ConfigFile, USAGE, block_on, load};
use crate::config::{LogFormat, Node};
use crate::node::{self, LogFilter};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon run --config /etc/pgcanon/a.toml
  psql -h 127.0.0.1 -p 6432 app         # the node, through its proxy

Signals:
  SIGTERM, SIGINT   end sessions as they get idle; a second one ends them now
  SIGHUP            read the configuration and the certificates again")]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let config = load(&args.file.config)?;
    let log = start_log(&config.node);
    match block_on(node::run(args.file.config, config, log))? {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e) => {
            eprintln!("pgcanon: {e}");
            Err(USAGE)
        }
    }
}

/// Logs to standard error; what is logged can be changed later.
fn start_log(node: &Node) -> LogFilter {
    let filter = |directives: &str| EnvFilter::builder().parse(directives).ok();
    let (level, handle) = reload::Layer::new(filter(&node.log_level).unwrap_or_default());
    let lines = fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(level);
    match node.log {
        LogFormat::Json => registry.with(lines.json()).init(),
        LogFormat::Text => registry.with(lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr()))).init(),
    }
    Box::new(move |directives| filter(directives).is_some_and(|new| handle.reload(new).is_ok()))
}
