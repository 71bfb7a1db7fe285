//! Convergence, by all schedules of a kind (§8): four operations on one row, each by any of the nodes, and in each pause between
//! them any of the nodes may hear of the others. Every schedule has a row of its own, so that all run at once; all nodes must
//! end with the same rows.
//!
//! Where a column says which version is the later one, it is also made to run backwards: so do clocks that differ.

use std::fmt::Write as _;

use crate::common::eventually;
use crate::common::settle::{last_place, reached};
use crate::mesh::Mesh;
use crate::settle::{console, equal, join, mesh, part};

const STEPS: usize = 4;
const OPS: usize = 4;

const TABLE: &str = "create table mm (id int primary key, info text, n int)";

/// What happens in a pause: which of two nodes hears of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Nobody,
    Both,
    /// This node hears of the others.
    Only(usize),
}

/// A pause after each step but the last one.
type Pattern = [Pause; STEPS - 1];

fn patterns(nodes: usize) -> Vec<Pattern> {
    let kinds: Vec<Pause> = [Pause::Nobody, Pause::Both].into_iter().chain((0..nodes).map(Pause::Only)).collect();
    let mut all = Vec::new();
    for a in &kinds {
        for b in &kinds {
            all.extend(kinds.iter().map(|c| [*a, *b, *c]));
        }
    }
    all
}

/// So many of them, by a seed (`CONVERGE_SEED`), or all (`CONVERGE_ALL`).
fn some(patterns: Vec<Pattern>, many: usize) -> Vec<Pattern> {
    if std::env::var_os("CONVERGE_ALL").is_some() {
        return patterns;
    }
    let seed = std::env::var("CONVERGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    let mut rng = crate::common::rng::Rng::new(seed);
    let mut left = patterns;
    let mut pick = || {
        let at = rng.below(u64::try_from(left.len()).unwrap_or(1));
        left.swap_remove(usize::try_from(at).unwrap_or(0))
    };
    (0..many).map(|_| pick()).collect()
}

/// The step of every schedule that this node has to do, as one transaction.
fn step(at: usize, node: usize, nodes: usize, backwards: bool) -> String {
    let choices = nodes * OPS;
    let mut ids: [String; OPS] = Default::default();
    for schedule in 0..choices.pow(u32::try_from(STEPS).unwrap_or(4)) {
        let choice = schedule / choices.pow(u32::try_from(at).unwrap_or(0)) % choices;
        if choice % nodes == node {
            let list = &mut ids[choice / nodes];
            let comma = if list.is_empty() { "" } else { "," };
            write!(list, "{comma}{schedule}").expect("a string takes all");
        }
    }
    let number =
        if backwards { format!("(case id % 3 when 0 then {at} when 1 then -{at} else 0 end)") } else { at.to_string() };
    let [upserted, updated, deleted, replaced] = ids.map(|list| format!("'{{{list}}}'::int[]"));
    let insert = |ids: &str, behind: &str| {
        format!("insert into mm select id, '{node} at {at}', {number} from unnest({ids}) as id {behind};")
    };
    format!(
        "begin; {} update mm set info = '{node} at {at}', n = {number} where id = any ({updated}); \
         delete from mm where id = any ({deleted}); delete from mm where id = any ({replaced}); {} commit",
        insert(&upserted, "on conflict (id) do update set info = excluded.info, n = excluded.n"),
        insert(&replaced, ""),
    )
}

/// Lets some hear of others, for a moment.
fn listen(mesh: &Mesh, pause: Pause) {
    let names: Vec<&str> = mesh.names().collect();
    let hears = |at: usize| match pause {
        Pause::Nobody => false,
        Pause::Both => true,
        Pause::Only(one) => one == at,
    };
    for (_, to) in names.iter().enumerate().filter(|(at, _)| hears(*at)) {
        for from in names.iter().filter(|from| *from != to) {
            console(mesh, from, &format!("resume {to}"));
            eventually("one to hear of another", || {
                let last = last_place(&mut mesh.node(from).direct()).ok()?;
                (reached(&mut mesh.node(to).direct(), from) >= last).then_some(())
            });
            console(mesh, from, &format!("pause {to}"));
        }
    }
}

fn converges(names: &[&'static str], conflict: &str, backwards: bool, many: usize) {
    let mesh = mesh(names, TABLE, conflict);
    for pattern in some(patterns(names.len()), many) {
        eprintln!("{conflict}: {pattern:?}");
        // By the last of them: whom it may be that is preferred.
        mesh.client(names[names.len() - 1]).ok("truncate mm");
        equal(&mesh);
        part(&mesh);
        for at in 0..STEPS {
            for (node, name) in names.iter().enumerate() {
                mesh.client(name).ok(&step(at, node, names.len(), backwards));
            }
            if let Some(pause) = pattern.get(at) {
                listen(&mesh, *pause);
            }
        }
        join(&mesh);
        equal(&mesh);
    }
}

#[test]
fn the_last_commit() {
    converges(&["a", "b"], "{ resolve = \"last\", by = \"commit_time\" }", false, 2);
}

#[test]
fn the_first_commit() {
    converges(&["a", "b"], "{ resolve = \"first\" }", false, 2);
}

#[test]
fn a_preferred_node() {
    converges(&["a", "b"], "{ resolve = \"node\", prefer = \"b\" }", false, 2);
}

#[test]
fn a_column_that_runs_backwards() {
    converges(&["a", "b"], "{ resolve = \"last\", by = \"column:n\" }", true, 2);
}
