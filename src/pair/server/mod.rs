//! The server process: joins the two namespaces, opens instances, and runs one end of every pair.

mod fragments;
mod instance;
mod into_sink;
mod listener;
mod sending;
mod to_client;

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use socket2::Domain;

pub use self::instance::Instance;
use self::sending::{Sending, make_sender};
use super::client_process::{ClientProcess, out_of_turn};
use super::control::{Description, ToClient, ToServer};
use super::options::effective;
use super::peer::{Client, Peer};
use super::sink::Injector;
use super::threads::{PairEnd, SharedEnd, Threads, connections_of, guarded, joined};
use super::watch::Watch;
use super::{Fault, SocketOptions, Token, buffer_bytes};
use crate::case::{Case, Placement, Receiver};
use crate::environment::{ClientMachine, CopyCause, Effective, Interface, Topology};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::host;
use crate::sample::Side;
use crate::topology::affinity::{self, pin};
use crate::topology::{self, Sink, copy_causes, link, link_between_machines};

/// What a testbed is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where the two processes run.
    pub topology: Topology,
    /// The MTU of the veth pair; the kernel's default if none.
    pub mtu_bytes: Option<u32>,
    /// What is set on the data sockets.
    pub socket: SocketOptions,
    /// The client.
    pub client: Client,
}

impl Setup {
    /// Refuses, before anything is set up, what this machine cannot take.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check(&self) -> Result<()> {
        topology::check(&self.topology, self.mtu_bytes)?;
        match &self.client {
            Client::Peer(Peer { server_address: Some(address), .. }) => topology::check_address(address.ip()),
            _ => Ok(()),
        }
    }

    /// Refuses, before anything is set up, a placement that needs more CPUs than this process may
    /// use. Which a peer's client may use is known when it is there.
    ///
    /// # Errors
    /// [`Error::Setting`].
    pub fn check_placement(&self, placement: Placement) -> Result<()> {
        match self.client {
            Client::Child(_) => Ok(affinity::allowed_cpus()?.place(placement, Side::Server, 0).map(drop)?),
            Client::Peer(_) => Ok(()),
        }
    }
}

/// Two processes, joined by a topology, ready to run cases.
///
/// The thread that starts it is server thread 0; the others are made when a case first needs them,
/// and kept. Dropped, it ends the client, and with it whatever was made for the two.
///
/// Any number of instances may be open at a time, of which one runs a burst.
pub struct Testbed {
    effective: Effective,
    /// Where data connections are made to; port 0 for any that is free.
    address: SocketAddr,
    /// Connections of others that were closed.
    strangers: Cell<u64>,
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
    /// [`Error::Setting`] before anything is set up; [`Refused`](crate::path::Error::Refused) where
    /// the machine forbids it; else the call that failed.
    pub fn start(setup: &Setup) -> Result<Self> {
        setup.check()?;
        let Setup { topology, mtu_bytes, socket, client } = setup;
        let cpus = affinity::allowed_cpus()?;
        topology::enter(topology, Side::Server)?;
        let mut client_process = ClientProcess::open(client)?;

        let enter = ToClient::Enter { topology: topology.clone() };
        let ToServer::Entered { description } = client_process.ask(&enter)? else {
            return Err(out_of_turn());
        };
        let client_machine = description.map(client_machine).transpose()?;
        topology::join(topology, client_process.client_pid(), *mtu_bytes)?;
        topology::bring_up(topology, Side::Server)?;
        let bring_up = ToClient::BringUp { options: socket.clone() };
        let ToServer::Up { interfaces, socket: client_socket } = client_process.ask(&bring_up)? else {
            return Err(out_of_turn());
        };
        let (server_link, client_link) = match client {
            Client::Child(_) => link(&topology::interfaces(topology)?, &interfaces)?,
            Client::Peer(peer) => {
                let is_one_machine = client_machine.as_ref().is_some_and(|client| client.is_the_servers);
                link_to_peer(&mut client_process, peer, &interfaces, is_one_machine)?
            }
        };
        let port = match client {
            Client::Peer(Peer { server_address: Some(given), .. }) => given.port(),
            _ => 0,
        };
        let address = SocketAddr::from((server_link.address, port));
        let server_socket = effective(&socket.socket(Domain::for_address(address))?)?;
        let effective = Effective {
            topology: topology.clone(),
            cpus,
            server_link,
            client_link,
            server_socket,
            client_socket,
            client: client_machine,
        };
        let inner = Inner { threads: Threads::new(Side::Server), client_process, sink: None };
        Ok(Self {
            effective,
            address,
            strangers: Cell::new(0),
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

    /// Has the threads of both sides count `events` of themselves, in every instance opened from
    /// now on.
    pub fn count(&mut self, events: &[Event]) {
        self.events = events.to_vec();
    }

    /// How many connections to the data port were closed because they did not say the instance's
    /// token.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers.get()
    }

    /// What the client's machine can measure, as the function says that its `main` was given.
    ///
    /// # Errors
    /// The client's silence, or its end.
    pub fn examine_client(&self) -> Result<serde_json::Value> {
        match self.inner.borrow_mut().client_process.ask(&ToClient::Examine)? {
            ToServer::Examined(found) => Ok(found),
            _ => Err(out_of_turn()),
        }
    }

    /// The client's process id; of a peer's, its command's.
    #[must_use]
    pub fn client_pid(&self) -> u32 {
        self.inner.borrow().client_process.client_pid()
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
        self.effective.place(case.placement, Side::Server, 0)?;
        check_memory(&case, self.effective.is_one_machine())?;
        let mut inner = self.inner.borrow_mut();
        inner.threads.grow(case.threads - 1)?;
        let token = if case.receiver == Receiver::Sink { None } else { Some(Token::random()?) };
        let ends = match token {
            None => self.open_into_sink(&mut inner, case, fault)?,
            Some(token) => self.open_to_client(&mut inner, case, token, fault).map_err(|error| {
                let error = inner.client_process.root_cause(error);
                inner.client_process.close(token);
                error
            })?,
        };
        Ok(Instance { testbed: self, token, case, ends: Some(ends), message_ns: None })
    }

    /// What makes the kernel copy zero-copy sends on their way to `receiver`, as far as it can be
    /// found. The calling thread is the one that started the testbed.
    ///
    /// # Errors
    /// Whatever keeps it from looking.
    pub fn copy_causes(&self, receiver: Receiver) -> Result<Vec<CopyCause>> {
        let inner = &mut *self.inner.borrow_mut();
        if receiver == Receiver::Sink {
            return inner.sink(&self.setup)?.within(copy_causes::in_sink);
        }
        let Effective { server_link, client_link, .. } = &self.effective;
        let mut causes: Vec<CopyCause> = copy_causes::of_link(&self.effective).into_iter().collect();
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

    /// Has each pair's thread make its end of the path.
    fn make_ends(
        &self,
        inner: &mut Inner,
        case: Case,
        fault: Option<Fault>,
        connections: impl Iterator<Item = (Arc<TcpStream>, Option<Arc<Injector>>)>,
    ) -> Result<Vec<SharedEnd<Sending>>> {
        let ends = connections.enumerate().map(|(pair, (connection, injector))| {
            let cpus = self.effective.place(case.placement, Side::Server, pair)?;
            let state = Sending { injector, ..Sending::default() };
            Ok(PairEnd::shared(pair, connection, case, cpus, &self.events, state))
        });
        let ends = ends.collect::<Result<Vec<_>>>()?;
        let watch = Arc::clone(&inner.client_process.watch);
        watch.arm(None, connections_of(&ends));
        let made = self.on_every_end(inner, &ends, move |end, _| make_sender(end, fault), |_| Ok(()));
        watch.disarm(made).map(|_| ends)
    }

    /// Runs `work` on every end, each on its own thread: the first on the calling one, which is
    /// given back the CPUs of the whole process. `begun` is called when the others are at work.
    fn on_every_end<R: Send + 'static>(
        &self,
        inner: &mut Inner,
        ends: &[SharedEnd<Sending>],
        work: impl Fn(&mut PairEnd<Sending>, &Watch) -> Result<R> + Send + Sync + 'static,
        begun: impl FnOnce(&mut ClientProcess) -> Result<()>,
    ) -> Result<Vec<R>> {
        let watch = Arc::clone(&inner.client_process.watch);
        let work = Arc::new(work);
        let running = inner.threads.start(&ends[1..], &watch, &work)?;
        let begun = begun(&mut inner.client_process);
        if begun.is_err() {
            watch.abort();
        }
        let own = guarded(Side::Server, &ends[0], &watch, work.as_ref());
        let mut results = running.wait(&watch);
        results.push(own);
        let unpinned = self.unpin();
        begun.and_then(|()| joined(results)).and_then(|results| unpinned.map(|()| results))
    }

    /// Gives the calling thread the CPUs of the whole process.
    fn unpin(&self) -> Result<()> {
        // The kernel refuses an empty set, as it does one of which no CPU is left to this process.
        pin(if self.unpin_fails.take() { &[] } else { self.effective.cpus.numbers() })
    }

    /// Makes the next burst fail when its messages are through: as if the process had lost its CPUs
    /// meanwhile.
    #[doc(hidden)]
    pub fn fail_next_unpin(&self) {
        self.unpin_fails.set(true);
    }
}

/// The two ends of the way to a peer's client: the server's address is the one that was given, or
/// else that of the one subnet that both share.
fn link_to_peer(
    client_process: &mut ClientProcess,
    peer: &Peer,
    client_interfaces: &[Interface],
    is_one_machine: bool,
) -> Result<(Interface, Interface)> {
    let server = if let Some(given) = peer.server_address {
        given.ip()
    } else {
        let link = if is_one_machine { link } else { link_between_machines };
        link(&topology::interfaces(&Topology::Peer)?, client_interfaces)?.0.address
    };
    let ToServer::Routed(client) = client_process.ask(&ToClient::Route { server })? else {
        return Err(out_of_turn());
    };
    Ok((topology::end_towards(Some(server), client.address)?, client))
}

fn client_machine(description: Description) -> Result<ClientMachine> {
    let Description { host, program, boot_id, cpus, machine } = description;
    let is_the_servers = !boot_id.is_empty() && boot_id == host::boot_id()?;
    Ok(ClientMachine { host, program, is_the_servers, cpus, machine })
}

/// Refuses a case whose buffers the machine cannot hold: the kernel would hand the memory out all
/// the same, and then end some process for want of it.
fn check_memory(case: &Case, is_one_machine: bool) -> Result<()> {
    let client_bytes = if is_one_machine { buffer_bytes(case, Side::Client)? } else { 0 };
    let need_bytes = buffer_bytes(case, Side::Server)? + client_bytes;
    let Some(available_bytes) = host::available_memory_bytes(Path::new("/"))? else { return Ok(()) };
    if need_bytes <= available_bytes {
        return Ok(());
    }
    let who = if is_one_machine { "both sides take" } else { "the server takes" };
    let remedy = format!(
        "{who} {} MiB, and {} MiB are available (MemAvailable in /proc/meminfo, or what the cgroup's memory limit, \
         RLIMIT_AS or RLIMIT_DATA leaves): use fewer pairs or smaller messages",
        need_bytes >> 20,
        available_bytes >> 20
    );
    let errno = std::io::Error::from_raw_os_error(libc::ENOMEM);
    Err(Error::refused("malloc(3) of the case's buffers", errno, remedy))
}
