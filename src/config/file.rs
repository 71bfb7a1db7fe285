//! The whole file: every section read, every problem found, or the configuration.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::allow::Allow;
use super::capture::Capture;
use super::console::ConsoleUser;
use super::env::Env;
use super::node::{self, Node};
use super::peer::{Names, Peer};
use super::problem::{Complaint, ConfigErrors, Problem};
use super::section::{Item, Reading, Section};
use super::table::TableRule;
use super::tls::Tls;

/// One node's configuration, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[node]`.
    pub node: Node,
    /// `[tls]`.
    pub tls: Tls,
    /// `[[allow]]`, in order.
    pub allow: Vec<Allow>,
    /// `[capture]`.
    pub capture: Capture,
    /// `[[console_user]]`.
    pub console_users: Vec<ConsoleUser>,
    /// `[[peer]]`.
    pub peers: Vec<Peer>,
    /// `[[table]]`, in order.
    pub tables: Vec<TableRule>,
}

impl Config {
    /// Reads and checks the file at `path`, and the files it names.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Self::load_with(path, &|name| std::env::var(name).ok())
    }

    /// [`Config::load`] with another environment.
    pub(super) fn load_with(path: &Path, env: &Env<'_>) -> Result<Self, ConfigErrors> {
        let problem = |line, message: String| {
            ConfigErrors(vec![Problem { file: path.to_owned(), line, key: None, message, suggestion: None }])
        };
        let bytes = std::fs::read(path).map_err(|e| problem(None, format!("the configuration cannot be read: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let before = e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default();
            let line = memchr::memchr_iter(b'\n', before).count().saturating_add(1);
            problem(Some(line), "this line is not UTF-8".to_owned())
        })?;
        let reading = Reading { file: path, text: &text, env, problems: Default::default() };
        let config = read(&reading);
        let mut problems = reading.problems.into_inner();
        problems.sort_by_key(|p| p.line);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ if problems.is_empty() => Err(problem(None, "the configuration cannot be used".to_owned())),
            _ => Err(ConfigErrors(problems)),
        }
    }
}

fn read(reading: &Reading<'_>) -> Option<Config> {
    let (document, errors) = DeTable::parse_recoverable(reading.text);
    for error in &errors {
        let line = error.span().map(|span| reading.line(span.start));
        reading.report(line, None, Complaint::new(error.message().replace('\n', ", ")));
    }
    // What can be saved from a broken file would only draw complaints about what is lost.
    if !errors.is_empty() {
        return None;
    }
    sections(reading, document.get_ref())
}

fn sections<'a>(reading: &'a Reading<'a>, document: &'a DeTable<'a>) -> Option<Config> {
    let mut top = Section::new(reading, "", 1, document);
    let node = top.take("node");
    if node.is_none() {
        reading.report(None, Some("node"), Complaint::new("the section [node] is missing"));
    }
    let node = node.and_then(|item| Node::read(single(reading, &item)?));
    let tls = top.take("tls").and_then(|item| Some(Tls::read(single(reading, &item)?))).unwrap_or_default();
    let capture = top.take("capture").and_then(|item| Some(Capture::read(single(reading, &item)?))).unwrap_or_default();
    let allow = many(reading, &mut top, "allow").into_iter().map(Allow::read).collect();
    let mut names =
        Names { node: node.as_ref().map(|n| n.name.clone()), incomplete: node.is_none(), ..Names::default() };
    let peers = many(reading, &mut top, "peer").into_iter().map(|s| Peer::read(s, &mut names)).collect::<Vec<_>>();
    let mut console_users = Vec::new();
    for section in many(reading, &mut top, "console_user") {
        console_users.extend(ConsoleUser::read(section, &console_users));
    }
    let mut tables = Vec::new();
    for section in many(reading, &mut top, "table") {
        tables.extend(TableRule::read(section, &names, &tables));
    }
    top.finish(|key| node::KEYS.contains(&key).then(|| "it belongs under [node]".to_owned()));
    Some(Config {
        path: reading.file.to_owned(),
        node: node?,
        tls,
        allow,
        capture,
        console_users,
        peers: peers.into_iter().collect::<Option<_>>()?,
        tables,
    })
}

/// The section of a `[name]`.
fn single<'a>(reading: &'a Reading<'a>, item: &Item<'a>) -> Option<Section<'a>> {
    if reading.each(item).len() != 1 || item.is_list() {
        reading.object(item, Complaint::new(format!("there is one of these; write it [{}]", item.key)));
        return None;
    }
    Section::of(reading, item)
}

/// The sections of all `[[name]]`.
fn many<'a>(reading: &'a Reading<'a>, top: &mut Section<'a>, name: &'static str) -> Vec<Section<'a>> {
    let Some(item) = top.take(name) else {
        return Vec::new();
    };
    if !item.is_list() {
        reading.object(&item, Complaint::new(format!("there may be several of these; write each [[{name}]]")));
        return Vec::new();
    }
    reading.each(&item).iter().filter_map(|item| Section::of(reading, item)).collect()
}
