//! The demo's live view: each node's pace, and how far its peers are behind, redrawn in place on a terminal.

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::DemoError;
use super::nodes::{Node, Seen};

/// Between two pictures.
const REDRAW: Duration = Duration::from_secs(1);

/// The first column, the second, and one for each peer: all of it fits in 80.
const WIDTHS: (usize, usize, usize) = (6, 7, 21);

pub(super) struct View {
    nodes: Vec<(&'static str, watch::Receiver<Seen>)>,
    terminal: bool,
    colours: bool,
    /// How many lines the picture has that is to be redrawn.
    drawn: usize,
    /// When the load began.
    start: Option<Instant>,
}

/// How one peer stands: what is to be read, and its colour.
struct Cell {
    text: String,
    colour: Option<u8>,
}

const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const RED: u8 = 31;

impl View {
    pub(super) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { nodes: Vec::new(), terminal, colours, drawn: 0, start: None }
    }

    /// From now on the picture shows these.
    pub(super) fn look_at(&mut self, nodes: &[Node]) {
        self.nodes = nodes.iter().map(|node| (node.name, node.seen.subscribe())).collect();
    }

    /// From now on the picture has a time.
    pub(super) fn start_clock(&mut self) {
        self.start = Some(Instant::now());
    }

    /// A line that stays.
    pub(super) fn say(&mut self, line: &str) -> Result<(), DemoError> {
        self.put(&format!("{}{line}\n", self.wipe()))?;
        self.drawn = 0;
        Ok(())
    }

    /// What is drawn stays.
    pub(super) fn settle(&mut self) -> Result<(), DemoError> {
        self.draw("everything has arrived")?;
        self.drawn = 0;
        Ok(())
    }

    /// Draws every second until the work is done.
    pub(super) async fn during<T>(&mut self, what: &str, work: impl Future<Output = T>) -> Result<T, DemoError> {
        let mut work = pin!(work);
        let mut ticks = interval_at(Instant::now() + REDRAW, REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                _ = ticks.tick() => self.draw(what)?,
            }
        }
    }

    fn draw(&mut self, what: &str) -> Result<(), DemoError> {
        let seen: Vec<(&str, Seen)> = self.nodes.iter().map(|(name, seen)| (*name, seen.borrow().clone())).collect();
        let time = self.start.map_or_else(String::new, |start| format!("{:>3} s  ", start.elapsed().as_secs()));
        if self.terminal {
            let picture = format!("{time}{what}\n{}", picture(&seen, self.colours));
            self.put(&format!("{}{picture}", self.wipe()))?;
            self.drawn = picture.lines().count();
        } else if self.start.is_some() {
            self.put(&format!("{time}{}\n", line(&seen)))?;
        }
        Ok(())
    }

    /// What takes the last picture away.
    fn wipe(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) }
    }

    fn put(&self, text: &str) -> Result<(), DemoError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(DemoError::io("cannot write"))
    }
}

/// One row for each node, one column for each as a peer.
fn picture(nodes: &[(&str, Seen)], colours: bool) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let (first, second, other) = WIDTHS;
    let mut text = format!("{:first$}{:>second$}", "node", "tps");
    nodes.iter().for_each(|(name, _)| text.push_str(&format!("  {:other$}", format!("to {name}"))));
    for (name, seen) in nodes {
        text.push_str(&format!("\n{name:first$}{:>second$}", pace(seen)));
        for (peer, _) in nodes {
            let cell = if peer == name || seen.down { Cell::plain("·") } else { cell(seen, peer) };
            text.push_str(&format!("  {}", cell.shown(other, colours)));
        }
    }
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

/// All of it in one line: who does what, and which peers are not simply live.
fn line(nodes: &[(&str, Seen)]) -> String {
    let paces: Vec<String> = nodes.iter().map(|(name, seen)| format!("{name} {}", pace(seen))).collect();
    let mut text = format!("tps: {}", paces.join(", "));
    for (name, seen) in nodes {
        for (peer, _) in nodes.iter().filter(|(peer, _)| peer != name && !seen.down) {
            let cell = cell(seen, peer);
            if cell.text != "live" {
                text.push_str(&format!("; {name}>{peer} {}", cell.text));
            }
        }
    }
    text
}

fn pace(seen: &Seen) -> String {
    match seen.tps {
        _ if seen.down => "down".to_owned(),
        Some(tps) => format!("{tps:.0}"),
        None => "-".to_owned(),
    }
}

/// How a peer stands, as `pgcanon status` of the node says.
fn cell(seen: &Seen, peer: &str) -> Cell {
    let peers = seen.status.get("peers").and_then(Value::as_array);
    let of = peers.and_then(|peers| peers.iter().find(|p| p.get("peer").and_then(Value::as_str) == Some(peer)));
    let Some(of) = of else { return Cell::plain("?") };
    let number = |key: &str| of.get(key).and_then(Value::as_f64);
    let state = of.get("state").and_then(Value::as_str).unwrap_or("?");
    let colour = match state {
        "live" => GREEN,
        "draining" | "connecting" => YELLOW,
        _ => RED,
    };
    let text = match (number("queue_rows"), number("lag_seconds")) {
        (Some(rows), _) if rows > 0.0 => format!("{state} {rows} rows"),
        (_, Some(seconds)) if seconds >= 0.1 => format!("{state} {seconds:.1} s behind"),
        _ => state.to_owned(),
    };
    Cell { text, colour: Some(colour) }
}

// === impl Cell ===

impl Cell {
    fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), colour: None }
    }

    fn shown(&self, width: usize, colours: bool) -> String {
        let padded = format!("{:width$}", self.text);
        match self.colour {
            Some(colour) if colours => format!("\x1b[{colour}m{padded}\x1b[0m"),
            _ => padded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> [(&'static str, Seen); 2] {
        let peer = |name: &str, state: &str, rows: i64, lag: f64| serde_json::json!({ "peers": [{ "peer": name, "state": state, "queue_rows": rows, "lag_seconds": lag }] });
        let a = Seen { tps: Some(812.4), status: peer("b", "spilling", 1204, 3.0), ..Seen::default() };
        let b = Seen { status: peer("a", "live", 0, 0.31), ..Seen::default() };
        [("a", a), ("b", b)]
    }

    #[test]
    fn a_terminal_shows_who_is_behind_whom() {
        assert_eq!(
            picture(&nodes(), false),
            "node      tps  to a                   to b\n\
             a         812  ·                      spilling 1204 rows\n\
             b           -  live 0.3 s behind      ·\n"
        );
        assert!(picture(&nodes(), true).contains("\x1b[31mspilling 1204 rows"));
    }

    #[test]
    fn elsewhere_it_is_a_line() {
        assert_eq!(line(&nodes()), "tps: a 812, b -; a>b spilling 1204 rows; b>a live 0.3 s behind");
        let [a, (name, b)] = nodes();
        let down = Seen { down: true, ..b };
        assert_eq!(line(&[a, (name, down)]), "tps: a 812, b down; a>b spilling 1204 rows");
        let quiet = nodes().map(|(name, _)| (name, Seen::default()));
        assert_eq!(line(&quiet), "tps: a -, b -; a>b ?; b>a ?");
    }
}
