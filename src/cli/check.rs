//! `pgcanon check`: what `run` would stumble over, and what would become of an application's statements, found without
//! serving anybody.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::capture::lanes::Fate;
use crate::cli::{ConfigFile, FAILED, USAGE, block_on, load};
use crate::cluster::check::{Finding, check};
use crate::cluster::classify::{Verdict, classify};
use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgcanon check --config /etc/pgcanon/a.toml
  pgcanon check --config /etc/pgcanon/a.toml --sql app.sql           # in which lane, or why refused
  pg_dump app | pgcanon check --config /etc/pgcanon/a.toml --sql - --json

With --sql, names mean what they mean to the role of `node.control` and in its search_path; nothing is executed. Lines of
psql's and pgbench's own commands and the data of COPY are skipped; their variables (:name) count as parameters.")]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Tell of each statement in this file (- is standard input) how it will travel; exit code 1 if one would be refused
    #[arg(long, value_name = "FILE")]
    sql: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long, requires = "sql")]
    json: bool,
}

pub(super) fn run(args: Args) -> Result<ExitCode, u8> {
    let config = load(&args.file.config)?;
    match &args.sql {
        Some(path) => check_sql(&config, path, args.json),
        None => check_node(&config, &args.file.config),
    }
}

fn check_node(config: &Config, path: &Path) -> Result<ExitCode, u8> {
    println!("ok      configuration {}", path.display());
    let findings = block_on(check(config))?.map_err(|e| {
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

fn check_sql(config: &Config, path: &Path, json: bool) -> Result<ExitCode, u8> {
    let script = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).map(String::into_bytes)
    } else {
        std::fs::read(path)
    };
    let script = script.map_err(|e| {
        eprintln!("pgcanon: cannot read {}: {e}", path.display());
        USAGE
    })?;
    if config.tables.is_empty() {
        eprintln!("pgcanon: there is no [[table]] rule: nothing is replicated, and every statement is relayed");
    }
    let verdicts = block_on(classify(config, &script))?.map_err(|e| {
        eprintln!("pgcanon: {e}");
        USAGE
    })?;
    if json {
        for verdict in &verdicts {
            match serde_json::to_string(verdict) {
                Ok(line) => println!("{line}"),
                Err(e) => eprintln!("pgcanon: {e}"),
            }
        }
    } else {
        print!("{}", table(&verdicts));
    }
    let refused = verdicts.iter().any(|verdict| verdict.fate == Fate::Refused);
    if refused { Err(FAILED) } else { Ok(ExitCode::SUCCESS) }
}

/// Longer shapes are cut, so that the reasons stand in one column.
const SHAPE_WIDTH: usize = 70;

/// The verdicts as people read them.
fn table(verdicts: &[Verdict]) -> String {
    let shape_width = verdicts.iter().map(|v| v.shape.chars().count()).max().unwrap_or(0).clamp(9, SHAPE_WIDTH);
    let mut out = format!("{:>6}  {:<9}  {:<shape_width$}  reason\n", "line", "lane", "statement");
    for Verdict { line, shape, fate, reason, detail, hint } in verdicts {
        let mut shape = shape.clone();
        if shape.chars().count() > SHAPE_WIDTH {
            shape = shape.chars().take(SHAPE_WIDTH.saturating_sub(3)).chain("...".chars()).collect();
        }
        out.push_str(&format!("{line:>6}  {fate:<9}  {shape:<shape_width$}  {reason}\n"));
        for (word, text) in [("DETAIL", detail), ("HINT", hint)] {
            if let Some(text) = text {
                out.push_str(&format!("{:>6}  {:<9}  {:<shape_width$}  {word}: {text}\n", "", "", ""));
            }
        }
    }
    out.push_str(&summary(verdicts));
    out
}

/// `5 statements: 2 row, 3 relayed`
fn summary(verdicts: &[Verdict]) -> String {
    let mut counts = std::collections::BTreeMap::<Fate, usize>::new();
    for verdict in verdicts {
        let count = counts.entry(verdict.fate).or_default();
        *count = count.saturating_add(1);
    }
    let counts: Vec<String> = counts.iter().map(|(fate, count)| format!("{count} {fate}")).collect();
    match verdicts.len() {
        0 => "no statements\n".to_owned(),
        1 => format!("1 statement: {}\n", counts.join(", ")),
        n => format!("{n} statements: {}\n", counts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::entry::Lane;

    #[test]
    fn the_table_is_aligned_and_ends_with_a_summary() {
        let verdict = |line, shape: &str, fate, reason: &str, hint: Option<&str>| Verdict {
            line,
            shape: shape.to_owned(),
            fate,
            reason: reason.to_owned(),
            detail: None,
            hint: hint.map(ToOwned::to_owned),
        };
        let verdicts = [
            verdict(1, "select ?", Fate::Relayed, "writes no replicated table", None),
            verdict(12, &"x".repeat(99), Fate::Travelled(Lane::Row), "calls now()", None),
            verdict(13, "delete from v", Fate::Refused, "v is a view", Some("Write t.")),
        ];
        let told = table(&verdicts);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 6, "{told}");
        let column = lines.first().and_then(|l| l.find("reason"));
        for (line, text) in [(1, "writes no"), (2, "calls now()"), (3, "v is a view"), (4, "HINT: Write t.")] {
            assert_eq!(lines.get(line).and_then(|l| l.find(text)), column, "{told}");
        }
        assert_eq!(lines.last(), Some(&"3 statements: 1 row, 1 refused, 1 relayed"));
        assert_eq!(table(&[]).lines().last(), Some("no statements"));
    }
}
