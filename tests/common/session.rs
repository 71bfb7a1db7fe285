//! A logged-in raw client with the shorthand that tests of capture want: run this, what came back, did it fail and how.

use std::time::Duration;

use super::raw::{Frame, Got};
use super::{Addr, Client, PATIENCE, msg};

/// A client in a database.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    addr: Addr,
    key: (i32, Vec<u8>),
}

/// Everything that came back up to ReadyForQuery.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) frames: Vec<Frame>,
}

/// An ErrorResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) state: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    pub(crate) position: Option<String>,
}

/// The connection ended before the answer was complete.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) frames: Vec<Frame>,
}

// === impl Session ===

impl Session {
    /// Logs in (trusted); panics when that is refused.
    pub(crate) fn open(addr: &Addr, user: &str, database: &str) -> Session {
        Session::try_open(addr, user, database).unwrap_or_else(|lost| panic!("{user} cannot log in: {lost:?}"))
    }

    pub(crate) fn try_open(addr: &Addr, user: &str, database: &str) -> Result<Session, Lost> {
        Session::try_open_as(addr, &[("user", user), ("database", database)])
    }

    /// Logs in (trusted) with these parameters.
    pub(crate) fn open_as(addr: &Addr, params: &[(&str, &str)]) -> Session {
        Session::try_open_as(addr, params).unwrap_or_else(|lost| panic!("{params:?} cannot log in: {lost:?}"))
    }

    fn try_open_as(addr: &Addr, params: &[(&str, &str)]) -> Result<Session, Lost> {
        let none = |_| Lost { frames: Vec::new() };
        let mut client = Client::try_connect(addr).map_err(none)?;
        client.try_send(&msg::startup(msg::version(3, 0), params)).map_err(none)?;
        let frames = ready(&mut client)?;
        let key = frames.iter().find(|frame| frame.tag == b'K').map(Frame::key);
        let Some(key) = key else { return Err(Lost { frames }) };
        Ok(Session { client, addr: addr.clone(), key })
    }

    /// The pid of the backend.
    pub(crate) fn pid(&self) -> i32 {
        self.key.0
    }

    /// A simple query, whatever it ends with.
    pub(crate) fn run(&mut self, sql: impl AsRef<[u8]>) -> Answer {
        self.send(&[msg::query(sql)])
    }

    /// A simple query that must not fail.
    pub(crate) fn ok(&mut self, sql: &str) -> Answer {
        let answer = self.run(sql);
        assert_eq!(answer.failure(), None, "{sql}");
        answer
    }

    /// A simple query that must fail.
    pub(crate) fn fails(&mut self, sql: &str) -> Failure {
        let answer = self.run(sql);
        answer.failure().unwrap_or_else(|| panic!("{sql}: should fail, got {answer:?}"))
    }

    /// One statement by the extended protocol, with parameters in text, that must not fail.
    pub(crate) fn bound(&mut self, sql: &str, params: &[Option<&str>]) -> Answer {
        let answer = self.try_bound(sql, params);
        assert_eq!(answer.failure(), None, "{sql}");
        answer
    }

    pub(crate) fn try_bound(&mut self, sql: &str, params: &[Option<&str>]) -> Answer {
        let params: Vec<Option<&[u8]>> = params.iter().map(|p| p.map(str::as_bytes)).collect();
        let bind = msg::bind("", "", &params);
        self.send(&[msg::parse("", sql, &[]), bind, msg::describe(b'P', ""), msg::execute("", 0), msg::sync()])
    }

    /// Sends messages that end in one ReadyForQuery, and reads up to it.
    pub(crate) fn send(&mut self, messages: &[Vec<u8>]) -> Answer {
        self.try_send(messages).unwrap_or_else(|lost| panic!("the connection was lost: {lost:?}"))
    }

    /// [`send`](Self::send) on a connection that may not live to answer.
    pub(crate) fn try_send(&mut self, messages: &[Vec<u8>]) -> Result<Answer, Lost> {
        self.client.send(&msg::together(messages));
        ready(&mut self.client).map(|frames| Answer { frames })
    }

    /// A simple query on a connection that may not live to answer.
    pub(crate) fn try_run(&mut self, sql: &str) -> Result<Answer, Lost> {
        self.try_send(&[msg::query(sql)])
    }

    /// COPY … FROM STDIN with all its data; whatever it ends with.
    pub(crate) fn copy(&mut self, sql: impl AsRef<[u8]>, data: &[&[u8]]) -> Answer {
        self.client.send(&msg::query(sql));
        loop {
            let frame = self.client.frame();
            match frame.tag {
                b'G' => break,
                b'E' => {
                    let mut frames = vec![frame];
                    frames.extend(self.client.until_ready());
                    return Answer { frames };
                }
                _ => {}
            }
        }
        for piece in data {
            self.client.send(&msg::copy_data(piece));
        }
        self.send(&[msg::copy_done()])
    }

    /// A handle that cancels what this session runs, from any thread.
    pub(crate) fn canceller(&self) -> impl Fn() + Send + 'static {
        let (addr, (pid, key)) = (self.addr.clone(), self.key.clone());
        move || {
            if let Ok(mut client) = Client::try_connect(&addr) {
                let _ = client.try_send(&msg::cancel(pid, &key));
                let _ = client.frame_within(PATIENCE);
            }
        }
    }
}

fn ready(client: &mut Client) -> Result<Vec<Frame>, Lost> {
    let mut frames = Vec::new();
    loop {
        match client.frame_within(PATIENCE * 2) {
            Got::Frame(frame) => {
                let last = frame.tag == b'Z';
                frames.push(frame);
                if last {
                    return Ok(frames);
                }
            }
            Got::Closed | Got::Torn(_) => return Err(Lost { frames }),
            Got::Nothing => panic!("no answer in {:?} after {frames:?}", PATIENCE * 2),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The first error.
    pub(crate) fn failure(&self) -> Option<Failure> {
        failure(&self.frames)
    }

    /// The command tags, in order.
    pub(crate) fn tags(&self) -> Vec<String> {
        self.frames.iter().filter(|frame| frame.tag == b'C').map(Frame::command).collect()
    }

    /// The rows of all results, as text.
    pub(crate) fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.frames.iter().filter(|frame| frame.tag == b'D').map(Frame::columns).collect()
    }

    /// The only value of the only row.
    pub(crate) fn value(&self) -> String {
        match &self.rows()[..] {
            [row] => row.first().cloned().flatten().expect("a value"),
            other => panic!("one row expected, got {other:?}"),
        }
    }

    /// The status byte of ReadyForQuery: `I`, `T` or `E`.
    pub(crate) fn status(&self) -> char {
        let last = self.frames.last().expect("an answer ends in ReadyForQuery");
        char::from(last.body[0])
    }

    /// The message types, in order.
    pub(crate) fn shape(&self) -> String {
        self.frames.iter().map(|frame| char::from(frame.tag)).collect()
    }
}

impl Lost {
    pub(crate) fn failure(&self) -> Option<Failure> {
        failure(&self.frames)
    }
}

fn failure(frames: &[Frame]) -> Option<Failure> {
    let error = frames.iter().find(|frame| frame.tag == b'E')?;
    Some(Failure {
        state: error.field(b'C').unwrap_or_default(),
        message: error.field(b'M').unwrap_or_default(),
        detail: error.field(b'D'),
        hint: error.field(b'H'),
        position: error.field(b'P'),
    })
}

/// How long a lock is waited for before a test takes it for blocked.
pub(crate) const BLOCKED: Duration = Duration::from_secs(10);
