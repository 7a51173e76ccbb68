//! The client process: asks for messages and receives them. Driven by the server over the control
//! socket that it finds as its standard input.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::iterators::IterationValue;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use super::control::{ToClient, ToServer, VERSION, check_version, write_frame};
use super::fault::FaultyReceiver;
use super::threads::{Counting, Gate, PairEnd, SharedEnd, Threads, joined, metered};
use super::watch::{Supervisor, Watch};
use super::{Burst, EffectiveSocket, Fault, Hello, Mode, SocketOptions, monotonic_ns, seed};
use crate::case::{Case, Workload};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::limits;
use crate::path::{self, ReceiveMessage, recv_all, send_all};
use crate::sample::{RoundTrips, Side, SideReport};
use crate::topology::Topology;
use crate::topology::affinity::Cpus;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The longest round trip that the histogram tells apart.
const LONGEST_ROUND_TRIP_NS: u64 = 60_000_000_000;

/// Serves the server process until that closes the control socket.
///
/// # Errors
/// What broke the control protocol. What goes wrong in a burst is reported over it instead.
pub fn main() -> Result<()> {
    // Whatever becomes of the server, this process does not outlive it.
    set_pdeathsig(Signal::SIGKILL).map_err(Error::call("prctl(2) PR_SET_PDEATHSIG"))?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(Error::call("dup(2)"))?;
    let mut control = UnixStream::from(stdin);
    let watch = Arc::new(Watch::default());
    let supervisor = Supervisor::<ToClient>::start(&control, &watch, Side::Server, |_| None)?;
    let mut client = Client {
        topology: None,
        options: None,
        watch,
        threads: Threads::new(Side::Client),
        instances: BTreeMap::new(),
    };
    while let Ok(frame) = supervisor.frames.recv() {
        let answer = client.answer(frame).unwrap_or_else(|error| {
            // What this side's supervisor found explains an error that only echoes it.
            let error = if error.is_echo() { client.watch.take_cause().unwrap_or(error) } else { error };
            ToServer::Failed { echo: error.is_echo(), cause: error.to_string() }
        });
        if write_frame(&mut control, &answer).is_err() {
            break; // the server is gone
        }
    }
    match client.watch.take_cause() {
        None | Some(Error::PeerGone { .. }) => Ok(()), // the run is over
        Some(error) => Err(error),
    }
}

struct Client {
    topology: Option<Topology>,
    options: Option<SocketOptions>,
    watch: Arc<Watch>,
    threads: Threads,
    /// By their tokens.
    instances: BTreeMap<u64, Instance>,
}

/// One life of a case's pairs.
struct Instance {
    workload: Workload,
    ends: Vec<SharedEnd<Receiving>>,
}

/// The client's end of a pair.
struct Receiving {
    connection: Arc<TcpStream>,
    receiver: Box<dyn ReceiveMessage>,
    /// Made when round trips are first timed one by one.
    round_trips: Option<Recorder>,
}

impl Client {
    fn answer(&mut self, frame: ToClient) -> Result<ToServer> {
        match frame {
            ToClient::Enter { version, topology } => {
                check_version(version)?;
                topology.enter(Side::Client)?;
                self.topology = Some(topology);
                Ok(ToServer::Entered { version: VERSION })
            }
            ToClient::BringUp { options } => self.bring_up(options),
            ToClient::Open { case, cpus, server, token, events, fault } => {
                self.threads.grow(case.threads)?;
                let instance = self.open(case, &cpus, server, token, &events, fault)?;
                self.instances.insert(token, instance);
                Ok(ToServer::Opened)
            }
            ToClient::Burst { token, burst, first_sequence } => {
                let instance = self.instances.get(&token).ok_or_else(out_of_turn)?;
                self.watch.arm(burst.mode, instance.connections());
                let report = instance.burst(burst, first_sequence, &mut self.threads, &self.watch);
                self.watch.disarm();
                report.map(ToServer::Done)
            }
            ToClient::Close { token } => {
                self.instances.remove(&token);
                Ok(ToServer::Closed)
            }
        }
    }

    fn bring_up(&mut self, options: SocketOptions) -> Result<ToServer> {
        let topology = self.topology.as_ref().ok_or_else(out_of_turn)?;
        topology.bring_up(Side::Client)?;
        let interfaces = topology.interfaces()?;
        let socket = EffectiveSocket::read(&socket(&options)?)?;
        self.options = Some(options);
        Ok(ToServer::Up { interfaces, socket })
    }

    fn open(
        &self,
        case: Case,
        cpus: &Cpus,
        server: SocketAddr,
        token: u64,
        events: &[Event],
        fault: Option<Fault>,
    ) -> Result<Instance> {
        let options = self.options.as_ref().ok_or_else(out_of_turn)?;
        let mut ends = Vec::new();
        for pair in 0..case.threads {
            let connection = Arc::new(connect(options, server)?);
            send_all(&connection, &Hello::new(token, pair).0)?;
            let socket = Arc::clone(&connection);
            let mut receiver =
                path::receiver(case.receiver, case.path, socket, case.payload_bytes, case.layout);
            if let Some(fault) = fault.filter(|fault| fault.side == Side::Client && fault.pair == pair) {
                let connection = Arc::clone(&connection);
                receiver = Box::new(FaultyReceiver { inner: receiver, connection, fault, message: 0 });
            }
            let cpus = cpus.place(case.placement, Side::Client, pair)?.to_vec();
            let state = Receiving { connection, receiver, round_trips: None };
            ends.push(Arc::new(Mutex::new(PairEnd { pair, cpus, state, counting: Counting::of(events) })));
        }
        Ok(Instance { workload: case.workload, ends })
    }
}

impl Instance {
    fn connections(&self) -> Vec<Arc<TcpStream>> {
        let connection = |end: &SharedEnd<Receiving>| {
            Arc::clone(&end.lock().unwrap_or_else(PoisonError::into_inner).state.connection)
        };
        self.ends.iter().map(connection).collect()
    }

    fn burst(
        &self,
        burst: Burst,
        first: u64,
        threads: &mut Threads,
        watch: &Arc<Watch>,
    ) -> Result<SideReport> {
        let workload = self.workload;
        let gate = Gate::new(self.ends.len());
        let work = Arc::new(move |end: &mut PairEnd<Receiving>| request(end, workload, burst, first, &gate));
        let running = threads.start(&self.ends, watch, &work)?;
        let mut report = joined(running.wait(watch))?;
        if burst.mode == Mode::TimeEach && workload == Workload::Rr {
            let mut sum = Recorder::new();
            for end in &self.ends {
                let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
                sum.take(end.state.round_trips.as_mut());
            }
            report.round_trips = Some(sum.round_trips());
        }
        Ok(report)
    }
}

fn out_of_turn() -> Error {
    Error::Protocol("the server's frame was not the one that was due".to_owned())
}

fn socket(options: &SocketOptions) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)
        .map_err(|errno| limits::with_limit_remedy("socket(2)", errno))?;
    options.apply(&socket)?;
    // Closing resets the connection: when an instance ends nothing is under way, and thousands of them
    // would else leave as many ports waiting.
    socket.set_linger(Some(Duration::ZERO)).map_err(Error::call("setsockopt(2) SO_LINGER"))?;
    Ok(socket)
}

fn connect(options: &SocketOptions, server: SocketAddr) -> Result<TcpStream> {
    let socket = socket(options)?;
    socket
        .connect_timeout(&server.into(), CONNECT_LIMIT)
        .map_err(|errno| match errno.kind() {
            std::io::ErrorKind::TimedOut => std::io::Error::from_raw_os_error(libc::ETIMEDOUT),
            _ => errno,
        })
        .map_err(|errno| limits::with_limit_remedy("connect(2)", errno))?;
    Ok(socket.into())
}

/// One burst of one pair, on the client.
fn request(
    end: &mut PairEnd<Receiving>,
    workload: Workload,
    burst: Burst,
    first: u64,
    gate: &Gate,
) -> Result<SideReport> {
    let Receiving { connection, receiver, round_trips } = &mut end.state;
    let (pair, mode) = (end.pair, burst.mode);
    let each = (mode == Mode::TimeEach).then(|| round_trips.get_or_insert_with(Recorder::new));
    let timed = first + burst.lead_in;
    let sequences = timed..timed + burst.messages;
    let receiver = &mut **receiver;
    if burst.lead_in > 0 {
        receive_messages(pair, connection, receiver, workload, mode, first..timed, None)?;
    }
    let copies_before = receiver.copies();
    gate.wait()?;
    let mut report = metered(&mut end.counting, || {
        receive_messages(pair, connection, receiver, workload, mode, sequences.clone(), each)
    })?;
    recv_all(connection, &mut [0; 8])?; // the server has read the clock
    report.copies = receiver.copies().since(&copies_before);
    if mode == Mode::Verify {
        report.verified_messages = burst.messages;
    } else if let Some(last) = sequences.last() {
        check(pair, receiver, mode, last)?;
        report.verified_messages = 1;
    }
    Ok(report)
}

/// Asks for messages, or takes them in back to back, and says at last that all have arrived. Returns when it
/// began.
fn receive_messages(
    pair: usize,
    connection: &TcpStream,
    receiver: &mut dyn ReceiveMessage,
    workload: Workload,
    mode: Mode,
    sequences: Range<u64>,
    each: Option<&mut Recorder>,
) -> Result<u64> {
    let look = |receiver: &dyn ReceiveMessage, sequence| match mode {
        Mode::Verify => check(pair, receiver, mode, sequence),
        Mode::Time | Mode::TimeEach => Ok(()),
    };
    let first = sequences.start;
    let start_ns = monotonic_ns()?;
    match workload {
        Workload::Rr => {
            let mut clock = each.map(|recorder| (recorder, start_ns));
            for sequence in sequences {
                send_all(connection, &sequence.to_le_bytes())?;
                receiver.receive()?;
                if let Some((recorder, last_ns)) = &mut clock {
                    let now_ns = monotonic_ns()?;
                    recorder.record(now_ns - *last_ns);
                    *last_ns = now_ns;
                }
                look(receiver, sequence)?;
            }
        }
        Workload::Stream => {
            send_all(connection, &first.to_le_bytes())?; // ready
            for sequence in sequences {
                receiver.receive()?;
                look(receiver, sequence)?;
            }
        }
    }
    send_all(connection, &first.to_le_bytes())?; // received the last
    Ok(start_ns)
}

/// Compares the message that was received last with what was sent.
fn check(pair: usize, receiver: &dyn ReceiveMessage, mode: Mode, sequence: u64) -> Result<()> {
    let verdict = receiver.last().verify(seed(mode, sequence), sequence).unwrap_or(Ok(()));
    verdict.map_err(|mismatch| Error::Corrupt { pair, mismatch })
}

/// Records one pair's round trips without allocating.
struct Recorder {
    histogram: Histogram<u32>,
    sum_ns: u64,
    max_ns: u64,
}

impl Recorder {
    fn new() -> Self {
        // The bounds are constants that the histogram accepts.
        let histogram = Histogram::new_with_bounds(1, LONGEST_ROUND_TRIP_NS, 3)
            .unwrap_or_else(|error| unreachable!("constant bounds: {error}"));
        Self { histogram, sum_ns: 0, max_ns: 0 }
    }

    fn record(&mut self, round_trip_ns: u64) {
        self.histogram.saturating_record(round_trip_ns);
        self.sum_ns += round_trip_ns;
        self.max_ns = self.max_ns.max(round_trip_ns);
    }

    /// Adds what `other` recorded, and empties it.
    fn take(&mut self, other: Option<&mut Self>) {
        let Some(other) = other else { return };
        // Equal bounds, so there is a place for every value.
        let _ = self.histogram.add(&other.histogram);
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        other.histogram.reset();
        (other.sum_ns, other.max_ns) = (0, 0);
    }

    fn round_trips(&self) -> RoundTrips {
        let entry = |step: IterationValue<u32>| (step.value_iterated_to(), step.count_since_last_iteration());
        RoundTrips {
            sum_ns: self.sum_ns,
            count: self.histogram.len(),
            max_ns: self.max_ns,
            histogram: self.histogram.iter_recorded().map(entry).collect(),
        }
    }
}
