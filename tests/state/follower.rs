//! A connection to a real server that a state machine listens to, in chunks of any size.

use std::sync::Arc;

use pgcanon::session::machine::{Machine, Reply, RequestId};
use pgcanon::wire::frame::Scanner;

use crate::common::raw::{Client, Frame};
use crate::common::{Cluster, Pg, msg};

/// Small, seeded, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

pub(crate) struct Follower {
    /// Lives as long as somebody talks to it.
    _cluster: Arc<Cluster>,
    client: Client,
    pub(crate) machine: Machine,
    up: Scanner,
    down: Scanner,
    random: Random,
}

impl Follower {
    /// Logs in as the trusted superuser.
    pub(crate) fn login(seed: u64) -> Self {
        let cluster = Cluster::shared(Pg::V15);
        let mut client = Client::connect(&cluster.unix());
        client.send(&msg::startup(3 << 16, &[("user", "postgres"), ("database", "postgres")]));
        let mut follower = Self {
            _cluster: cluster,
            client,
            machine: Machine::after_login(),
            up: Scanner::default(),
            down: Scanner::default(),
            random: Random::new(seed),
        };
        follower.settle();
        follower
    }

    /// Sends frames; returns the requests that the machine saw in them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Vec<RequestId> {
        let mut opened = Vec::new();
        for chunk in cut(bytes, &mut self.random) {
            let machine = &mut self.machine;
            self.up
                .feed(chunk, Machine::frontend_interest, |frame| opened.extend(machine.on_frontend(frame)))
                .expect("well-formed frames");
        }
        self.client.send(bytes);
        opened
    }

    /// Reads until the machine waits for no more replies; returns what came and whom it belongs to.
    pub(crate) fn settle(&mut self) -> Vec<(char, Reply)> {
        let mut replies = Vec::new();
        while self.machine.awaits_reply() {
            let Frame { tag, body } = self.client.frame();
            let bytes = msg::frame(tag, &body);
            for chunk in cut(&bytes, &mut self.random) {
                let machine = &mut self.machine;
                self.down
                    .feed(chunk, Machine::backend_interest, |frame| {
                        replies.push((char::from(frame.tag), machine.on_backend(frame)));
                    })
                    .expect("a well-formed frame");
            }
            assert!(!self.machine.is_lost(), "lost at {:?}", replies.last());
        }
        replies
    }

    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> (Vec<RequestId>, Vec<(char, Reply)>) {
        (self.send(bytes), self.settle())
    }

    /// The first column of a query's rows, by the simple protocol and behind the machine's eyes too.
    pub(crate) fn column(&mut self, sql: &str) -> Vec<String> {
        self.send(&msg::query(sql));
        let mut values = Vec::new();
        while self.machine.awaits_reply() {
            let frame = self.client.frame();
            if frame.tag == b'D' {
                values.extend(frame.columns().swap_remove(0));
            }
            assert_ne!(frame.tag, b'E', "{sql}: {:?}", frame.field(b'M'));
            let machine = &mut self.machine;
            let bytes = msg::frame(frame.tag, &frame.body);
            let fed = self.down.feed(&bytes, Machine::backend_interest, |frame| {
                machine.on_backend(frame);
            });
            fed.expect("a well-formed frame");
        }
        values
    }
}

/// Cuts bytes where the network might.
fn cut<'a>(mut bytes: &'a [u8], random: &mut Random) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    while !bytes.is_empty() {
        let at = if random.one_in(2) { bytes.len() } else { 1 + random.below(bytes.len().min(40)) };
        let (chunk, rest) = bytes.split_at(at);
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}
