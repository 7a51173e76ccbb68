//! Cases that nobody receives: their connections lead into the sink, and the pair's own thread
//! plays the peer.

use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt};

use super::sending::{Counted, Pair, Sending, burst_before_sender};
use super::{Inner, Testbed};
use crate::case::{Case, Workload};
use crate::environment::SinkLink;
use crate::error::{Error, Result};
use crate::event::Reading;
use crate::pair::options::effective;
use crate::pair::recorder::Recorder;
use crate::pair::sink::{Injector, SinkParts};
use crate::pair::threads::{Gate, PairEnd, SharedEnd, connections_of, metered, take_round_trips};
use crate::pair::watch::Watch;
use crate::pair::{Burst, Extent, Fault, Mode, in_flight_messages, monotonic_ns, receive_request};
use crate::sample::SideReport;
use crate::topology::Sink;

/// A receiver acknowledges a stream every so many bytes: as much as the network layer hands on in
/// one piece.
const ACKNOWLEDGED_BYTES: usize = 64 << 10;

impl Testbed {
    /// The link and the sockets of cases that nobody receives, read from the kernel. Makes the
    /// sink, if no case did.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn sink_link(&self) -> Result<SinkLink> {
        let mut inner = self.inner.borrow_mut();
        let sink = inner.sink(&self.setup)?;
        let injectors = Injector::connect(sink, &self.setup.socket, 1)?;
        let connection = &injectors[0].connection;
        Ok(SinkLink {
            interface: sink.interface()?,
            peer: Sink::NOBODY_ADDRESS,
            mss_bytes: getsockopt(connection, sockopt::TcpMaxSeg)
                .map_err(Error::call("getsockopt(2) TCP_MAXSEG"))?,
            socket: effective(connection)?,
            acknowledged_in_cpu_time: Some(injectors[0].is_in_cpu_time),
            is_alone: false,
        })
    }

    /// A connection into the sink, in parts.
    #[doc(hidden)]
    pub fn sink_parts(&self) -> Result<SinkParts> {
        SinkParts::open(self.inner.borrow_mut().sink(&self.setup)?, &self.setup.socket)
    }

    /// Runs `work` on a thread in the sink's namespace, for tests that look at what is in it, or
    /// change it.
    ///
    /// # Errors
    /// What `work` ends with, or what keeps the sink from being made.
    #[doc(hidden)]
    pub fn within_sink<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        self.inner.borrow_mut().sink(&self.setup)?.within(work)
    }

    /// Makes the connections of a case that nobody receives, and their senders.
    pub(super) fn open_into_sink(
        &self,
        inner: &mut Inner,
        case: Case,
        fault: Option<Fault>,
    ) -> Result<Vec<SharedEnd<Sending>>> {
        let sink = inner.sink(&self.setup)?;
        let injectors = Injector::connect(sink, &self.setup.socket, case.threads)?;
        let connections = injectors.into_iter().map(|injector| {
            let injector = Arc::new(injector);
            (Arc::clone(&injector.connection), Some(injector))
        });
        self.make_ends(inner, case, fault, connections)
            .map_err(|error| cause_of(error, &inner.client_process.watch))
    }

    /// A burst of a case that nobody receives: the sender's report, and in the client's place the
    /// timed window alone.
    pub(super) fn burst_into_sink(
        &self,
        inner: &mut Inner,
        ends: &[SharedEnd<Sending>],
        case: &Case,
        burst: Burst,
    ) -> Result<(SideReport, SideReport)> {
        let gate = Gate::new(ends.len());
        let work = move |end: &mut PairEnd<Sending>, watch: &Watch| serve_sink(end, burst, &gate, watch);
        let server = SideReport::merge(self.on_every_end_into_sink(inner, ends, burst.mode, work)?);
        let window = SideReport {
            messages: server.messages,
            start_ns: server.start_ns,
            end_ns: server.end_ns,
            pairs_ns: server.pairs_ns,
            counters: server.counters.keys().map(|&event| (event, no_client())).collect(),
            round_trips: burst.mode.times_each(case).then(|| take_round_trips(ends)),
            ..SideReport::default()
        };
        Ok((server, window))
    }

    /// As [`on_every_end`](Self::on_every_end), while the watch looks after the connections into
    /// the sink.
    ///
    /// # Errors
    /// What went wrong first. A stall that the watch has found is [`Error::SinkStalled`].
    pub(super) fn on_every_end_into_sink<R: Send + 'static>(
        &self,
        inner: &mut Inner,
        ends: &[SharedEnd<Sending>],
        mode: Mode,
        work: impl Fn(&mut PairEnd<Sending>, &Watch) -> Result<R> + Send + Sync + 'static,
    ) -> Result<Vec<R>> {
        let watch = Arc::clone(&inner.client_process.watch);
        watch.arm(Some(mode.stall(true)), connections_of(ends));
        let results = watch.disarm(self.on_every_end(inner, ends, work, |_| Ok(())));
        results.map_err(|error| cause_of(error, &watch))
    }
}

/// What is behind an error of connections into the sink: itself, unless it only echoes what the
/// watch has found.
fn cause_of(error: Error, watch: &Watch) -> Error {
    match watch.take_cause() {
        Some(Error::Stalled { waited, .. }) => Error::SinkStalled { waited },
        Some(cause) if error.is_echo() => cause,
        _ => error,
    }
}

/// What a client that does not exist has counted.
fn no_client() -> Reading {
    Reading::Unavailable { reason: "of the client: nobody receives (receiver sink)".to_owned() }
}

/// One burst of one pair that nobody receives.
fn serve_sink(end: &mut PairEnd<Sending>, burst: Burst, gate: &Gate, watch: &Watch) -> Result<SideReport> {
    let PairEnd { connection, case, counters, round_trips, next_sequence, state, .. } = end;
    let (Some(sender), Some(injector)) = (state.sender.as_deref_mut(), &state.injector) else {
        return Err(burst_before_sender());
    };
    let each = burst.mode.times_each(case).then(|| round_trips.get_or_insert_with(Recorder::new));
    let pair = &mut Pair { connection, sender, case, mode: burst.mode, next_sequence };
    if burst.lead_in_messages > 0 {
        send_messages(injector, pair, Extent::Messages(burst.lead_in_messages), None)?;
    }
    let before = Counted::read(pair);
    gate.pass(watch)?;
    let mut report = metered(counters, || send_messages(injector, pair, burst.extent, each))?;
    before.report(pair, &mut report);
    if !injector.is_in_cpu_time {
        report.cpu_untold = Some(SinkLink::CPU_TIME_IS_NOT_TOLD.to_owned());
    }
    pair.restore()?;
    Ok(report)
}

/// Sends messages into the sink, and plays the peer.
///
/// `rr`: a request is injected with the acknowledgement of all before, received, answered by a
/// message, and this acknowledged. `stream`: messages back to back, acknowledged every 64 KiB, or
/// as often as a client asks for more where that is more often. The window is from before the first
/// request to after the last acknowledgement. `each` takes the time of every round trip: of `rr`
/// alone, since a stream has none.
///
/// Nobody can check the bytes, so [`Mode::Verify`] looks at something else: one message is in
/// flight, and what the kernel says of it is read before the next. So no two notifications are
/// joined, and what was copied is counted.
fn send_messages(
    injector: &Injector,
    pair: &mut Pair<'_>,
    extent: Extent,
    mut each: Option<&mut Recorder>,
) -> Result<SideReport> {
    let case = pair.case;
    let at_a_time = match case.workload {
        _ if pair.mode == Mode::Verify => 1,
        Workload::Rr => 1,
        Workload::Stream => {
            (ACKNOWLEDGED_BYTES / case.payload_bytes).min(in_flight_messages(case).div_ceil(2)).max(1) as u64
        }
    };
    let first = *pair.next_sequence;
    let start_ns = monotonic_ns()?;
    let mut last_ns = start_ns;
    loop {
        if case.workload == Workload::Rr {
            injector.request(1)?;
            receive_request(&injector.connection)?;
        }
        for _ in 0..at_a_time {
            pair.send()?;
        }
        pair.sender.submit()?;
        injector.acknowledge_all()?;
        pair.sender.received(*pair.next_sequence);
        if pair.mode == Mode::Verify {
            pair.sender.flush()?;
        }
        let now_ns = monotonic_ns()?;
        if let Some(recorder) = &mut each {
            recorder.record(now_ns - last_ns);
        }
        last_ns = now_ns;
        let is_over = match extent {
            Extent::Messages(messages) => *pair.next_sequence - first >= messages,
            Extent::Time(duration) => u128::from(now_ns - start_ns) >= duration.as_nanos(),
        };
        if is_over {
            break;
        }
    }
    pair.sender.flush()?;
    let (messages, drain_ns) = (*pair.next_sequence - first, monotonic_ns()? - last_ns);
    Ok(SideReport { messages, start_ns, end_ns: last_ns, drain_ns, ..SideReport::default() })
}

/// What the peer costs: the mean time of a request and an acknowledgement with no message between,
/// in nanoseconds.
pub(super) fn injection_ns(injector: &Injector) -> Result<f64> {
    const TIMES: u32 = 2000;
    let start_ns = monotonic_ns()?;
    for _ in 0..TIMES {
        injector.request(1)?;
        receive_request(&injector.connection)?;
        injector.acknowledge(true)?;
    }
    Ok((monotonic_ns()? - start_ns) as f64 / f64::from(TIMES))
}
