//! A TCP relay that fails as networks do: it delays, holds or loses what goes one way or both, cuts connections, at one end
//! only or at both, and at an exact byte of the answer to a COMMIT.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// From who connects to who is connected to, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What becomes of bytes on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open,
    /// They wait until the way is open again.
    Held,
    /// They are gone; so is the connection when the network is there again.
    Lost,
}

/// What sets off a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Commit,
    /// Any statement.
    Statement,
}

/// Where a connection is cut, at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The request does not arrive.
    Before,
    /// Nor does it, and from here on all that goes either way is lost.
    Silence,
    /// So many bytes of the answer arrive, and the rest, if any, has been sent.
    After(usize),
}

/// What came of an armed cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Cut,
    /// The whole answer arrived: it has so many bytes, fewer than were to be waited for.
    Answered(usize),
}

/// A relay on a loopback port, until it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: u16,
    up: Flow,
    down: Flow,
    delay: Duration,
    refuses: bool,
    over: bool,
    armed: Option<Armed>,
    outcome: Option<Outcome>,
    links: HashMap<u64, Link>,
}

/// A cut to be.
#[derive(Debug)]
struct Armed {
    /// In the packet that began the connection.
    of: Vec<u8>,
    what: What,
    /// So many that ask for it go unharmed.
    spared: u32,
    cut: Cut,
    /// The connection that it has hit, and how much of the answer has come.
    hit: Option<(u64, usize)>,
}

/// A connection through the relay.
#[derive(Debug)]
struct Link {
    near: TcpStream,
    far: TcpStream,
    /// Nothing goes through any more.
    dead: bool,
    /// Some of its bytes are gone.
    lossy: bool,
    /// One way is over.
    half_over: bool,
    talk: Talk,
}

/// As much of the protocol as it takes to see a COMMIT and the end of its answer.
#[derive(Debug, Default)]
struct Talk {
    begun: Option<Vec<u8>>,
    up: Vec<u8>,
    down: Vec<u8>,
    /// Which statements and portals are COMMITs.
    statements: HashMap<Vec<u8>, bool>,
    portals: HashMap<Vec<u8>, bool>,
    /// ReadyForQuery, due and come.
    asked: u64,
    answered: u64,
}

// === impl Relay ===

impl Relay {
    /// A relay to a port of 127.0.0.1.
    pub(crate) fn start(target: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a loopback port");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let state = State {
            target,
            up: Flow::Open,
            down: Flow::Open,
            delay: Duration::ZERO,
            refuses: false,
            over: false,
            armed: None,
            outcome: None,
            links: HashMap::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let listener = std::thread::spawn(move || own.listen(&listener));
        Relay { port, shared, listener: Some(listener) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// New connections go there; those that are cut.
    pub(crate) fn point_to(&self, target: u16) {
        self.change(|state| {
            state.target = target;
            state.cut_all();
        });
    }

    pub(crate) fn flow(&self, way: Way, flow: Flow) {
        self.change(|state| *state.flow(way) = flow);
    }

    /// The network is there again, connections that have lost something are not.
    pub(crate) fn heal(&self) {
        self.change(|state| {
            (state.up, state.down, state.refuses) = (Flow::Open, Flow::Open, false);
            state.links.values_mut().filter(|link| link.lossy).for_each(Link::cut);
        });
    }

    /// Everything that goes through takes so much longer, chunk by chunk.
    pub(crate) fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// Cuts all connections, and takes no new ones until healed.
    pub(crate) fn refuse(&self) {
        self.change(|state| {
            state.refuses = true;
            state.cut_all();
        });
    }

    pub(crate) fn cut(&self) {
        self.change(State::cut_all);
    }

    /// Cuts the connections at the near end: the far end hears nothing of it.
    pub(crate) fn cut_near(&self) {
        self.change(|state| {
            for link in state.links.values_mut() {
                link.dead = true;
                let _ = link.near.shutdown(Shutdown::Both);
            }
        });
    }

    /// Cuts the next connection that asks for this, of those with `of` in their first packet.
    pub(crate) fn arm(&self, of: &str, what: What, cut: Cut) {
        self.arm_behind(0, of, what, cut);
    }

    /// [`arm`](Self::arm), for a later one than the next.
    pub(crate) fn arm_behind(&self, spared: u32, of: &str, what: What, cut: Cut) {
        self.change(|state| {
            state.outcome = None;
            state.armed = Some(Armed { of: of.as_bytes().to_vec(), what, spared, cut, hit: None });
        });
    }

    /// What came of it, once it has come.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.shared.lock().outcome
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.change(|state| {
            state.over = true;
            for link in state.links.values() {
                let _ = (link.near.shutdown(Shutdown::Both), link.far.shutdown(Shutdown::Both));
            }
        });
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the listener
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Shared>, listener: &TcpListener) {
        for (id, near) in (0..).zip(listener.incoming()) {
            let target = {
                let state = self.lock();
                if state.over {
                    return;
                }
                (!state.refuses).then_some(state.target)
            };
            let far = target.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok());
            let (Ok(near), Some(far)) = (near, far) else { continue };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let handles = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
            let (Ok(up_from), Ok(up_to), Ok(down_to), Ok(down_from)) = handles else { continue };
            let talk = Talk { asked: 1, ..Talk::default() };
            let link = Link { near, far, dead: false, lossy: false, half_over: false, talk };
            self.lock().links.insert(id, link);
            for (way, from, to) in [(Way::Up, up_from, up_to), (Way::Down, down_from, down_to)] {
                let shared = Arc::clone(self);
                std::thread::spawn(move || shared.pump(id, way, from, to));
            }
        }
    }

    /// Moves what goes one way, to its end.
    fn pump(&self, id: u64, way: Way, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = vec![0; 16 << 10];
        loop {
            let read = from.read(&mut chunk).unwrap_or(0);
            let delay = self.lock().delay;
            if !delay.is_zero() {
                std::thread::sleep(delay);
            }
            let mut state = self.lock();
            let waits = |flow: Flow| flow == Flow::Held || flow == Flow::Lost && read == 0;
            while waits(*state.flow(way)) && !state.over && !state.is_dead(id) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if read == 0 || state.over {
                if !state.is_dead(id) {
                    let _ = to.shutdown(Shutdown::Write);
                }
                state.end(id);
                return;
            }
            let passes = state.passes(id, way, &chunk[..read]);
            drop(state); // whoever reads nothing must not hold up the others
            let failed = passes.bytes > 0 && to.write_all(&chunk[..passes.bytes]).is_err();
            if failed || passes.then_cut {
                self.lock().links.entry(id).and_modify(Link::cut);
            }
        }
    }
}

/// What becomes of a chunk.
struct Passes {
    bytes: usize,
    then_cut: bool,
}

// === impl State ===

impl State {
    fn flow(&mut self, way: Way) -> &mut Flow {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    fn is_dead(&self, id: u64) -> bool {
        self.links.get(&id).is_none_or(|link| link.dead)
    }

    /// One way of a connection is over; with the other, its sockets are closed.
    fn end(&mut self, id: u64) {
        if self.links.get_mut(&id).is_some_and(|link| std::mem::replace(&mut link.half_over, true)) {
            self.links.remove(&id);
        }
    }

    fn cut_all(&mut self) {
        self.links.values_mut().for_each(Link::cut);
    }

    fn passes(&mut self, id: u64, way: Way, chunk: &[u8]) -> Passes {
        let lost = *self.flow(way) == Flow::Lost;
        let nothing = Passes { bytes: 0, then_cut: false };
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.dead) else { return nothing };
        if lost {
            link.lossy = true;
            return nothing;
        }
        let all = Passes { bytes: chunk.len(), then_cut: false };
        match way {
            Way::Up => {
                let asked = link.talk.on_up(chunk);
                let begun = link.talk.begun.as_deref().unwrap_or_default();
                let Some(armed) = self.armed.as_mut().filter(|armed| armed.hit.is_none()) else { return all };
                let of = begun.windows(armed.of.len()).any(|part| part == armed.of);
                if !of || !asked.is_some_and(|what| what == What::Commit || armed.what == What::Statement) {
                    return all;
                }
                if armed.spared > 0 {
                    armed.spared -= 1;
                    return all;
                }
                armed.hit = Some((id, 0));
                let cut = armed.cut;
                if let Cut::After(_) = cut {
                    return all;
                }
                self.outcome = Some(Outcome::Cut);
                self.armed = None;
                if cut == Cut::Silence {
                    link.lossy = true;
                    (self.up, self.down) = (Flow::Lost, Flow::Lost);
                    return nothing;
                }
                Passes { then_cut: true, ..nothing }
            }
            Way::Down => {
                let end = link.talk.on_down(chunk);
                let Some(Armed { cut: Cut::After(after), hit: Some((hit, seen)), .. }) = &mut self.armed else {
                    return all;
                };
                if *hit != id {
                    return all;
                }
                let of_answer = end.unwrap_or(chunk.len());
                if *seen + of_answer >= *after {
                    let bytes = *after - *seen;
                    self.outcome = Some(Outcome::Cut);
                    self.armed = None;
                    return Passes { bytes, then_cut: true };
                }
                *seen += of_answer;
                if end.is_some() {
                    self.outcome = Some(Outcome::Answered(*seen));
                    self.armed = None;
                }
                all
            }
        }
    }
}

// === impl Link ===

impl Link {
    /// Both ends hear that it is over; what was written before arrives.
    fn cut(&mut self) {
        self.dead = true;
        let _ = (self.near.shutdown(Shutdown::Write), self.far.shutdown(Shutdown::Write));
    }
}

// === impl Talk ===

impl Talk {
    /// What the chunk completes a request of: a COMMIT goes before another statement.
    fn on_up(&mut self, chunk: &[u8]) -> Option<What> {
        self.up.extend_from_slice(chunk);
        if self.begun.is_none() {
            let len = self.up.first_chunk().map(|len| u32::from_be_bytes(*len) as usize)?;
            let whole = self.up.len() >= len;
            self.begun = whole.then(|| self.up.drain(..len).collect());
        }
        let mut what = None;
        while let Some((tag, body)) = self.begun.is_some().then(|| frame(&mut self.up)).flatten() {
            let mut words = body.split(|byte| *byte == 0);
            let mut word = || words.next().unwrap_or_default().to_vec();
            let (first, second) = (word(), word());
            let commit = match tag {
                b'Q' => Some(is_commit(&first)),
                b'P' => {
                    self.statements.insert(first, is_commit(&second));
                    None
                }
                b'B' => {
                    let commit = self.statements.get(&second).copied().unwrap_or_default();
                    self.portals.insert(first, commit);
                    None
                }
                b'E' => self.portals.get(&first).copied().or(Some(false)),
                _ => None,
            };
            self.asked += u64::from(matches!(tag, b'Q' | b'S' | b'F'));
            match commit {
                Some(true) => what = Some(What::Commit),
                Some(false) => what = what.or(Some(What::Statement)),
                None => {}
            }
        }
        what
    }

    /// Where in the chunk the last answer ends that is due.
    fn on_down(&mut self, chunk: &[u8]) -> Option<usize> {
        self.down.extend_from_slice(chunk);
        let mut end = None;
        while let Some((tag, _)) = frame(&mut self.down) {
            let ready = tag == b'Z';
            self.answered += u64::from(ready);
            if ready && self.answered == self.asked && end.is_none() {
                end = Some(chunk.len() - self.down.len());
            }
        }
        end
    }
}

/// Takes a whole frame from the front.
fn frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [tag, a, b, c, d] = *bytes.first_chunk()?;
    let len = u32::from_be_bytes([a, b, c, d]) as usize + 1;
    (bytes.len() >= len).then(|| (tag, bytes.drain(..len).skip(5).collect()))
}

fn is_commit(sql: &[u8]) -> bool {
    sql.trim_ascii().eq_ignore_ascii_case(b"commit")
}
