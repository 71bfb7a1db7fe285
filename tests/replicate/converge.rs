//! Convergence, by schedules of a kind (§8): four operations on one row, each by any of the nodes, and in each pause between
//! them any of the nodes may hear of the others. Every schedule has a row of its own, or two with keys and values that they
//! take from each other, so that all run at once; all nodes must end with the same rows.
//!
//! Where a column says which version is the later one, it is also made to run backwards: so do clocks that differ.

use crate::common::rng::Rng;
use crate::common::settle::{last_place, reached};
use crate::common::within;
use crate::mesh::Mesh;
use crate::settle::{LIMIT, console, equal, join, mesh, mesh_of_other_clocks, part};

const STEPS: usize = 4;

/// How far a schedule's other key is from its own; in all else that hangs on a key the two are alike.
const AWAY: usize = 999_999;

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

/// Who does it, in which step, and what the rows get for a number.
struct At {
    node: usize,
    step: usize,
    number: String,
}

/// What is done to the rows of schedules, whose keys it gets: SQL of one transaction or a part of it.
type Op = fn(&At, &[usize]) -> String;

/// One row, written and deleted.
const PLAIN: [Op; 4] = [At::upserted, At::updated, At::deleted, At::replaced];

/// Every kind of change, a key's change among them: few enough that two nodes can be seen in all schedules.
const EVERY: [Op; 5] = [At::upserted, At::updated, At::deleted, At::added, At::rekeyed];

/// The same rows, which besides get another key and their own again, and count.
const MOVING: [Op; 8] =
    [At::upserted, At::deleted, At::added, At::replaced, At::moved, At::returned, At::rekeyed, At::rekeyed_back];

/// Two rows that want one value of a further unique key, which who has it keeps: where rows give one up, by a deletion or for
/// another, those that had to go for them are not joined, as the README says.
const RIVALS: [Op; 2] = [At::claimed, At::claimed_away];

/// Every pattern, and every schedule (`CONVERGE_ALL`), or some by a seed (`CONVERGE_SEED`).
struct Model {
    nodes: usize,
    ops: &'static [Op],
    patterns: Vec<Pattern>,
    schedules: Vec<Schedule>,
}

// === impl At ===

impl At {
    fn info(&self) -> String {
        format!("'{} at {}'", self.node, self.step)
    }

    fn upserted(&self, ids: &[usize]) -> String {
        let (info, n, ids) = (self.info(), &self.number, array(ids));
        format!("insert into mm select id, {info}, {n} from unnest({ids}) as id {OVER};")
    }

    fn updated(&self, ids: &[usize]) -> String {
        format!("update mm set info = {}, n = {} where id = any ({});", self.info(), self.number, array(ids))
    }

    fn added(&self, ids: &[usize]) -> String {
        format!("update mm set n = n + 1 where id = any ({});", array(ids))
    }

    fn deleted(&self, ids: &[usize]) -> String {
        format!("delete from mm where id = any ({});", array(ids))
    }

    fn deleted_away(&self, ids: &[usize]) -> String {
        format!("delete from mm where id - {AWAY} = any ({});", array(ids))
    }

    fn replaced(&self, ids: &[usize]) -> String {
        let (deleted, info, n, ids) = (self.deleted(ids), self.info(), &self.number, array(ids));
        format!("{deleted} insert into mm select id, {info}, {n} from unnest({ids}) as id;")
    }

    /// A change of the key over what has it, by a row of the new key and a deletion.
    fn moved(&self, ids: &[usize]) -> String {
        let (deleted, n, ids) = (self.deleted(ids), &self.number, array(ids));
        format!("insert into mm select id + {AWAY}, info, {n} from mm where id = any ({ids}) {OVER}; {deleted}")
    }

    fn returned(&self, ids: &[usize]) -> String {
        let (deleted, n, ids) = (self.deleted_away(ids), &self.number, array(ids));
        format!(
            "insert into mm select id - {AWAY}, info, {n} from mm where id - {AWAY} = any ({ids}) {OVER}; {deleted}"
        )
    }

    /// The same by an UPDATE.
    fn rekeyed(&self, ids: &[usize]) -> String {
        let n = &self.number;
        let one = |id| format!("update mm set id = {}, n = {n} where id = {id};", id + AWAY);
        ids.iter().fold(self.deleted_away(ids), |sql, id| sql + &one(*id))
    }

    fn rekeyed_back(&self, ids: &[usize]) -> String {
        let n = &self.number;
        let one = |id| format!("update mm set id = {id}, n = {n} where id = {};", id + AWAY);
        ids.iter().fold(self.deleted(ids), |sql, id| sql + &one(*id))
    }

    /// A value for a row, unless the other one has it here.
    fn claimed(&self, ids: &[usize]) -> String {
        let (n, ids) = (&self.number, array(ids));
        format!(
            "insert into mm select id, id, {n} from unnest({ids}) as id where id + {AWAY} not in (select t.id from mm as t) {OVER};"
        )
    }

    fn claimed_away(&self, ids: &[usize]) -> String {
        let (n, ids) = (&self.number, array(ids));
        format!(
            "insert into mm select id + {AWAY}, id, {n} from unnest({ids}) as id where id not in (select t.id from mm as t) {OVER};"
        )
    }
}

fn array(ids: &[usize]) -> String {
    let ids: Vec<String> = ids.iter().map(usize::to_string).collect();
    format!("'{{{}}}'::int[]", ids.join(","))
}

const OVER: &str = "on conflict (id) do update set info = excluded.info, n = excluded.n";

// === impl Model ===

impl Model {
    fn new(nodes: usize, ops: &'static [Op], patterns: usize, schedules: usize) -> Self {
        let kinds: Vec<Pause> = [Pause::Nobody, Pause::All].into_iter().chain((0..nodes).map(Pause::Only)).collect();
        let seed = std::env::var("CONVERGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
        let (mut rng, all) = (Rng::new(seed), std::env::var_os("CONVERGE_ALL").is_some());
        let choices = nodes * ops.len();
        // Others have so many that each pattern gets others.
        let many = if all && choices <= 12 { usize::MAX } else { schedules };
        Self {
            nodes,
            ops,
            patterns: some(power(&kinds), if all { usize::MAX } else { patterns }, &mut rng),
            schedules: some(power(&(0..choices).collect::<Vec<_>>()), many, &mut rng),
        }
    }

    /// What a node has to do of a step of every schedule, as one transaction; `from` is the key of the first one's row.
    fn step(&self, step: usize, node: usize, from: usize, backwards: bool) -> String {
        let mut ids = vec![Vec::new(); self.ops.len()];
        for (id, schedule) in (from..).zip(&self.schedules) {
            if schedule[step] % self.nodes == node {
                ids[schedule[step] / self.nodes].push(id);
            }
        }
        let number = if backwards {
            format!("(case id % 3 when 0 then {step} when 1 then -{step} else 0 end)")
        } else {
            step.to_string()
        };
        let at = At { node, step, number };
        let done = self.ops.iter().zip(&ids).map(|(op, ids)| op(&at, ids));
        format!("begin; {} commit", done.collect::<String>())
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

/// Makes nodes hear of each other: only then can they be told that they do not.
fn ready(mesh: Mesh) -> Mesh {
    for name in mesh.names() {
        mesh.client(name).ok(&format!("insert into other values (-{}, 0)", name.as_bytes()[0]));
    }
    equal(&mesh);
    mesh
}

fn converges(names: &[&'static str], conflict: &str, backwards: bool, patterns: usize) {
    run(&ready(mesh(names, TABLE, conflict)), &Model::new(names.len(), &PLAIN, patterns, 500), conflict, backwards);
}

fn run(mesh: &Mesh, model: &Model, conflict: &str, backwards: bool) {
    let names: Vec<&str> = mesh.names().collect();
    for (number, pattern) in model.patterns.iter().enumerate() {
        eprintln!("{conflict}: {pattern:?}");
        part(mesh);
        for at in 0..STEPS {
            for (node, name) in names.iter().enumerate() {
                mesh.client(name).ok(&model.step(at, node, number * model.schedules.len(), backwards));
            }
            if let Some(pause) = pattern.get(at) {
                listen(mesh, *pause);
            }
        }
        join(mesh);
        equal(mesh);
    }
}

const LAST: &str = "{ resolve = \"last\", by = \"commit_time\" }";
const STATEMENT: &str = "{ resolve = \"last\", by = \"statement_time\" }";
const FIRST: &str = "{ resolve = \"first\" }";
const NODE: &str = "{ resolve = \"node\", prefer = \"b\" }";
const COLUMN: &str = "{ resolve = \"last\", by = \"column:n\" }";

#[test]
fn the_last_commit() {
    converges(&["a", "b"], LAST, false, 3);
}

#[test]
fn the_last_statement() {
    converges(&["a", "b"], STATEMENT, false, 3);
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
    converges(&["a", "b"], COLUMN, true, 3);
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

fn every(conflict: &str, backwards: bool) {
    run(&ready(mesh(&["a", "b"], TABLE, conflict)), &Model::new(2, &EVERY, 2, 500), conflict, backwards);
}

#[test]
fn every_change_and_the_last_commit() {
    every(LAST, false);
}

#[test]
fn every_change_and_the_first_commit() {
    every(FIRST, false);
}

#[test]
fn every_change_and_a_preferred_node() {
    every(NODE, false);
}

#[test]
fn every_change_and_a_column_that_runs_backwards() {
    every(COLUMN, true);
}

fn moving(conflict: &str, backwards: bool) {
    moving_in(TABLE, conflict, backwards);
}

fn moving_in(tables: &str, conflict: &str, backwards: bool) {
    let mesh = ready(mesh_of_other_clocks(&["a", "b", "c"], tables, conflict));
    run(&mesh, &Model::new(3, &MOVING, 2, 200), conflict, backwards);
}

fn partitioned(conflict: &str, backwards: bool) {
    let parts = "create table mm_0 partition of mm for values with (modulus 2, remainder 0); \
        create table mm_1 partition of mm for values with (modulus 2, remainder 1)";
    let tables = TABLE.replace("n int);", &format!("n int) partition by hash (id); {parts};"));
    moving_in(&tables, conflict, backwards);
}

#[test]
fn keys_that_change_and_the_last_commit() {
    moving(LAST, false);
}

#[test]
fn keys_that_change_and_the_last_statement() {
    moving(STATEMENT, false);
}

#[test]
fn keys_that_change_and_the_first_commit() {
    moving(FIRST, false);
}

#[test]
fn keys_that_change_and_a_preferred_node() {
    moving(NODE, false);
}

#[test]
fn keys_that_change_and_a_column_that_runs_backwards() {
    moving(COLUMN, true);
}

#[test]
fn partitions_and_the_last_commit() {
    partitioned(LAST, false);
}

#[test]
fn partitions_and_the_first_commit() {
    partitioned(FIRST, false);
}

#[test]
fn partitions_and_a_column_that_runs_backwards() {
    partitioned(COLUMN, true);
}

fn rivals(conflict: &str, backwards: bool) {
    let tables = TABLE.replace("info text", "info text unique");
    let mesh = ready(mesh_of_other_clocks(&["a", "b", "c"], &tables, conflict));
    run(&mesh, &Model::new(3, &RIVALS, 2, 200), conflict, backwards);
}

#[test]
fn several_keys_and_the_last_commit() {
    rivals(LAST, false);
}

#[test]
fn several_keys_and_the_first_commit() {
    rivals(FIRST, false);
}

#[test]
fn several_keys_and_a_preferred_node() {
    rivals(NODE, false);
}

#[test]
fn several_keys_and_a_column_that_runs_backwards() {
    rivals(COLUMN, true);
}

#[test]
fn additions_of_three_are_all_there_without_a_policy() {
    let names = ["a", "b", "c"];
    let (mesh, model) = (ready(mesh(&names, TABLE, LAST)), Model::new(3, &PLAIN, 6, 500));
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
