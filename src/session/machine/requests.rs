//! The requests that a client has sent and the server has not answered yet, oldest first.

use std::collections::VecDeque;

use crate::sql::{Effect, Effects, Name};

/// Tells a request from all others of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What was asked, with what has to be known when the answer comes.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// The startup packet: answered by the first ReadyForQuery.
    Startup,
    Query(Effects),
    Parse {
        statement: Name,
        effect: Effect,
    },
    Bind {
        portal: Name,
        statement: Name,
    },
    Describe,
    Execute {
        portal: Name,
    },
    CloseStatement(Name),
    ClosePortal(Name),
    Sync,
    FunctionCall,
    /// CopyDone or CopyFail: never answered itself, but it bounds what a COPY swallows.
    CopyEnd,
    /// Was swallowed by a COPY, and is not answered.
    Void,
}

impl Request {
    /// Whether a ReadyForQuery ends it.
    pub(crate) fn ends_with_ready(&self) -> bool {
        matches!(self, Self::Startup | Self::Query(_) | Self::Sync | Self::FunctionCall)
    }
}

/// Above this many open requests no more are read from the client until some are answered (I7).
///
/// This cannot stall: a server flushes its answers at every Sync, and at the latest every 8 KiB of them.
const CONGESTED: usize = 16_384;

/// Capacity that an empty queue may keep.
const KEEP: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Requests {
    queue: VecDeque<Request>,
    /// Id of the request at the front of the queue.
    front: u64,
}

impl Requests {
    pub(crate) fn push(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.front + self.queue.len() as u64);
        self.queue.push_back(request);
        id
    }

    /// The request that the next answer belongs to; what is not answered is passed over.
    pub(crate) fn head(&mut self) -> Option<(RequestId, &Request)> {
        while let Some(Request::CopyEnd | Request::Void) = self.queue.front() {
            self.pop();
        }
        let id = RequestId(self.front);
        self.queue.front().map(|request| (id, request))
    }

    pub(crate) fn pop(&mut self) -> Option<Request> {
        let request = self.queue.pop_front()?;
        self.front += 1;
        if self.queue.is_empty() && self.queue.capacity() > KEEP {
            self.queue.shrink_to(KEEP);
        }
        Some(request)
    }

    /// After an error the server passes over everything up to the next Sync; says whether that Sync is here already.
    pub(crate) fn skip_to_sync(&mut self) -> bool {
        while let Some(request) = self.queue.front() {
            if matches!(request, Request::Sync) {
                return true;
            }
            self.pop();
        }
        false
    }

    /// A COPY has begun at the head: the server ignores every Sync that stands before the end of its data.
    pub(crate) fn swallow_syncs(&mut self) {
        for request in self.queue.iter_mut().skip(1) {
            match request {
                Request::CopyEnd => return,
                Request::Sync => *request = Request::Void,
                _ => {}
            }
        }
    }

    /// The COPY at the head is over, and with it everything up to the end of its data.
    pub(crate) fn end_copy(&mut self) {
        self.swallow_syncs();
        if let Some(end) = self.queue.iter_mut().find(|r| matches!(r, Request::CopyEnd)) {
            *end = Request::Void;
        }
    }

    pub(crate) fn has_copy_end(&self) -> bool {
        self.queue.iter().any(|r| matches!(r, Request::CopyEnd))
    }

    /// All of them, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        (self.front..).map(RequestId).zip(&self.queue)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.iter().all(|r| matches!(r, Request::CopyEnd | Request::Void))
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.queue.len() > CONGESTED
    }
}
