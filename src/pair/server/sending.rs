//! The server's end of a pair: the path's sending half, with what it sends and what it has counted.

use std::net::TcpStream;
use std::sync::Arc;

use crate::case::{Case, Engine};
use crate::error::{Error, Result};
use crate::event::Reading;
use crate::fragments::Place;
use crate::message::Pages;
use crate::pair::fault::Faulty;
use crate::pair::recorder::Recorder;
use crate::pair::sink::{Injector, SinkSocket};
use crate::pair::threads::{SharedEnd, locked};
use crate::pair::watch::retransmitted_segments;
use crate::pair::{Fault, Mode, TIMED_SEED, hot_messages, seed, source_fields};
use crate::path::{self, Observe, SendMessage};
use crate::sample::{Copies, SideReport, ZeroCopyCounts};

/// Of so many messages it is known where they lie: of every shape of a trace.
const MOST_PLACES: usize = 256;

/// The server's end of a pair.
pub(super) struct Sending {
    pub(super) connection: Arc<TcpStream>,
    /// What plays the client, where there is none.
    pub(super) injector: Option<Arc<Injector>>,
    pub(super) case: Case,
    fault: Option<Fault>,
    /// None until the pair's thread has made it.
    pub(super) sender: Option<Box<dyn Observe>>,
    /// What the pages are that the messages lie on.
    pub(super) pages: Pages,
    /// An address in the largest field of one of them; none before they are made.
    pub(super) lies_at: Option<usize>,
    /// Where the fields lie of the first messages.
    pub(super) places: Vec<Vec<Place>>,
    /// The number of the next message.
    pub(super) next_sequence: u64,
    /// Made when round trips into the sink are first timed one by one.
    pub(super) round_trips: Option<Recorder>,
}

impl Sending {
    pub(super) fn new(
        connection: Arc<TcpStream>,
        injector: Option<Arc<Injector>>,
        case: Case,
        fault: Option<Fault>,
    ) -> Self {
        Self {
            connection,
            injector,
            case,
            fault,
            sender: None,
            pages: Pages::default(),
            lies_at: None,
            places: Vec::new(),
            next_sequence: 0,
            round_trips: None,
        }
    }

    /// Makes the messages and the path's sending half. Runs on the pair's own thread, which is so
    /// the first to touch their memory: the kernel then takes it from the thread's own node.
    pub(super) fn make_sender(&mut self) -> Result<()> {
        let messages = source_fields(&self.case)?;
        // As many wait for their completions with a cold source as with a hot one.
        let (way, most_in_flight) = (self.case.series(), hot_messages(&self.case));
        // SAFETY: the connection was made for this pair, which makes one sender on it, and nobody
        // else sends with MSG_ZEROCOPY on it: requests, markers and acknowledgements are copied.
        let mut sender = unsafe {
            match &self.injector {
                Some(injector) => {
                    path::sender(way, SinkSocket(Arc::clone(injector)), &messages, most_in_flight)?
                }
                None => path::sender(way, Arc::clone(&self.connection), &messages, most_in_flight)?,
            }
        };
        sender.prepare(&mut |mut message| {
            message.fill(TIMED_SEED);
            self.pages = message.pages();
            let largest =
                (0..message.fields()).map(|index| message.field(index)).max_by_key(|field| field.len());
            self.lies_at = largest.map(|field| field.as_ptr().addr());
            if self.places.len() < MOST_PLACES {
                let place = |field: &[u8]| Place { address: field.as_ptr().addr(), bytes: field.len() };
                self.places.push((0..message.fields()).map(|field| place(message.field(field))).collect());
            }
        })?;
        if let Some(fault) = self.fault {
            let connection = Arc::clone(&self.connection);
            sender = Box::new(Faulty { inner: sender, connection, fault, message: 0 });
        }
        self.sender = Some(sender);
        Ok(())
    }
}

pub(super) fn connections_of(ends: &[SharedEnd<Sending>]) -> Vec<Arc<TcpStream>> {
    let connection = |end: &SharedEnd<Sending>| Arc::clone(&locked(end).state.connection);
    ends.iter().map(connection).collect()
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
    pub(super) fn read(connection: &TcpStream, sender: &dyn Observe) -> Self {
        Self {
            zero_copy: sender.zero_copy_counts(),
            copies: sender.copies(),
            retransmitted_segments: retransmitted_segments(connection),
            kernel_thread_ns: sender.kernel_thread_ns().map_err(|error| error.to_string()),
        }
    }

    /// Puts into `report` what was counted since.
    pub(super) fn report(
        &self,
        connection: &TcpStream,
        sender: &dyn Observe,
        case: &Case,
        report: &mut SideReport,
    ) {
        let now = Self::read(connection, sender);
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
        if case.engine == Engine::UringSqpoll {
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

/// After a burst that wrote every message anew: writes the bytes that timed bursts send, and leave
/// as they are.
pub(super) fn restore(sender: &mut dyn Observe, mode: Mode) -> Result<()> {
    if mode == Mode::Verify {
        sender.prepare(&mut |mut message| message.fill(TIMED_SEED))?;
    }
    Ok(())
}

pub(super) fn send_message(sender: &mut dyn SendMessage, mode: Mode, sequence: u64) -> Result<()> {
    let mut message = sender.message()?;
    if mode == Mode::Verify {
        message.fill(seed(mode, sequence));
    }
    message.stamp(sequence);
    Ok(sender.send()?)
}
