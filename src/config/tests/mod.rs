//! The configuration as an operator meets it: a file, and what is said about it.

mod example;
mod load;
mod problems;
mod reloading;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::Config;
use super::problem::{ConfigErrors, Problem};

/// A directory with a configuration and the files it may name.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(site.path("certs")).unwrap();
        for (name, mode) in [
            ("ca.crt", 0o644),
            ("server.crt", 0o644),
            ("server.key", 0o600),
            ("open.key", 0o644),
            ("cluster.key", 0o600),
            ("pgpass", 0o600),
        ] {
            let path = site.path(&format!("certs/{name}"));
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, text: &str) -> Result<Config, ConfigErrors> {
        let path = self.path("pgcanon.toml");
        std::fs::write(&path, text).unwrap();
        Config::load_with(&path, &|name| match name {
            "HARD" => Some("p w'\\@:/?".into()),
            "WHOLE" => Some("host=/srv port=1234".into()),
            "NAME" => Some("node1".into()),
            _ => None,
        })
    }
}

pub(super) fn load(text: &str) -> Config {
    Site::new().load(text).unwrap_or_else(|e| panic!("{e}"))
}

/// `text` below a `[node]` with a name, so that its first line is the file's third.
fn load_node(text: &str) -> Config {
    load(&format!("[node]\nname = \"a\"\n{text}"))
}

/// What is wrong with `text`, without the path of the file before each problem.
fn problems(text: &str) -> Vec<String> {
    let problem = |p: &Problem| {
        let shown = p.to_string();
        let file = p.file.display().to_string();
        shown.strip_prefix(&file).and_then(|s| s.strip_prefix(':')).unwrap().to_owned()
    };
    match Site::new().load(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.problems().iter().map(problem).collect(),
    }
}

/// [`problems`] of `text` below a `[node]` with a name, so that its first line is the file's third.
fn node_problems(text: &str) -> Vec<String> {
    problems(&format!("[node]\nname = \"a\"\n{text}"))
}
