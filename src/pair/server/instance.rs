//! One life of a case's pairs, and the bursts that they run.

use super::Testbed;
use super::into_sink::injection_ns;
use super::sending::Sending;
use crate::case::{Case, Layout, Receiver};
use crate::environment::Effective;
use crate::error::{Error, Result};
use crate::message::{Pages, on_huge_pages};
use crate::pair::threads::{PairEnd, SharedEnd, locked};
use crate::pair::watch::Watch;
use crate::pair::{Burst, Extent, Mode, Token};
use crate::sample::{Seen, SideReport};

/// One life of a case's pairs. Dropped, or failed, it closes the connections.
pub struct Instance<'testbed> {
    pub(super) testbed: &'testbed Testbed,
    /// What the client knows it by; none where there is no client.
    pub(super) token: Option<Token>,
    pub(super) case: Case,
    /// None once a burst has failed.
    pub(super) ends: Option<Vec<SharedEnd<Sending>>>,
    /// How long a message of the last burst took on its pair.
    pub(super) message_ns: Option<f64>,
}

impl Instance<'_> {
    /// The case that this is an instance of.
    #[must_use]
    pub fn case(&self) -> Case {
        self.case
    }

    /// What the pages are that the server's messages lie on, by pair: the pool of reserved huge
    /// pages may have had enough for some. None once a burst has failed.
    #[must_use]
    pub fn pages(&self) -> Vec<Pages> {
        let of_end = |end: &SharedEnd<Sending>| locked(end).state.pages;
        self.ends.iter().flatten().map(of_end).collect()
    }

    /// Whether the allocator has put messages of the layout `heap` into mappings with huge pages,
    /// where a field lies on fewer fragments (`glibc.malloc.hugetlb`, or transparent huge pages:
    /// `always`). None of another layout, and once a burst has failed.
    ///
    /// # Errors
    /// What `open(2)` of `/proc/self/smaps` said.
    pub fn heap_is_huge(&self) -> Result<Option<bool>> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.case.layout == Layout::Heap) else {
            return Ok(None);
        };
        let largest_field = |end: &SharedEnd<Sending>| {
            let places = &locked(end).state.places;
            Some(places.last()?.iter().max_by_key(|field| field.bytes)?.address)
        };
        let addresses: Vec<usize> = ends.iter().filter_map(largest_field).collect();
        on_huge_pages(&addresses).map(Some).map_err(Error::call("open(2) of /proc/self/smaps"))
    }

    /// Whether somebody receives.
    pub(super) fn has_client(&self) -> bool {
        self.token.is_some()
    }

    /// The server's ends; none once a burst has failed.
    pub(super) fn ends(&self) -> &[SharedEnd<Sending>] {
        self.ends.as_deref().unwrap_or_default()
    }

    /// How long a message of the last burst took on its pair, in nanoseconds; none before the
    /// first.
    #[must_use]
    pub fn message_ns(&self) -> Option<f64> {
        self.message_ns
    }

    /// Runs one burst on every pair, and returns what the server's and the client's threads saw.
    ///
    /// # Errors
    /// Whatever went wrong first, on either side. The instance is closed then, and others can go
    /// on.
    pub fn burst(&mut self, burst: Burst) -> Result<(SideReport, SideReport)> {
        let Some(ends) = &self.ends else {
            return Err(Error::Protocol("an instance that failed was asked for a burst".to_owned()));
        };
        let inner = &mut *self.testbed.inner.borrow_mut();
        let reports = match self.token {
            Some(token) => self.testbed.burst_to_client(inner, ends, token, burst),
            None => self.testbed.burst_into_sink(inner, ends, &self.case, burst),
        };
        match &reports {
            Ok((_, client)) => self.message_ns = Some(client.pairs_ns as f64 / client.messages.max(1) as f64),
            Err(_) => self.ends = None,
        }
        reports
    }

    /// Runs a burst of a few messages in which each is overwritten right after it was sent
    /// ([`Mode::Overwrite`]), and returns what the client found. None where the client keeps no
    /// bytes, and where a message might not fit the sockets' buffers: the client reads it when it
    /// has been overwritten, so all of it must have arrived by then.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn overwrite(&mut self) -> Result<Option<Seen>> {
        if !may_be_overwritten(&self.case, &self.testbed.effective) {
            return Ok(None);
        }
        let (extent, mode) = (Extent::Messages(4), Mode::Overwrite);
        Ok(self.burst(Burst { lead_in_messages: 0, extent, mode })?.1.seen)
    }

    /// Of a case without a receiver: what the peer that the sender plays for itself costs by
    /// message, in nanoseconds. It is part of every message's time, and the same for every path.
    ///
    /// # Errors
    /// A failed call, or [`Error::SinkStalled`].
    pub fn injection_ns(&mut self) -> Result<Option<f64>> {
        let (Some(ends), None) = (&self.ends, self.token) else { return Ok(None) };
        let inner = &mut *self.testbed.inner.borrow_mut();
        let injection = |end: &mut PairEnd<Sending>, _: &Watch| {
            end.state.injector.as_deref().map(injection_ns).transpose()
        };
        let cost_ns = self.testbed.on_every_end_into_sink(inner, &ends[..1], Mode::Time, injection);
        if cost_ns.is_err() {
            self.ends = None;
        }
        Ok(cost_ns?.pop().flatten())
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take() else { return };
        let inner = &mut *self.testbed.inner.borrow_mut();
        match self.token {
            Some(token) => inner.client_process.close(token),
            None => inner.threads.close(ends),
        }
    }
}

/// The largest message that is overwritten, and the most on all pairs together.
const OVERWRITTEN_BYTES: usize = 256 << 10;
const ALL_BYTES: usize = 16 << 20;

/// Whether the client can find out what a message of `case` holds once it has been overwritten: it
/// keeps the bytes, and all of the message fits the sockets' buffers.
fn may_be_overwritten(case: &Case, effective: &Effective) -> bool {
    // Of the buffers, as the kernel reports them, half is its own bookkeeping, and half of the rest
    // is kept free.
    let Effective { server_socket, client_socket, .. } = effective;
    let room_bytes = server_socket.send_buffer_bytes.min(client_socket.recv_buffer_bytes) / 4;
    let Case { payload_bytes, threads, receiver, shape, .. } = *case;
    // Of a trace: its largest message, which the mean says nothing of.
    let largest_bytes = shape.largest_bytes(payload_bytes);
    let fits = largest_bytes <= room_bytes.min(OVERWRITTEN_BYTES) && largest_bytes * threads <= ALL_BYTES;
    fits && !matches!(receiver, Receiver::Discard | Receiver::Sink)
}
