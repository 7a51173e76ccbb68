//! The server's end of a pair: the path's sending half, with what it sends and what it has counted.

use std::net::TcpStream;
use std::sync::Arc;

use crate::case::{Case, Engine};
use crate::error::{Error, Result};
use crate::event::Reading;
use crate::fragments::Place;
use crate::message::Pages;
use crate::pair::fault::Faulty;
use crate::pair::sink::{Injector, SinkSocket};
use crate::pair::threads::PairEnd;
use crate::pair::watch::retransmitted_segments;
use crate::pair::{Fault, MARKER_BYTES, Mode, TIMED_SEED, hot_messages, seed, source_fields};
use crate::path::{self, Observe, send_all};
use crate::sample::{Copies, Side, SideReport, ZeroCopyCounts};

/// Of so many messages it is known where they lie: of every shape of a trace.
const MOST_PLACES: usize = 256;

/// The server's half of a pair.
#[derive(Default)]
pub(super) struct Sending {
    /// What plays the client, where there is none.
    pub(super) injector: Option<Arc<Injector>>,
    /// None until the pair's thread has made it.
    pub(super) sender: Option<Box<dyn Observe>>,
    /// What the pages are that the messages lie on.
    pub(super) pages: Pages,
    /// Where the fields lie of the first messages.
    pub(super) places: Vec<Vec<Place>>,
}

/// Makes the messages and the path's sending half. Runs on the pair's own thread, which is so the
/// first to touch their memory: the kernel then takes it from the thread's own node.
pub(super) fn make_sender(end: &mut PairEnd<Sending>, fault: Option<Fault>) -> Result<()> {
    let PairEnd { pair, connection, case, state, .. } = end;
    let messages = source_fields(case)?;
    // As many wait for their completions with a cold source as with a hot one.
    let (way, most_in_flight) = (case.series(), hot_messages(case));
    // SAFETY: the connection was made for this pair, which makes one sender on it, and nobody else
    // sends with MSG_ZEROCOPY on it: requests, markers and acknowledgements are copied.
    let mut sender = unsafe {
        match &state.injector {
            Some(injector) => path::sender(way, SinkSocket(Arc::clone(injector)), &messages, most_in_flight)?,
            None => path::sender(way, Arc::clone(connection), &messages, most_in_flight)?,
        }
    };
    sender.prepare(&mut |mut message| {
        message.fill(TIMED_SEED);
        state.pages = message.pages();
        if state.places.len() < MOST_PLACES {
            let place = |field: &[u8]| Place { address: field.as_ptr().addr(), bytes: field.len() };
            state.places.push((0..message.fields()).map(|field| place(message.field(field))).collect());
        }
    })?;
    if let Some(fault) = fault.filter(|fault| fault.is_at(Side::Server, *pair)) {
        let connection = Arc::clone(connection);
        sender = Box::new(Faulty { inner: sender, connection, fault, message: 0 });
    }
    state.sender = Some(sender);
    Ok(())
}

/// A pair's end during a burst.
pub(super) struct Pair<'a> {
    pub(super) connection: &'a TcpStream,
    pub(super) sender: &'a mut dyn Observe,
    pub(super) case: &'a Case,
    pub(super) mode: Mode,
    pub(super) next_sequence: &'a mut u64,
}

impl Pair<'_> {
    /// Sends the next message.
    #[inline]
    pub(super) fn send(&mut self) -> Result<()> {
        let mut message = self.sender.message()?;
        if self.mode == Mode::Verify {
            message.fill(seed(self.mode, *self.next_sequence));
        }
        message.stamp(*self.next_sequence);
        self.sender.send()?;
        *self.next_sequence += 1;
        Ok(())
    }

    /// Overwrites the message that was sent just now, and tells the client that it may read it.
    pub(super) fn overwrite(&mut self) -> Result<()> {
        self.sender.submit()?;
        let was_free = self.sender.overwrite()?;
        Ok(send_all(self.connection, &[u8::from(was_free); MARKER_BYTES])?)
    }

    /// When the client has read it: puts back what was overwritten.
    pub(super) fn put_back(&mut self) -> Result<()> {
        self.sender.flush()?;
        self.sender.overwrite()?;
        Ok(())
    }

    /// After a burst that wrote every message anew: writes the bytes that timed bursts send, and
    /// leave as they are.
    pub(super) fn restore(&mut self) -> Result<()> {
        if self.mode == Mode::Verify {
            self.sender.prepare(&mut |mut message| message.fill(TIMED_SEED))?;
        }
        Ok(())
    }
}

/// What the sender and the kernel have counted so far.
pub(super) struct Counted {
    zero_copy: Option<ZeroCopyCounts>,
    copies: Copies,
    retransmitted_segments: Option<u64>,
    /// Why not, where it is not told.
    kernel_thread_ns: std::result::Result<u64, String>,
}

impl Counted {
    pub(super) fn read(pair: &Pair<'_>) -> Self {
        let sender = &*pair.sender;
        Self {
            zero_copy: sender.zero_copy_counts(),
            copies: sender.copies(),
            retransmitted_segments: retransmitted_segments(pair.connection),
            kernel_thread_ns: sender.kernel_thread_ns().map_err(|error| error.to_string()),
        }
    }

    /// Puts into `report` what was counted since.
    pub(super) fn report(&self, pair: &Pair<'_>, report: &mut SideReport) {
        let now = Self::read(pair);
        report.zero_copy =
            self.zero_copy.as_ref().and_then(|before| now.zero_copy.map(|counts| counts.since(before)));
        report.copies = now.copies.since(&self.copies);
        let again = now.retransmitted_segments.zip(self.retransmitted_segments);
        report.retransmitted_segments = again.map(|(now, before)| now.saturating_sub(before));
        match (now.kernel_thread_ns, &self.kernel_thread_ns) {
            (Ok(now_ns), Ok(before_ns)) => report.system_ns += now_ns.saturating_sub(*before_ns),
            (Err(reason), _) => report.cpu_untold = Some(reason),
            (_, Err(reason)) => report.cpu_untold = Some(reason.clone()),
        }
        if pair.case.engine == Engine::UringSqpoll {
            // A thread counts itself, and a part of the work is the kernel thread's.
            let reason = "of a sender with engine uring_sqpoll: a thread of the kernel does a part of its work uncounted";
            for reading in report.counters.values_mut() {
                *reading = Reading::Unavailable { reason: reason.to_owned() };
            }
        }
    }
}

pub(super) fn burst_before_sender() -> Error {
    Error::Protocol("a burst came before the pair's sender was made".to_owned())
}
