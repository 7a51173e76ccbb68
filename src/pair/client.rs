//! The client process: asks for messages and receives them. Driven by the server over the control
//! line, which is its standard input and output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Domain;

use super::control::{Description, ToClient, ToServer, greeting, write_frame};
use super::fault::Faulty;
use super::options::effective;
use super::peer::Peer;
use super::recorder::Recorder;
use super::threads::{
    Gate, PairEnd, SharedEnd, Threads, connections_of, joined, locked, metered, take_round_trips,
};
use super::watch::{Supervisor, Watch};
use super::{
    Burst, Extent, Fault, Hello, MARKER_BYTES, Mode, SocketOptions, Token, monotonic_ns, most_in_flight,
    seed, send_request,
};
use crate::case::{Case, Placement};
use crate::deadlines::{CONNECT_LIMIT, OVERWRITTEN_LIMIT};
use crate::environment::{Cpus, Topology};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host;
use crate::path::{self, ReceiveMessage, recv_all, send_all};
use crate::program;
use crate::sample::{Seen, Side, SideReport};
use crate::topology::{self, affinity, copy_causes};

/// The option that has a client end with its parent. Only a child of the server's gets it: what
/// starts a peer's client, a shell or a container's runtime, may end before it.
pub const WITH_PARENT: &str = "--with-parent";

/// Serves the server process until that closes the control line. `examine` says what this machine
/// can measure.
///
/// # Errors
/// What broke the control protocol. What goes wrong in a burst is reported over it instead.
pub fn main(with_parent: bool, examine: fn() -> serde_json::Value) -> Result<()> {
    if with_parent {
        // This process ends with the server, also where the server is killed.
        set_pdeathsig(Signal::SIGKILL).map_err(Error::call("prctl(2) PR_SET_PDEATHSIG"))?;
    }
    let duplicate = |line: BorrowedFd<'_>| -> Result<OwnedFd> {
        line.try_clone_to_owned().map_err(Error::call("dup(2) of the control line"))
    };
    let input = duplicate(std::io::stdin().as_fd())?;
    notice_a_lost_server(&input);
    let mut output = File::from(duplicate(std::io::stdout().as_fd())?);
    let greeted = output.write_all(greeting(Side::Client).as_bytes());
    greeted.map_err(Error::call("write(2) to the control line")).or_else(unless_gone)?;
    let watch = Arc::new(Watch::default());
    let supervisor = Supervisor::<ToClient>::start(input, &watch, Side::Server, |_| None)?;
    let mut client = Client {
        examine,
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
        if let Err(error) = write_frame(&mut output, &answer) {
            return unless_gone(error);
        }
    }
    match client.watch.take_cause() {
        None | Some(Error::PeerGone { .. }) => Ok(()), // the run is over
        Some(error) => Err(error),
    }
}

/// Where the control line is a TCP connection, as `nc -e` has it, asks the kernel to find out that
/// the server's machine is gone without a word: the line then ends after 8 s. Any other line is
/// somebody else's to watch, such as ssh's.
fn notice_a_lost_server(line: &OwnedFd) {
    let set = || -> nix::Result<()> {
        setsockopt(line, sockopt::TcpKeepIdle, &5)?;
        setsockopt(line, sockopt::TcpKeepInterval, &1)?;
        setsockopt(line, sockopt::TcpKeepCount, &3)?;
        setsockopt(line, sockopt::KeepAlive, &true)
    };
    let _ = set(); // a pipe or a local socket has no such options
}

/// No error where the server has gone away: the run is over.
fn unless_gone(error: Error) -> Result<()> {
    if error.is_echo() { Ok(()) } else { Err(error) }
}

struct Client {
    examine: fn() -> serde_json::Value,
    topology: Option<Topology>,
    options: Option<SocketOptions>,
    watch: Arc<Watch>,
    threads: Threads,
    /// Each is one life of a case's pairs.
    instances: BTreeMap<Token, Vec<SharedEnd<Receiving>>>,
}

/// The client's half of a pair; none until the pair's thread has made it.
type Receiving = Option<Box<dyn ReceiveMessage>>;

/// Makes the buffers and the receiving half. Runs on the pair's own thread, which is so the first
/// to touch their memory.
fn make_receiver(end: &mut PairEnd<Receiving>, fault: Option<Fault>) -> Result<()> {
    let Case { receiver, path, layout, shape, payload_bytes, .. } = end.case;
    let socket = Arc::clone(&end.connection);
    let messages = shape.messages(payload_bytes);
    let mut receiver = path::receiver(receiver, path, socket, &messages, layout)?;
    if let Some(fault) = fault.filter(|fault| fault.is_at(Side::Client, end.pair)) {
        let connection = Arc::clone(&end.connection);
        receiver = Box::new(Faulty { inner: receiver, connection, fault, message: 0 });
    }
    end.state = Some(receiver);
    Ok(())
}

impl Client {
    fn answer(&mut self, frame: ToClient) -> Result<ToServer> {
        match frame {
            ToClient::Enter { topology } => {
                topology::enter(&topology, Side::Client)?;
                let description = (topology == Topology::Peer).then(describe).transpose()?;
                self.topology = Some(topology);
                Ok(ToServer::Entered { description })
            }
            ToClient::Route { server } => topology::end_towards(None, server).map(ToServer::Routed),
            ToClient::RemoveProgram => remove_own_program(),
            ToClient::Examine => Ok(ToServer::Examined((self.examine)())),
            ToClient::BringUp { options } => self.bring_up(options),
            ToClient::FindCopyCauses { device } => {
                copy_causes::at_receiver(&device).map(ToServer::CopyCauses)
            }
            ToClient::Open { case, cpus, placement, server, token, events, fault } => {
                // The server has checked it too, if it is one: threads and memory are taken by it.
                case.check()?;
                self.threads.grow(case.threads)?;
                let ends = self.open(case, (&cpus, placement), server, token, &events, fault)?;
                self.instances.insert(token, ends);
                Ok(ToServer::Opened)
            }
            ToClient::Burst { token, burst } => {
                burst.check()?;
                let ends = self.instances.get(&token).ok_or_else(out_of_turn)?;
                self.watch.arm(Some(burst.mode.stall(false)), connections_of(ends));
                let report = run_burst(ends, burst, &mut self.threads, &self.watch);
                self.watch.disarm(report).map(ToServer::Done)
            }
            ToClient::Close { token } => {
                self.instances.remove(&token);
                Ok(ToServer::Closed)
            }
        }
    }

    fn bring_up(&mut self, options: SocketOptions) -> Result<ToServer> {
        let topology = self.topology.as_ref().ok_or_else(out_of_turn)?;
        topology::bring_up(topology, Side::Client)?;
        let interfaces = topology::interfaces(topology)?;
        let socket = effective(&options.resetting_socket(Domain::IPV4)?)?;
        self.options = Some(options);
        Ok(ToServer::Up { interfaces, socket })
    }

    fn open(
        &mut self,
        case: Case,
        (cpus, placement): (&Cpus, Placement),
        server: SocketAddr,
        token: Token,
        events: &[Event],
        fault: Option<Fault>,
    ) -> Result<Vec<SharedEnd<Receiving>>> {
        let options = self.options.as_ref().ok_or_else(out_of_turn)?;
        let mut ends = Vec::new();
        for pair in 0..case.threads {
            let connection = Arc::new(connect(options, server)?);
            send_all(&connection, &Hello::new(token, pair).0)?;
            let cpus = cpus.place(placement, Side::Client, pair)?;
            ends.push(PairEnd::shared(pair, connection, case, cpus, events, None));
        }
        self.watch.arm(None, connections_of(&ends));
        let work = move |end: &mut PairEnd<Receiving>, _: &Watch| make_receiver(end, fault);
        let made = self.threads.start(&ends, &self.watch, &Arc::new(work));
        let made = made.and_then(|running| joined(running.wait(&self.watch)));
        self.watch.disarm(made).map(|_| ends)
    }
}

/// One burst of every pair.
fn run_burst(
    ends: &[SharedEnd<Receiving>],
    burst: Burst,
    threads: &mut Threads,
    watch: &Arc<Watch>,
) -> Result<SideReport> {
    let flags = Arc::new(Flags { gate: Gate::new(ends.len()), stop: AtomicBool::new(false) });
    let shared = Arc::clone(&flags);
    let work = move |end: &mut PairEnd<Receiving>, watch: &Watch| request(end, burst, &shared, watch);
    let mut running = threads.start(ends, watch, &Arc::new(work))?;
    if let Extent::Time(duration) = burst.extent {
        // The deadline is one flag for all pairs: none of them reads a clock for it.
        if flags.gate.wait(watch).is_ok() {
            running.wait_for(duration);
        }
        flags.stop.store(true, Ordering::Relaxed);
    }
    let mut report = SideReport::merge(joined(running.wait(watch))?);
    let is_timed = ends.first().is_some_and(|end| burst.mode.times_each(&locked(end).case));
    report.round_trips = is_timed.then(|| take_round_trips(ends));
    Ok(report)
}

/// What the pairs of a burst share.
struct Flags {
    /// Lets all begin the timed part at once.
    gate: Gate,
    /// The deadline has passed: ask for no more messages.
    stop: AtomicBool,
}

fn out_of_turn() -> Error {
    Error::Protocol("the server sent another frame than the one that was expected".to_owned())
}

/// Removes the file that this process runs from, if it was brought over for one comparison.
fn remove_own_program() -> Result<ToServer> {
    let program = std::env::current_exe().map_err(Error::call("readlink(2) of /proc/self/exe"))?;
    let is_a_copy = program
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(Peer::COPY_PREFIX.as_bytes()));
    if !is_a_copy {
        return Err(Error::Protocol(format!("{} was not brought over, and stays", program.display())));
    }
    std::fs::remove_file(&program).map_err(Error::file("unlink(2)", &program))?;
    Ok(ToServer::Removed)
}

/// What a peer's client runs on.
fn describe() -> Result<Description> {
    Ok(Description {
        host: host::host_name(),
        program: program::this(),
        boot_id: host::boot_id()?,
        cpus: affinity::allowed_cpus()?,
        machine: host::machine()?,
    })
}

/// The call that a client whose connection was not answered names.
pub(super) const CONNECT: &str = "connect(2)";

fn connect(options: &SocketOptions, server: SocketAddr) -> Result<TcpStream> {
    let socket = options.resetting_socket(Domain::for_address(server))?;
    socket.connect_timeout(&server.into(), CONNECT_LIMIT).map_err(|errno| {
        if errno.kind() != std::io::ErrorKind::TimedOut {
            return host::refused(CONNECT, errno);
        }
        let cause = format!(
            "nothing at {server} answered for {} s; the cause is not known; what can be looked at: a firewall that drops \
             (nft list ruleset, on both machines), the route (ip route get {})",
            CONNECT_LIMIT.as_secs(),
            server.ip()
        );
        Error::refused(CONNECT, std::io::Error::from_raw_os_error(libc::ETIMEDOUT), cause)
    })?;
    Ok(socket.into())
}

/// One burst of one pair, on the client.
fn request(end: &mut PairEnd<Receiving>, burst: Burst, flags: &Flags, watch: &Watch) -> Result<SideReport> {
    let PairEnd { pair, connection, case, counters, round_trips, next_sequence, state, .. } = end;
    let Some(receiver) = state else {
        return Err(Error::Protocol("a burst came before the pair's receiver was made".to_owned()));
    };
    let (mode, stop) = (burst.mode, &flags.stop);
    let each = mode.times_each(case).then(|| round_trips.get_or_insert_with(Recorder::new));
    let mut pair =
        Pair { number: *pair, connection, receiver: &mut **receiver, case: *case, mode, stop, next_sequence };
    if burst.lead_in_messages > 0 {
        pair.receive_messages(Extent::Messages(burst.lead_in_messages), None)?;
        recv_all(connection, &mut [0; 8])?; // the server has reaped what that left
    }
    let copies_before = pair.receiver.copies();
    flags.gate.pass(watch)?;
    let mut report = metered(counters, || pair.receive_messages(burst.extent, each))?;
    let mut sent = [0; 8];
    recv_all(connection, &mut sent)?; // the server has read its clock
    if u64::from_le_bytes(sent) != report.messages {
        return Err(Error::Protocol(format!(
            "pair {}: the server sent {} messages in a burst of which {} were asked for",
            pair.number,
            u64::from_le_bytes(sent),
            report.messages
        )));
    }
    report.copies = pair.receiver.copies().since(&copies_before);
    if matches!(mode, Mode::Time | Mode::TimeEach) && report.messages > 0 {
        report.verified_messages = pair.check(*pair.next_sequence - 1)?;
    }
    Ok(report)
}

/// A pair's end during a burst.
struct Pair<'a> {
    number: usize,
    connection: &'a TcpStream,
    receiver: &'a mut dyn ReceiveMessage,
    case: Case,
    mode: Mode,
    /// Set when a burst's time is over: by the main thread, or by the first pair that reads the
    /// clock anyway and finds it. A thread that shares a CPU with the pairs may wake late.
    stop: &'a AtomicBool,
    next_sequence: &'a mut u64,
}

impl Pair<'_> {
    /// Asks for messages and takes them in, as many at a time as the workload has in flight, and
    /// says at last that all have arrived. The window is from before the first request to after the
    /// last byte.
    fn receive_messages(&mut self, extent: Extent, each: Option<&mut Recorder>) -> Result<SideReport> {
        let in_flight = most_in_flight(&self.case, self.mode);
        // A stream asks again when half of what it asked for has arrived: the server never runs
        // dry.
        let at_a_time = in_flight.div_ceil(2);
        let (mut asked, mut received, mut verified) = (0, 0, 0);
        let mut seen = None;
        let start_ns = monotonic_ns()?;
        let mut clock = each.map(|each| (each, start_ns));
        let over_ns = match extent {
            Extent::Messages(_) => u64::MAX,
            Extent::Time(duration) => start_ns.saturating_add(duration.as_nanos() as u64),
        };
        loop {
            while asked + at_a_time <= received + in_flight {
                let messages = match extent {
                    Extent::Messages(messages) => at_a_time.min(messages - asked),
                    // A pair that comes late asks once all the same: a burst has a message on every
                    // pair.
                    Extent::Time(_) if asked > 0 && self.stop.load(Ordering::Relaxed) => 0,
                    Extent::Time(_) => at_a_time,
                };
                if messages == 0 {
                    break;
                }
                send_request(self.connection, messages)?;
                asked += messages;
            }
            if received == asked {
                break;
            }
            if self.mode == Mode::Overwrite {
                *seen.get_or_insert_default() += self.receive_overwritten()?;
            } else {
                self.receiver.receive()?;
            }
            received += 1;
            if let Some((recorder, last_ns)) = &mut clock {
                let now_ns = monotonic_ns()?;
                recorder.record(now_ns - *last_ns);
                *last_ns = now_ns;
                if now_ns >= over_ns {
                    self.stop.store(true, Ordering::Relaxed);
                }
            }
            if self.mode == Mode::Verify {
                verified += self.check(*self.next_sequence)?;
            }
            *self.next_sequence += 1;
        }
        let end_ns = monotonic_ns()?;
        send_request(self.connection, 0)?;
        let (messages, verified_messages) = (received, verified);
        Ok(SideReport { messages, start_ns, end_ns, verified_messages, seen, ..SideReport::default() })
    }

    /// Waits until a whole message has arrived and has been overwritten; then takes it in, and
    /// counts what it has.
    fn receive_overwritten(&mut self) -> Result<Seen> {
        const LOOK_AGAIN: Duration = Duration::from_micros(50);
        let shapes = self.case.shape.messages(self.case.payload_bytes);
        let payload_bytes: usize = shapes[*self.next_sequence as usize % shapes.len()].iter().sum();
        let arrival_bytes = payload_bytes + MARKER_BYTES;
        // Not by SO_RCVLOWAT and poll(2): where the receive buffer's size was not set, that option
        // enlarges the buffer, and the bursts that are timed later on this connection would have
        // another one.
        let since = Instant::now();
        while unread_bytes(self.connection)? < arrival_bytes {
            if since.elapsed() > OVERWRITTEN_LIMIT {
                return Err(Error::deadline("message that was overwritten", OVERWRITTEN_LIMIT));
            }
            sleep(LOOK_AGAIN);
        }
        self.receiver.receive()?;
        let mut was_free = [0; MARKER_BYTES];
        recv_all(self.connection, &mut was_free)?;
        let sequence = *self.next_sequence;
        match self.receiver.last().seen(seed(self.mode, sequence), sequence) {
            None => Err(Error::Protocol("what a receiver discards was to be looked at".to_owned())),
            Some(Err(mismatch)) => Err(Error::Corrupt { pair: self.number, mismatch }),
            Some(Ok(seen)) => {
                let late_bytes = if was_free == [0; MARKER_BYTES] { 0 } else { seen.new_bytes };
                Ok(Seen { late_bytes, ..seen })
            }
        }
    }

    /// Compares the message that was received last with what was sent; returns how many were
    /// compared: 1, or 0 where the receiver keeps no bytes.
    fn check(&self, sequence: u64) -> Result<u64> {
        match self.receiver.last().verify(seed(self.mode, sequence), sequence) {
            None => Ok(0),
            Some(Ok(())) => Ok(1),
            Some(Err(mismatch)) => Err(Error::Corrupt { pair: self.number, mismatch }),
        }
    }
}

/// Bytes that have arrived and were not read (`FIONREAD`, in `tcp(7)` `SIOCINQ`).
fn unread_bytes(connection: &TcpStream) -> Result<usize> {
    rustix::io::ioctl_fionread(connection)
        .map(|bytes| bytes as usize)
        .map_err(Error::call("ioctl(2) FIONREAD"))
}
