//! `pgcanon init`: makes schema `pgcanon` in the node's database, or removes it.

use std::process::ExitCode;

use crate::cli::{ConfigFile, FAILED, USAGE, block_on, load};
use crate::cluster::init::{BY_NODES, InitError, Options, Outcome, Sequences, init};
use crate::config::ConnInfo;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon init --config /etc/pgcanon/a.toml
  pgcanon init --config /etc/pgcanon/a.toml --dry-run            # the SQL that it would run
  pgcanon init --config /etc/pgcanon/a.toml --connect 'user=postgres' --grant
  pgcanon init --config /etc/pgcanon/a.toml --sequences          # on every node, while nobody writes
  pgcanon init --config /etc/pgcanon/a.toml --sequences=10       # with room for more nodes
  pgcanon init --config /etc/pgcanon/a.toml --drop

Everything belongs to the role of `node.control`. That role needs CREATE on the database; what it may not do
(roles, rights on tables of others) is named, and left out.")]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Connect as an administrator instead of the role of `node.control`; what is left out is as there
    #[arg(long, value_name = "CONNINFO")]
    connect: Option<String>,
    /// Print the SQL and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Let role pgcanon_apply write the tables that the rules name
    #[arg(long, conflicts_with = "drop")]
    grant: bool,
    /// Let this node's sequences, as far as ruled tables use them, hand out numbers that no other node's do: each STEPth (as many
    /// as the configuration has nodes, unless more is said), from its place among all names (or OFFSET) on; `off` takes it back
    #[arg(
        long, value_name = "STEP[:OFFSET]|off", num_args = 0..=1, require_equals = true, default_missing_value = BY_NODES,
        hide_default_value = true, conflicts_with = "drop"
    )]
    sequences: Option<Sequences>,
    /// Remove the schema with all that is in it, and the roles that `init` made
    #[arg(long)]
    drop: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let config = load(&args.file.config)?;
    let connect = args.connect.as_deref().map(connect_info).transpose()?;
    let options =
        Options { connect, dry_run: args.dry_run, remove: args.drop, grant: args.grant, sequences: args.sequences };
    let (plan, outcomes) = block_on(init(&config, &options))?.map_err(|e| {
        eprintln!("pgcanon: {e}");
        match e {
            InitError::Foreign { .. } | InitError::Newer { .. } | InitError::Look(_) | InitError::Catalog(_) => FAILED,
            _ => USAGE,
        }
    })?;
    if args.dry_run {
        print!("{plan}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = false;
    if plan.is_empty() {
        println!("ok      nothing to do");
    }
    let mut last = None;
    for outcome in &outcomes {
        let (word, text) = match outcome {
            // A migration has many statements and is one thing.
            Outcome::Done(_) if last == Some(outcome) => continue,
            Outcome::Done(text) => ("done   ", text),
            Outcome::Note(text) => ("note   ", text),
            Outcome::Failed(text) => {
                failed = true;
                ("FAILED ", text)
            }
        };
        last = Some(outcome);
        println!("{word} {}", text.replace('\n', "\n        "));
    }
    if failed { Err(FAILED) } else { Ok(ExitCode::SUCCESS) }
}

fn connect_info(text: &str) -> Result<ConnInfo, u8> {
    let info = ConnInfo::parse(text).and_then(|info| info.check().map(|()| info));
    info.map_err(|e| {
        eprintln!("pgcanon: --connect: {e}");
        USAGE
    })
}
