//! Convergence, by schedules of a kind (§8): four operations on one row, each by any of the nodes, and in each pause between
//! them any of the nodes may hear of the others. Every schedule has a row of its own, so that all run at once; all nodes must
//! end with the same rows.
//!
//! Where a column says which version is the later one, it is also made to run backwards: so do clocks that differ.

use std::fmt::Write as _;

use crate::common::rng::Rng;
use crate::common::settle::{last_place, reached};
use crate::common::within;
use crate::mesh::Mesh;
use crate::settle::{LIMIT, console, equal, join, mesh, part};

const STEPS: usize = 4;
const OPS: usize = 4;

const TABLE: &str =
    "create table mm (id int primary key, info text, n int); create table other (id int primary key, n int)";

/// What happens in a pause: which of the nodes hear of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Nobody,
    All,
    /// This node hears of the others.
    Only(usize),
}

/// A pause after each step but the last one.
type Pattern = [Pause; STEPS - 1];

/// Who does what, in each step.
type Schedule = [usize; STEPS];

/// Every pattern, and every schedule (`CONVERGE_ALL`), or some by a seed (`CONVERGE_SEED`).
struct Model {
    nodes: usize,
    patterns: Vec<Pattern>,
    schedules: Vec<Schedule>,
}

// === impl Model ===

impl Model {
    fn new(nodes: usize, patterns: usize) -> Self {
        let kinds: Vec<Pause> = [Pause::Nobody, Pause::All].into_iter().chain((0..nodes).map(Pause::Only)).collect();
        let seed = std::env::var("CONVERGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let (mut rng, all) = (Rng::new(seed), std::env::var_os("CONVERGE_ALL").is_some());
        let choices = nodes * OPS;
        // Three nodes have so many that each pattern gets others.
        let many = if all && nodes == 2 { usize::MAX } else { 500 };
        Self {
            nodes,
            patterns: some(power(&kinds), if all { usize::MAX } else { patterns }, &mut rng),
            schedules: some(power(&(0..choices).collect::<Vec<_>>()), many, &mut rng),
        }
    }

    /// What a node has to do of a step of every schedule, as one transaction; `from` is the key of the first one's row.
    fn step(&self, at: usize, node: usize, from: usize, backwards: bool) -> String {
        let mut ids: [String; OPS] = Default::default();
        for (id, schedule) in (from..).zip(&self.schedules) {
            if schedule[at] % self.nodes == node {
                let list = &mut ids[schedule[at] / self.nodes];
                let comma = if list.is_empty() { "" } else { "," };
                write!(list, "{comma}{id}").expect("a string takes all");
            }
        }
        let number = if backwards {
            format!("(case id % 3 when 0 then {at} when 1 then -{at} else 0 end)")
        } else {
            at.to_string()
        };
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
}

/// All ways to choose, once for each place.
fn power<T: Copy, const N: usize>(from: &[T]) -> Vec<[T; N]> {
    let choice = |number: usize| {
        let digit = |at: usize| from[number / from.len().pow(u32::try_from(at).expect("few")) % from.len()];
        std::array::from_fn(digit)
    };
    (0..from.len().pow(u32::try_from(N).expect("few"))).map(choice).collect()
}

/// So many of them at most.
fn some<T>(mut left: Vec<T>, many: usize, rng: &mut Rng) -> Vec<T> {
    if many >= left.len() {
        return left;
    }
    let mut pick = || {
        let at = rng.below(u64::try_from(left.len()).expect("not so many"));
        left.swap_remove(usize::try_from(at).expect("not so many"))
    };
    (0..many).map(|_| pick()).collect()
}

/// Lets some hear of others, for a moment.
fn listen(mesh: &Mesh, pause: Pause) {
    let names: Vec<&str> = mesh.names().collect();
    let hears = |at: usize| match pause {
        Pause::Nobody => false,
        Pause::All => true,
        Pause::Only(one) => one == at,
    };
    for (_, to) in names.iter().enumerate().filter(|(at, _)| hears(*at)) {
        let others = || names.iter().filter(|from| *from != to);
        // All at once: what one has to say may hang on what another has.
        others().for_each(|from| console(mesh, from, &format!("resume {to}")));
        let heard = |from: &str| {
            last_place(&mut mesh.node(from).direct())
                .is_ok_and(|last| reached(&mut mesh.node(to).direct(), from) >= last)
        };
        let heard = within(LIMIT, || others().all(|from| heard(from)).then_some(()));
        assert!(heard.is_some(), "{to} does not hear of the others");
        others().for_each(|from| console(mesh, from, &format!("pause {to}")));
    }
}

/// Nodes that hear of each other, and can be told that they do not.
fn ready(names: &[&'static str], conflict: &str) -> Mesh {
    let mesh = mesh(names, TABLE, conflict);
    for name in names {
        mesh.client(name).ok(&format!("insert into other values (-{}, 0)", name.as_bytes()[0]));
    }
    equal(&mesh);
    mesh
}

fn converges(names: &[&'static str], conflict: &str, backwards: bool, patterns: usize) {
    let mesh = ready(names, conflict);
    let model = Model::new(names.len(), patterns);
    for (number, pattern) in model.patterns.iter().enumerate() {
        eprintln!("{conflict}: {pattern:?}");
        part(&mesh);
        for at in 0..STEPS {
            for (node, name) in names.iter().enumerate() {
                mesh.client(name).ok(&model.step(at, node, number * model.schedules.len(), backwards));
            }
            if let Some(pause) = pattern.get(at) {
                listen(&mesh, *pause);
            }
        }
        join(&mesh);
        equal(&mesh);
    }
}

const LAST: &str = "{ resolve = \"last\", by = \"commit_time\" }";
const FIRST: &str = "{ resolve = \"first\" }";
const NODE: &str = "{ resolve = \"node\", prefer = \"b\" }";

#[test]
fn the_last_commit() {
    converges(&["a", "b"], LAST, false, 3);
}

#[test]
fn the_first_commit() {
    converges(&["a", "b"], FIRST, false, 3);
}

#[test]
fn a_preferred_node() {
    converges(&["a", "b"], NODE, false, 3);
}

#[test]
fn a_column_that_runs_backwards() {
    converges(&["a", "b"], "{ resolve = \"last\", by = \"column:n\" }", true, 3);
}

#[test]
fn the_last_commit_of_three() {
    converges(&["a", "b", "c"], LAST, false, 2);
}

#[test]
fn the_first_commit_of_three() {
    converges(&["a", "b", "c"], FIRST, false, 2);
}

#[test]
fn a_preferred_node_of_three() {
    converges(&["a", "b", "c"], NODE, false, 2);
}

#[test]
fn a_column_that_runs_backwards_on_three() {
    converges(&["a", "b", "c"], "{ resolve = \"last\", by = \"column:n\", prefer = \"c\" }", true, 2);
}

#[test]
fn additions_of_three_are_all_there_without_a_policy() {
    let names = ["a", "b", "c"];
    let (mesh, model) = (ready(&names, LAST), Model::new(3, 6));
    let schedules: Vec<Schedule> = power(&[0, 1, 2]);
    mesh.client("a").ok(&format!("insert into other select i, 0 from generate_series(0, {}) i", schedules.len() - 1));
    for (round, pattern) in (1..).zip(&model.patterns) {
        eprintln!("{pattern:?}");
        equal(&mesh);
        part(&mesh);
        for at in 0..STEPS {
            for (node, name) in names.iter().enumerate() {
                let here = schedules.iter().enumerate().filter(|(_, schedule)| schedule[at] == node);
                let add = |id| {
                    format!("update other set n = n + {} where id = {id};", 10_i32.pow(u32::try_from(at).expect("few")))
                };
                let additions: String = here.map(|(id, _)| add(id)).collect();
                mesh.client(name).ok(&format!("begin; {additions} commit"));
            }
            if let Some(pause) = pattern.get(at) {
                listen(&mesh, *pause);
            }
        }
        join(&mesh);
        equal(&mesh);
        for name in names {
            let sums = mesh.node(name).sql("select distinct n from other where id >= 0");
            assert_eq!(sums, (1111 * round).to_string(), "{name}");
        }
    }
    mesh.assert_without_conflict();
}
