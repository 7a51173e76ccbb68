//! The server process: joins the two namespaces, opens instances, and runs one end of every pair.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use super::client_process::ClientProcess;
use super::control::{ToClient, ToServer, VERSION, check_version};
use super::fault::FaultySender;
use super::threads::{Counting, PairEnd, SharedEnd, Threads, guarded, joined, metered};
use super::{
    Burst, EffectiveSocket, Fault, Hello, Mode, SocketOptions, TIMED_SEED, buffer_bytes, monotonic_ns,
    pool_messages, seed,
};
use crate::case::{Case, MAX_THREADS, Workload};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::limits;
use crate::path::{self, SendMessage, recv_all, send_all};
use crate::sample::{Side, SideReport};
use crate::topology::affinity::{Cpus, pin};
use crate::topology::{Interface, Topology, link};

/// How long a connection may take to be there, once the client says that it is.
const ACCEPT_LIMIT: Duration = Duration::from_secs(5);

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

/// The settings as they came out, read back from the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effective {
    /// Where the two processes run.
    pub topology: Topology,
    /// The CPUs that pairs are dealt to.
    pub cpus: Cpus,
    /// The server's end of the link.
    pub server_link: Interface,
    /// The client's end of the link.
    pub client_link: Interface,
    /// A data socket of the server's.
    pub server_socket: EffectiveSocket,
    /// A data socket of the client's.
    pub client_socket: EffectiveSocket,
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
}

/// What the instances share.
struct Inner {
    threads: Threads,
    client_process: ClientProcess,
    instances: u64,
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
        let inner = RefCell::new(Inner { threads: Threads::new(Side::Server), client_process, instances: 0 });
        Ok(Self { effective, listener, client_pid, inner, events: Vec::new() })
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

    /// Opens an instance of `case`: new connections, new buffers, new pool.
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
        let Inner { threads, client_process, instances } = &mut *inner;
        threads.grow(case.threads - 1)?;
        *instances += 1;
        let server = self.listener.local_addr().map_err(Error::call("getsockname(2)"))?;
        let (cpus, token) = (self.effective.cpus.clone(), *instances);
        let opened = client_process
            .ask(&ToClient::Open { case, cpus, server, token, events: self.events.clone(), fault })
            .and_then(|answer| match answer {
                ToServer::Opened => self.accept(case, token, fault),
                _ => Err(out_of_turn()),
            });
        match opened {
            Ok(ends) => Ok(Instance { testbed: self, token, case, ends: Some(ends), next_sequence: 0 }),
            Err(error) => {
                let error = client_process.root_cause(error);
                client_process.close(token);
                self.drop_waiting();
                Err(error)
            }
        }
    }

    /// Takes the connections of an instance that failed half-way off the listener's queue. They would fill it, and
    /// later instances could not connect.
    fn drop_waiting(&self) {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) && self.listener.accept().is_ok()
        {
        }
    }

    /// Takes the connections that the client has made, and gives each its end of the path.
    fn accept(&self, case: Case, token: u64, fault: Option<Fault>) -> Result<Vec<SharedEnd<Server>>> {
        let mut connections: Vec<Option<Arc<TcpStream>>> = vec![None; case.threads];
        let deadline = Instant::now() + ACCEPT_LIMIT;
        while connections.iter().any(Option::is_none) {
            // One that says another token is left over from an instance that failed half-way.
            if let Some((pair, connection)) = self.accept_one(token, deadline)? {
                let place = connections.get_mut(pair).filter(|place| place.is_none());
                *place.ok_or_else(out_of_turn)? = Some(Arc::new(connection));
            }
        }
        let connections: Vec<_> = connections.into_iter().flatten().collect();
        let ends = connections.iter().enumerate().map(|(pair, connection)| {
            let pool = pool_messages(case.workload, case.payload_bytes);
            let socket = Arc::clone(connection);
            let mut sender = path::sender(case.path, socket, case.payload_bytes, case.layout, pool)?;
            if let Some(fault) = fault.filter(|fault| fault.side == Side::Server && fault.pair == pair) {
                let connection = Arc::clone(connection);
                sender = Box::new(FaultySender { inner: sender, connection, fault, message: 0 });
            }
            sender.prepare(&mut |message| message.fill(TIMED_SEED))?;
            let cpus = self.effective.cpus.place(case.placement, Side::Server, pair)?.to_vec();
            let state = Server { connection: Arc::clone(connection), sender };
            Ok(Arc::new(Mutex::new(PairEnd { pair, cpus, state, counting: Counting::of(&self.events) })))
        });
        ends.collect()
    }

    fn accept_one(&self, token: u64, deadline: Instant) -> Result<Option<(usize, TcpStream)>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => return Ok(None),
            Ok(0) => return Err(Error::Deadline { waiting_for: "a pair to connect", waited: ACCEPT_LIMIT }),
            ready => drop(ready.map_err(Error::call("poll(2)"))?),
        }
        let (connection, _) =
            self.listener.accept().map_err(|errno| limits::with_limit_remedy("accept(2)", errno))?;
        let timeout =
            |limit| connection.set_read_timeout(limit).map_err(Error::call("setsockopt(2) SO_RCVTIMEO"));
        let mut hello = Hello::default();
        timeout(Some(ACCEPT_LIMIT))?;
        match recv_all(&connection, &mut hello.0) {
            Err(error) if error.is_echo() => return Ok(None),
            result => result?,
        }
        timeout(None)?;
        let (theirs, pair) = hello.read();
        Ok((theirs == token).then_some((pair, connection)))
    }
}

fn out_of_turn() -> Error {
    Error::Protocol("the client's answer was not the one that was due".to_owned())
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
                "both sides take {} MiB, and MemAvailable in /proc/meminfo is {} MiB: use fewer pairs or smaller \
                 messages",
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
    let backlog = i32::try_from(MAX_THREADS).unwrap_or(i32::MAX);
    socket.listen(backlog).map_err(Error::call("listen(2)"))?;
    Ok(socket.into())
}

/// The server's end of a pair.
struct Server {
    connection: Arc<TcpStream>,
    sender: Box<dyn SendMessage>,
}

/// One life of a case's pairs. Dropped, or failed, it closes the connections.
pub struct Instance<'testbed> {
    testbed: &'testbed Testbed,
    token: u64,
    case: Case,
    /// None once a burst has failed.
    ends: Option<Vec<SharedEnd<Server>>>,
    /// The number of the next message on every pair.
    next_sequence: u64,
}

impl Instance<'_> {
    /// The case that this is an instance of.
    #[must_use]
    pub fn case(&self) -> Case {
        self.case
    }

    /// Runs one burst on every pair, and returns what the server's and the client's threads saw.
    ///
    /// # Errors
    /// Whatever went wrong first, on either side. The instance is closed then, and others can go on.
    pub fn burst(&mut self, burst: Burst) -> Result<(SideReport, SideReport)> {
        let Some(ends) = &self.ends else {
            return Err(Error::Protocol("an instance that failed was asked for a burst".to_owned()));
        };
        let mut inner = self.testbed.inner.borrow_mut();
        let Inner { threads, client_process, .. } = &mut *inner;
        let (workload, first_sequence) = (self.case.workload, self.next_sequence);
        self.next_sequence += burst.lead_in + burst.messages;
        let work = Arc::new(move |end: &mut PairEnd<Server>| serve(end, workload, burst, first_sequence));

        let watch = Arc::clone(&client_process.watch);
        let connection = |end: &SharedEnd<Server>| {
            Arc::clone(&end.lock().unwrap_or_else(PoisonError::into_inner).state.connection)
        };
        watch.arm(burst.mode, ends.iter().map(connection).collect());
        // The server's threads wait for requests before the client is told to send any.
        let running = threads.start(&ends[1..], &watch, &work)?;
        let told = client_process.tell(&ToClient::Burst { token: self.token, burst, first_sequence });
        if told.is_err() {
            watch.abort();
        }
        let own = guarded(Side::Server, &ends[0], &watch, work.as_ref());
        let mut reports = running.wait(&watch);
        reports.push(own);
        pin(self.testbed.effective.cpus.numbers())?;

        let result =
            told.and_then(|()| joined(reports)).and_then(|server| match client_process.answer()? {
                ToServer::Done(client) => Ok((server, client)),
                _ => Err(out_of_turn()),
            });
        watch.disarm();
        result.map_err(|error| {
            let error = client_process.root_cause(error);
            client_process.close(self.token);
            self.ends = None;
            error
        })
    }
}

impl Drop for Instance<'_> {
    fn drop(&mut self) {
        if self.ends.is_some() {
            self.testbed.inner.borrow_mut().client_process.close(self.token);
        }
    }
}

/// One burst of one pair, on the server.
fn serve(end: &mut PairEnd<Server>, workload: Workload, burst: Burst, first: u64) -> Result<SideReport> {
    let Server { connection, sender } = &mut end.state;
    let timed = first + burst.lead_in;
    if burst.lead_in > 0 {
        send_messages(connection, &mut **sender, workload, burst.mode, first..timed)?;
    }
    let (before, copies_before) = (sender.zero_copy_counts(), sender.copies());
    let mut report = metered(&mut end.counting, || {
        let start_ns = monotonic_ns()?;
        send_messages(connection, &mut **sender, workload, burst.mode, timed..timed + burst.messages)?;
        Ok(start_ns)
    })?;
    // The client may check its last message now. On a shared CPU that work would else come before this
    // thread's last steps, and be timed.
    send_all(connection, &timed.to_le_bytes())?;
    report.zero_copy =
        before.and_then(|before| sender.zero_copy_counts().map(|counts| counts.since(&before)));
    report.copies = sender.copies().since(&copies_before);
    if burst.mode == Mode::Verify {
        // The bodies that timed bursts leave as they are.
        sender.prepare(&mut |message| message.fill(TIMED_SEED))?;
    }
    Ok(report)
}

/// Sends messages as they are asked for, or back to back, until the kernel has let go of the last.
fn send_messages(
    connection: &TcpStream,
    sender: &mut dyn SendMessage,
    workload: Workload,
    mode: Mode,
    sequences: Range<u64>,
) -> Result<()> {
    match workload {
        Workload::Rr => {
            for _ in sequences {
                let sequence = recv_sequence(connection)?;
                send_message(sender, mode, sequence)?;
            }
        }
        Workload::Stream => {
            recv_sequence(connection)?; // the client is ready
            for sequence in sequences {
                send_message(sender, mode, sequence)?;
            }
        }
    }
    // The client has received the last. Without this the last message's TCP acknowledgement, and so
    // its zero-copy completion, would come by the client's delayed-ACK timer, 40 ms and more later.
    recv_sequence(connection)?;
    sender.flush()
}

fn recv_sequence(connection: &TcpStream) -> Result<u64> {
    let mut bytes = [0; 8];
    recv_all(connection, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn send_message(sender: &mut dyn SendMessage, mode: Mode, sequence: u64) -> Result<()> {
    let message = sender.message()?;
    if mode == Mode::Verify {
        message.fill(seed(mode, sequence));
    }
    message.stamp(sequence);
    sender.send()
}
