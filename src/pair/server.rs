//! The server process: joins the two namespaces, opens instances, and runs one end of every pair.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use super::client_process::ClientProcess;
use super::control::{ToClient, ToServer, VERSION, check_version};
use super::fault::FaultySender;
use super::recorder::Recorder;
use super::sink::{self, Injector, SinkParts, SinkSocket};
use super::threads::{Counting, Gate, PairEnd, SharedEnd, Threads, guarded, joined, metered};
use super::watch::{Watch, retransmitted_segments};
use super::{
    Burst, Extent, Fault, Hello, MARKER_BYTES, Mode, SocketOptions, TIMED_SEED, Token, buffer_bytes,
    hot_messages, monotonic_ns, receive_request, seed, source_messages,
};
use crate::case::{Case, MAX_THREADS, Receiver, Workload};
use crate::environment::{CopyCause, Cpus, Effective, EffectiveSocket, SinkLink, Topology};
use crate::error::{Error, Result};
use crate::event::{Event, Reading};
use crate::limits;
use crate::message::Message;
use crate::path::{self, SendMessage, send_all};
use crate::sample::{Seen, Side, SideReport};
use crate::topology::affinity::pin;
use crate::topology::{Sink, copy_causes, link};

/// How long a connection may take to be there, once the client says that it is.
const ACCEPT_LIMIT: Duration = Duration::from_secs(5);

/// The largest message that [`Instance::overwrite`] sends, and the most on all pairs together.
const OVERWRITTEN_BYTES: usize = 256 << 10;
const ALL_BYTES: usize = 16 << 20;

/// What a testbed is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the two processes run.
    pub topology: Topology,
    /// The MTU of the veth pair; the kernel's default if none.
    pub mtu_bytes: Option<u32>,
    /// What is set on the data sockets.
    pub socket: SocketOptions,
    /// The `sendpath` command, which is the client.
    pub program: PathBuf,
}

/// Two processes, joined by a topology, ready to run cases.
///
/// The thread that starts it is server thread 0; the others are made when a case first needs them,
/// and kept. Dropped, it ends the client, and with it whatever was made for the two.
///
/// Any number of instances may be open at a time, of which one runs a burst.
pub struct Testbed {
    effective: Effective,
    listener: TcpListener,
    client_pid: u32,
    inner: RefCell<Inner>,
    events: Vec<Event>,
    setup: Setup,
    /// A test has asked that the next unpinning fails.
    unpin_fails: Cell<bool>,
}

/// What the instances share.
struct Inner {
    threads: Threads,
    client_process: ClientProcess,
    /// Made when a case first asks for it.
    sink: Option<Sink>,
}

impl Inner {
    fn sink(&mut self, setup: &Setup) -> Result<&Sink> {
        Ok(match &mut self.sink {
            Some(sink) => sink,
            none => none.insert(Sink::make(setup.mtu_bytes)?),
        })
    }
}

impl Testbed {
    /// Moves the calling thread to the server's namespace, starts the client in its own, and joins
    /// the two.
    ///
    /// # Errors
    /// [`Error::Setting`] before anything is set up; [`Error::Refused`] where the machine forbids it;
    /// else the call that failed.
    pub fn start(setup: &Setup) -> Result<Self> {
        let Setup { topology, mtu_bytes, socket, program } = setup;
        topology.check(*mtu_bytes)?;
        let cpus = Cpus::allowed()?;
        topology.enter(Side::Server)?;
        let mut client_process = ClientProcess::open(program)?;

        let enter = ToClient::Enter { version: VERSION, topology: topology.clone() };
        let ToServer::Entered { version } = client_process.ask(&enter)? else { return Err(out_of_turn()) };
        check_version(version)?;
        topology.join(client_process.client_pid(), *mtu_bytes)?;
        topology.bring_up(Side::Server)?;
        let bring_up = ToClient::BringUp { options: socket.clone() };
        let ToServer::Up { interfaces, socket: client_socket } = client_process.ask(&bring_up)? else {
            return Err(out_of_turn());
        };
        let (server_link, client_link) = link(&topology.interfaces()?, &interfaces)?;
        let listener = listen(server_link.address, socket)?;
        let server_socket = EffectiveSocket::read(&listener)?;
        let topology = topology.clone();
        let effective = Effective { topology, cpus, server_link, client_link, server_socket, client_socket };
        let client_pid = client_process.client_pid();
        let inner = Inner { threads: Threads::new(Side::Server), client_process, sink: None };
        Ok(Self {
            effective,
            listener,
            client_pid,
            inner: RefCell::new(inner),
            events: Vec::new(),
            setup: setup.clone(),
            unpin_fails: Cell::new(false),
        })
    }

    /// The settings as they came out.
    #[must_use]
    pub fn effective(&self) -> &Effective {
        &self.effective
    }

    /// Whether the client process is there. Without it nothing can be opened any more.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.inner.borrow_mut().client_process.is_alive()
    }

    /// Has the threads of both sides count `events` of themselves, in every instance opened from now on.
    pub fn count(&mut self, events: &[Event]) {
        self.events = events.to_vec();
    }

    /// The client's process id.
    #[must_use]
    pub fn client_pid(&self) -> u32 {
        self.client_pid
    }

    /// Opens an instance of `case`: new connections, new messages, new buffers.
    ///
    /// # Errors
    /// A limit that makes the case impossible, or whatever went wrong on either side.
    pub fn open(&self, case: Case) -> Result<Instance<'_>> {
        self.open_with_fault(case, None)
    }

    /// As [`open`](Self::open), with a fault planted, to see both sides notice.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[doc(hidden)]
    pub fn open_with_fault(&self, case: Case, fault: Option<Fault>) -> Result<Instance<'_>> {
        // Refused before the client is asked for anything.
        case.check()?;
        self.effective.cpus.place(case.placement, Side::Server, 0)?;
        check_memory(&case)?;
        let mut inner = self.inner.borrow_mut();
        let Inner { threads, client_process, .. } = &mut *inner;
        threads.grow(case.threads - 1)?;
        if case.receiver == Receiver::Sink {
            let ends = self.open_into_sink(&mut inner, case, fault)?;
            return Ok(Instance { testbed: self, token: None, case, ends: Some(ends), message_ns: None });
        }
        let server = self.listener.local_addr().map_err(Error::call("getsockname(2)"))?;
        let (cpus, token) = (self.effective.cpus.clone(), Token::random());
        let open = ToClient::Open { case, cpus, server, token, events: self.events.clone(), fault };
        let opened = client_process.ask(&open).and_then(|answer| match answer {
            ToServer::Opened => {
                let watch = Arc::clone(&client_process.watch);
                self.accept(threads, &watch, case, token, fault)
            }
            _ => Err(out_of_turn()),
        });
        match opened {
            Ok(ends) => {
                Ok(Instance { testbed: self, token: Some(token), case, ends: Some(ends), message_ns: None })
            }
            Err(error) => {
                let error = client_process.root_cause(error);
                client_process.close(token);
                self.drop_waiting();
                Err(error)
            }
        }
    }

    /// A connection into the sink, in parts.
    #[doc(hidden)]
    pub fn sink_parts(&self) -> Result<SinkParts> {
        SinkParts::open(self.inner.borrow_mut().sink(&self.setup)?, &self.setup.socket)
    }

    /// What makes the kernel copy zero-copy sends on their way to `receiver`, as far as it can be found. The calling
    /// thread is the one that started the testbed.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    pub fn copy_causes(&self, receiver: Receiver) -> Result<Vec<CopyCause>> {
        let inner = &mut *self.inner.borrow_mut();
        if receiver == Receiver::Sink {
            return inner.sink(&self.setup)?.copy_causes();
        }
        let Effective { topology, server_link, client_link, .. } = &self.effective;
        let mut causes: Vec<CopyCause> =
            copy_causes::of_link(topology, server_link, client_link).into_iter().collect();
        causes.extend(copy_causes::at_sender(&server_link.name)?);
        let find = ToClient::FindCopyCauses { device: client_link.name.clone() };
        let ToServer::CopyCauses(theirs) = inner.client_process.ask(&find)? else {
            return Err(out_of_turn());
        };
        for cause in theirs {
            // Over loopback both ends are one.
            if !causes.contains(&cause) {
                causes.push(cause);
            }
        }
        Ok(causes)
    }

    /// Runs `work` on a thread in the sink's namespace, for tests that look at what is in it, or change it.
    ///
    /// # Errors
    /// What `work` ends with, or what keeps the sink from being made.
    #[doc(hidden)]
    pub fn within_sink<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        self.inner.borrow_mut().sink(&self.setup)?.within(work)
    }

    /// Takes the connections of an instance that failed half-way off the listener's queue. They would fill it, and
    /// later instances could not connect.
    fn drop_waiting(&self) {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) && self.listener.accept().is_ok()
        {
        }
    }

    /// The link and the sockets of cases that nobody receives, read from the kernel. Makes the sink, if no case did.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn sink_link(&self) -> Result<SinkLink> {
        let mut inner = self.inner.borrow_mut();
        let sink = inner.sink(&self.setup)?;
        let injectors = Injector::connect(sink, &self.setup.socket, 1)?;
        let connection = injectors[0].connection();
        Ok(SinkLink {
            interface: sink.interface()?,
            peer: Sink::NOBODY_ADDRESS,
            mss_bytes: getsockopt(connection, sockopt::TcpMaxSeg)
                .map_err(Error::call("getsockopt(2) TCP_MAXSEG"))?,
            socket: EffectiveSocket::read(connection)?,
            is_alone: false,
        })
    }

    /// Makes the connections of a case that nobody receives, and their senders.
    fn open_into_sink(
        &self,
        inner: &mut Inner,
        case: Case,
        fault: Option<Fault>,
    ) -> Result<Vec<SharedEnd<Server>>> {
        let sink = inner.sink(&self.setup)?;
        let injectors = Injector::connect(sink, &self.setup.socket, case.threads)?;
        let Inner { threads, client_process, .. } = inner;
        let connections = injectors.into_iter().map(|injector| {
            let injector = Arc::new(injector);
            (Arc::clone(injector.connection()), Some(injector))
        });
        self.make_ends(threads, &Arc::clone(&client_process.watch), case, fault, connections)
    }

    /// Takes the connections that the client has made, and makes the senders.
    fn accept(
        &self,
        threads: &mut Threads,
        watch: &Arc<Watch>,
        case: Case,
        token: Token,
        fault: Option<Fault>,
    ) -> Result<Vec<SharedEnd<Server>>> {
        let connections = self.connections(token, case.threads)?.into_iter();
        self.make_ends(threads, watch, case, fault, connections.map(|connection| (connection, None)))
    }

    /// Has each pair's thread make its end of the path.
    fn make_ends(
        &self,
        threads: &mut Threads,
        watch: &Arc<Watch>,
        case: Case,
        fault: Option<Fault>,
        connections: impl Iterator<Item = (Arc<TcpStream>, Option<Arc<Injector>>)>,
    ) -> Result<Vec<SharedEnd<Server>>> {
        let ends = connections.enumerate().map(|(pair, (connection, injector))| {
            let cpus = self.effective.cpus.place(case.placement, Side::Server, pair)?.to_vec();
            let fault = fault.filter(|fault| fault.side == Side::Server && fault.pair == pair);
            let (sender, next_sequence, round_trips) = (None, 0, None);
            let state = Server { connection, injector, case, fault, sender, next_sequence, round_trips };
            Ok(Arc::new(Mutex::new(PairEnd { pair, cpus, state, counting: Counting::of(&self.events) })))
        });
        let ends = ends.collect::<Result<Vec<_>>>()?;
        watch.arm_idle(connections_of(&ends));
        let made = self.on_every_end(threads, watch, &ends, |end| end.state.make_sender(), || Ok(()));
        watch.disarm();
        made.map(|_| ends)
    }

    /// Runs `work` on every end, each on its own thread: the first on the calling one, which is given back the
    /// CPUs of the whole process. `begun` is called when the others are at work.
    fn on_every_end<R: Send + 'static>(
        &self,
        threads: &mut Threads,
        watch: &Arc<Watch>,
        ends: &[SharedEnd<Server>],
        work: impl Fn(&mut PairEnd<Server>) -> Result<R> + Send + Sync + 'static,
        begun: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<R>> {
        let work = Arc::new(work);
        let running = threads.start(&ends[1..], watch, &work)?;
        let begun = begun();
        if begun.is_err() {
            watch.abort();
        }
        let own = guarded(Side::Server, &ends[0], watch, work.as_ref());
        let mut results = running.wait(watch);
        results.push(own);
        let unpinned = self.unpin();
        begun.and_then(|()| joined(results)).and_then(|results| unpinned.map(|()| results))
    }

    /// Gives the calling thread the CPUs of the whole process.
    fn unpin(&self) -> Result<()> {
        // The kernel refuses an empty set, as it does one of which no CPU is left to this process.
        pin(if self.unpin_fails.take() { &[] } else { self.effective.cpus.numbers() })
    }

    /// Makes the next burst fail when its messages are through: as if the process had lost its CPUs meanwhile.
    #[doc(hidden)]
    pub fn fail_next_unpin(&self) {
        self.unpin_fails.set(true);
    }

    /// The connections of the instance's pairs, in the pairs' order. Any host on a real wire may connect: one that
    /// says another token, or nothing, takes no place and delays no other.
    fn connections(&self, token: Token, pairs: usize) -> Result<Vec<Arc<TcpStream>>> {
        let mut places: Vec<Option<Arc<TcpStream>>> = vec![None; pairs];
        let mut newcomers: Vec<Newcomer> = Vec::new();
        let deadline = Instant::now() + ACCEPT_LIMIT;
        while places.iter().any(Option::is_none) {
            self.wait_for_connections(&newcomers, deadline)?;
            match self.listener.accept() {
                Ok((connection, _)) => newcomers.push(Newcomer::new(connection)?),
                Err(errno) if errno.kind() == ErrorKind::WouldBlock => {}
                Err(errno) => return Err(limits::with_limit_remedy("accept(2)", errno)),
            }
            for mut newcomer in std::mem::take(&mut newcomers) {
                match newcomer.read_hello() {
                    HelloState::Unfinished => newcomers.push(newcomer),
                    HelloState::Ended => {}
                    HelloState::Whole(theirs, _) if !theirs.matches(token) => {}
                    HelloState::Whole(_, pair) => {
                        let place = places.get_mut(pair).filter(|place| place.is_none());
                        *place.ok_or_else(out_of_turn)? = Some(Arc::new(newcomer.into_blocking()?));
                    }
                }
            }
        }
        Ok(places.into_iter().flatten().collect())
    }

    /// Waits until somebody connects, or one of `newcomers` says something.
    fn wait_for_connections(&self, newcomers: &[Newcomer], deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        let fds = newcomers.iter().map(|newcomer| newcomer.connection.as_fd());
        let fds = std::iter::once(self.listener.as_fd()).chain(fds);
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => Err(Error::Deadline { waiting_for: "connection from the client", waited: ACCEPT_LIMIT }),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::call("poll(2)")(errno)),
        }
    }
}

/// A connection that has not yet said whose it is.
struct Newcomer {
    connection: TcpStream,
    hello: Hello,
    read_bytes: usize,
}

/// What a newcomer has said.
enum HelloState {
    /// Not all of a hello.
    Unfinished,
    /// It went away.
    Ended,
    /// The token and the pair.
    Whole(Token, usize),
}

impl Newcomer {
    fn new(connection: TcpStream) -> Result<Self> {
        connection.set_nonblocking(true).map_err(Error::call("fcntl(2) O_NONBLOCK"))?;
        Ok(Self { connection, hello: Hello::default(), read_bytes: 0 })
    }

    /// Reads as much of the hello as has arrived.
    fn read_hello(&mut self) -> HelloState {
        while self.read_bytes < self.hello.0.len() {
            match (&self.connection).read(&mut self.hello.0[self.read_bytes..]) {
                Ok(0) => return HelloState::Ended,
                Ok(bytes) => self.read_bytes += bytes,
                Err(errno) if errno.kind() == ErrorKind::Interrupted => {}
                Err(errno) if errno.kind() == ErrorKind::WouldBlock => return HelloState::Unfinished,
                Err(_) => return HelloState::Ended,
            }
        }
        let (token, pair) = self.hello.read();
        HelloState::Whole(token, pair)
    }

    fn into_blocking(self) -> Result<TcpStream> {
        self.connection.set_nonblocking(false).map_err(Error::call("fcntl(2) O_NONBLOCK"))?;
        Ok(self.connection)
    }
}

fn out_of_turn() -> Error {
    Error::Protocol("the client sent another answer than the one that was expected".to_owned())
}

/// Refuses a case whose buffers the machine cannot hold: the kernel would hand the memory out all the
/// same, and then end some process for want of it.
fn check_memory(case: &Case) -> Result<()> {
    let need_bytes = buffer_bytes(case, Side::Server) + buffer_bytes(case, Side::Client);
    match limits::available_memory_bytes() {
        Some(available_bytes) if need_bytes > available_bytes => Err(Error::Refused {
            call: "malloc(3) of the case's buffers",
            errno: std::io::Error::from_raw_os_error(libc::ENOMEM),
            remedy: format!(
                "both sides take {} MiB, and {} MiB are available (MemAvailable in /proc/meminfo, or what the \
                 cgroup's memory limit leaves): use fewer pairs or smaller messages",
                need_bytes >> 20,
                available_bytes >> 20
            ),
        }),
        _ => Ok(()),
    }
}

/// A listener whose options the connections inherit.
fn listen(address: Ipv4Addr, options: &SocketOptions) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(Error::call("socket(2)"))?;
    options.apply(&socket)?;
    socket.bind(&SocketAddr::from((address, 0)).into()).map_err(Error::call("bind(2)"))?;
    // A connection that is gone again by the time that it is accepted delays no other.
    socket.set_nonblocking(true).map_err(Error::call("fcntl(2) O_NONBLOCK"))?;
    let backlog = i32::try_from(MAX_THREADS).unwrap_or(i32::MAX);
    socket.listen(backlog).map_err(Error::call("listen(2)"))?;
    Ok(socket.into())
}

/// The server's end of a pair.
struct Server {
    connection: Arc<TcpStream>,
    /// What plays the client, where there is none.
    injector: Option<Arc<Injector>>,
    case: Case,
    fault: Option<Fault>,
    /// None until the pair's thread has made it.
    sender: Option<Box<dyn SendMessage>>,
    /// The number of the next message.
    next_sequence: u64,
    /// Made when round trips into the sink are first timed one by one.
    round_trips: Option<Recorder>,
}

impl Server {
    /// Makes the messages and the path's sending half. Runs on the pair's own thread, which is so the first to
    /// touch their memory: the kernel then takes it from the thread's own node.
    fn make_sender(&mut self) -> Result<()> {
        let Case { path, payload_bytes, layout, .. } = self.case;
        let messages = (0..source_messages(&self.case)).map(|_| {
            let mut message = Message::new(payload_bytes, layout);
            message.fill(TIMED_SEED);
            message
        });
        // As many wait for their completions with a cold source as with a hot one.
        let (messages, most_in_flight) = (messages.collect(), hot_messages(&self.case));
        let mut sender = match &self.injector {
            Some(injector) => path::sender(path, SinkSocket(Arc::clone(injector)), messages, most_in_flight)?,
            None => path::sender(path, Arc::clone(&self.connection), messages, most_in_flight)?,
        };
        if let Some(fault) = self.fault {
            let connection = Arc::clone(&self.connection);
            sender = Box::new(FaultySender { inner: sender, connection, fault, message: 0 });
        }
        self.sender = Some(sender);
        Ok(())
    }
}

fn connections_of(ends: &[SharedEnd<Server>]) -> Vec<Arc<TcpStream>> {
    let connection = |end: &SharedEnd<Server>| {
        Arc::clone(&end.lock().unwrap_or_else(PoisonError::into_inner).state.connection)
    };
    ends.iter().map(connection).collect()
}

/// One life of a case's pairs. Dropped, or failed, it closes the connections.
pub struct Instance<'testbed> {
    testbed: &'testbed Testbed,
    /// What the client knows it by; none where there is no client.
    token: Option<Token>,
    case: Case,
    /// None once a burst has failed.
    ends: Option<Vec<SharedEnd<Server>>>,
    /// How long a message of the last burst took on its pair.
    message_ns: Option<f64>,
}

impl Instance<'_> {
    /// The case that this is an instance of.
    #[must_use]
    pub fn case(&self) -> Case {
        self.case
    }

    /// How long a message of the last burst took on its pair, in nanoseconds; none before the first.
    #[must_use]
    pub fn message_ns(&self) -> Option<f64> {
        self.message_ns
    }

    /// Runs one burst on every pair, and returns what the server's and the client's threads saw.
    ///
    /// # Errors
    /// Whatever went wrong first, on either side. The instance is closed then, and others can go on.
    pub fn burst(&mut self, burst: Burst) -> Result<(SideReport, SideReport)> {
        let Some(ends) = &self.ends else {
            return Err(Error::Protocol("an instance that failed was asked for a burst".to_owned()));
        };
        let Inner { threads, client_process, .. } = &mut *self.testbed.inner.borrow_mut();
        match self.token {
            Some(_) => client_process.watch.arm(burst.mode, connections_of(ends)),
            None => client_process.watch.arm_sink(burst.mode, connections_of(ends)),
        }
        let result = match self.token {
            Some(token) => self.reports(threads, client_process, ends, token, burst),
            None => self.reports_of_sink(threads, &Arc::clone(&client_process.watch), ends, burst),
        };
        // The watch ends with the burst, also where it failed.
        client_process.watch.disarm();
        match result {
            Ok((server, client)) => {
                self.message_ns = Some(client.pairs_ns as f64 / client.messages.max(1) as f64);
                Ok((server, client))
            }
            Err(error) => {
                let error = match self.token {
                    Some(token) => {
                        let error = client_process.root_cause(error);
                        client_process.close(token);
                        error
                    }
                    None => match client_process.watch.take_cause() {
                        Some(Error::Stalled { waited, .. }) => Error::SinkStalled { waited },
                        Some(cause) if error.is_echo() => cause,
                        _ => error,
                    },
                };
                self.ends = None;
                Err(error)
            }
        }
    }

    /// Runs a burst of a few messages in which each is overwritten right after it was sent ([`Mode::Overwrite`]), and
    /// returns what the client found. None where the client keeps no bytes, and where a message might not fit the
    /// sockets' buffers: the client reads it when it has been overwritten, so all of it must have arrived by then.
    ///
    /// # Errors
    /// As [`burst`](Self::burst).
    pub fn overwrite(&mut self) -> Result<Option<Seen>> {
        const MESSAGES: u64 = 4;
        // Of the buffers, as the kernel reports them, half is its own bookkeeping, and half of the rest is kept free.
        let Effective { server_socket, client_socket, .. } = &self.testbed.effective;
        let room_bytes = server_socket.send_buffer_bytes.min(client_socket.recv_buffer_bytes) / 4;
        let Case { payload_bytes, threads, .. } = self.case;
        let fits = payload_bytes <= room_bytes.min(OVERWRITTEN_BYTES) && payload_bytes * threads <= ALL_BYTES;
        if !fits || matches!(self.case.receiver, Receiver::Discard | Receiver::Sink) {
            return Ok(None);
        }
        let burst = Burst { lead_in_messages: 0, extent: Extent::Messages(MESSAGES), mode: Mode::Overwrite };
        Ok(self.burst(burst)?.1.seen)
    }

    /// Of a case without a receiver: what the peer that the sender plays for itself costs by message, in nanoseconds.
    /// It is part of every message's time, and the same for every path.
    ///
    /// # Errors
    /// A failed call, or [`Error::SinkStalled`].
    pub fn injection_ns(&mut self) -> Result<Option<f64>> {
        let (Some(ends), None) = (&self.ends, self.token) else { return Ok(None) };
        let Inner { threads, client_process, .. } = &mut *self.testbed.inner.borrow_mut();
        let watch = Arc::clone(&client_process.watch);
        watch.arm_sink(Mode::Time, connections_of(ends));
        let injection =
            |end: &mut PairEnd<Server>| end.state.injector.as_deref().map(sink::injection_ns).transpose();
        let cost_ns = self.testbed.on_every_end(threads, &watch, &ends[..1], injection, || Ok(()));
        watch.disarm();
        let cost_ns = cost_ns.map_err(|error| match watch.take_cause() {
            Some(Error::Stalled { waited, .. }) => Error::SinkStalled { waited },
            _ => error,
        });
        if cost_ns.is_err() {
            self.ends = None;
        }
        Ok(cost_ns?.pop().flatten())
    }

    /// A burst of a case that nobody receives: the sender's report, and in the client's place the timed window alone.
    fn reports_of_sink(
        &self,
        threads: &mut Threads,
        watch: &Arc<Watch>,
        ends: &[SharedEnd<Server>],
        burst: Burst,
    ) -> Result<(SideReport, SideReport)> {
        let gate = Gate::new(ends.len());
        let work = {
            let watch = Arc::clone(watch);
            move |end: &mut PairEnd<Server>| serve_sink(end, burst, &gate, &watch)
        };
        let server = SideReport::merge(self.testbed.on_every_end(threads, watch, ends, work, || Ok(()))?);
        let mut window = SideReport {
            messages: server.messages,
            start_ns: server.start_ns,
            end_ns: server.end_ns,
            pairs_ns: server.pairs_ns,
            counters: server.counters.keys().map(|&event| (event, no_client())).collect(),
            ..SideReport::default()
        };
        if burst.mode == Mode::TimeEach && self.case.workload == Workload::Rr {
            let mut sum = Recorder::new();
            for end in ends {
                sum.take(end.lock().unwrap_or_else(PoisonError::into_inner).state.round_trips.as_mut());
            }
            window.round_trips = Some(sum.round_trips());
        }
        Ok((server, window))
    }

    fn reports(
        &self,
        threads: &mut Threads,
        client_process: &mut ClientProcess,
        ends: &[SharedEnd<Server>],
        token: Token,
        burst: Burst,
    ) -> Result<(SideReport, SideReport)> {
        let watch = Arc::clone(&client_process.watch);
        // The server's threads wait for requests before the client is told to send any.
        let tell = || client_process.tell(&ToClient::Burst { token, burst });
        let server = self.testbed.on_every_end(threads, &watch, ends, move |end| serve(end, burst), tell)?;
        let server = SideReport::merge(server);
        match client_process.answer()? {
            ToServer::Done(client) if client.messages == server.messages => Ok((server, client)),
            ToServer::Done(client) => Err(Error::Protocol(format!(
                "the server sent {} messages, and the client received {}",
                server.messages, client.messages
            ))),
            _ => Err(out_of_turn()),
        }
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        if let (Some(_), Some(token)) = (&self.ends, self.token) {
            self.testbed.inner.borrow_mut().client_process.close(token);
        }
    }
}

/// What a client that does not exist has counted.
fn no_client() -> Reading {
    Reading::Unavailable { reason: "of the client: nobody receives (receiver sink)".to_owned() }
}

/// One burst of one pair that nobody receives.
fn serve_sink(end: &mut PairEnd<Server>, burst: Burst, gate: &Gate, watch: &Watch) -> Result<SideReport> {
    let Server { injector, sender, next_sequence, case, round_trips, .. } = &mut end.state;
    let (Some(sender), Some(injector)) = (sender, injector) else {
        return Err(Error::Protocol("a burst came before the pair's sender was made".to_owned()));
    };
    let (sender, mode) = (&mut **sender, burst.mode);
    if burst.lead_in_messages > 0 {
        let lead_in = (sink::Until::Messages(burst.lead_in_messages), None);
        sink::send_messages(injector, sender, case, mode, next_sequence, lead_in)?;
    }
    let is_timed_each = mode == Mode::TimeEach && case.workload == Workload::Rr;
    let each = is_timed_each.then(|| round_trips.get_or_insert_with(Recorder::new));
    let until = match burst.extent {
        Extent::Messages(messages) => sink::Until::Messages(messages),
        Extent::Time(duration) => sink::Until::Elapsed(duration),
    };
    let (before, copies_before) = (sender.zero_copy_counts(), sender.copies());
    let retransmitted_before = retransmitted_segments(injector.connection());
    gate.pass(watch)?;
    let mut report = metered(&mut end.counting, || {
        sink::send_messages(injector, sender, case, mode, next_sequence, (until, each))
    })?;
    report.zero_copy =
        before.and_then(|before| sender.zero_copy_counts().map(|counts| counts.since(&before)));
    report.copies = sender.copies().since(&copies_before);
    report.retransmitted_segments =
        retransmitted_segments(injector.connection()).saturating_sub(retransmitted_before);
    if mode == Mode::Verify {
        sender.prepare(&mut |message| message.fill(TIMED_SEED))?;
    }
    Ok(report)
}

/// One burst of one pair, on the server.
fn serve(end: &mut PairEnd<Server>, burst: Burst) -> Result<SideReport> {
    let Server { connection, sender, next_sequence, .. } = &mut end.state;
    let Some(sender) = sender else {
        return Err(Error::Protocol("a burst came before the pair's sender was made".to_owned()));
    };
    let sender = &mut **sender;
    if burst.lead_in_messages > 0 {
        let lead_in = send_messages(connection, sender, burst.mode, next_sequence)?;
        // The lead-in's completions are no part of the window: the client begins it when they are reaped.
        send_all(connection, &lead_in.messages.to_le_bytes())?;
    }
    let (before, copies_before) = (sender.zero_copy_counts(), sender.copies());
    let retransmitted_before = retransmitted_segments(connection);
    let mut report =
        metered(&mut end.counting, || send_messages(connection, sender, burst.mode, next_sequence))?;
    // The client may check its last message now. On a shared CPU that work would otherwise come before this
    // thread's last steps, and be timed.
    send_all(connection, &report.messages.to_le_bytes())?;
    report.zero_copy =
        before.and_then(|before| sender.zero_copy_counts().map(|counts| counts.since(&before)));
    report.copies = sender.copies().since(&copies_before);
    report.retransmitted_segments = retransmitted_segments(connection).saturating_sub(retransmitted_before);
    if burst.mode == Mode::Verify {
        // The bodies that timed bursts leave as they are.
        sender.prepare(&mut |message| message.fill(TIMED_SEED))?;
    }
    Ok(report)
}

/// Sends as many messages as each request asks for, until one asks for none; then waits until the kernel has let
/// go of the last.
fn send_messages(
    connection: &TcpStream,
    sender: &mut dyn SendMessage,
    mode: Mode,
    next_sequence: &mut u64,
) -> Result<SideReport> {
    let first = *next_sequence;
    let start_ns = monotonic_ns()?;
    loop {
        let messages = receive_request(connection)?;
        if messages == 0 {
            break;
        }
        for _ in 0..messages {
            send_message(sender, mode, *next_sequence)?;
            if mode == Mode::Overwrite {
                overwrite(connection, sender)?;
            }
            *next_sequence += 1;
        }
    }
    let received_ns = monotonic_ns()?;
    sender.flush()?;
    let end_ns = monotonic_ns()?;
    Ok(SideReport {
        messages: *next_sequence - first,
        start_ns,
        end_ns,
        drain_ns: end_ns - received_ns,
        ..SideReport::default()
    })
}

/// Overwrites the message that was sent just now, lets the client read it, and puts it back.
fn overwrite(connection: &TcpStream, sender: &mut dyn SendMessage) -> Result<()> {
    let was_free = sender.overwrite()?;
    send_all(connection, &[u8::from(was_free); MARKER_BYTES])?;
    sender.flush()?;
    sender.overwrite()?;
    Ok(())
}

pub(super) fn send_message(sender: &mut dyn SendMessage, mode: Mode, sequence: u64) -> Result<()> {
    let message = sender.message()?;
    if mode == Mode::Verify {
        message.fill(seed(mode, sequence));
    }
    message.stamp(sequence);
    sender.send()
}
