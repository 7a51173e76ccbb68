//! Where the client's connections arrive. Only those that say the instance's token take a place.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Domain;

use crate::case::MAX_THREADS;
use crate::deadlines::{ACCEPT_LIMIT, HELLO_LIMIT};
use crate::error::{Error, Result};
use crate::host;
use crate::limits::{self, Found};
use crate::pair::client::CONNECT;
use crate::pair::client_process::out_of_turn;
use crate::pair::{Hello, SocketOptions, Token};

/// How often it is looked after whether the client still tries.
const TICK: Duration = Duration::from_millis(50);
/// How many newcomers may be about to say whose they are.
const MOST_NEWCOMERS: usize = 256;

/// A listener whose options the connections inherit. It is there only while an instance is opened:
/// whoever connects at another time is refused by the kernel, without a wake-up.
pub(super) struct Listener {
    socket: TcpListener,
    /// Connections that this namespace had dropped before, for want of room in a queue.
    dropped_before: Option<u64>,
}

impl Listener {
    pub(super) fn open(address: SocketAddr, options: &SocketOptions) -> Result<Self> {
        let socket = options.socket(Domain::for_address(address))?;
        // A port that was given is taken again while earlier connections still have it.
        socket.set_reuse_address(true).map_err(Error::call("setsockopt(2) SO_REUSEADDR"))?;
        socket.bind(&address.into()).map_err(|errno| not_bound(address, errno))?;
        // A connection that is gone again by the time that it is accepted delays no other.
        socket.set_nonblocking(true).map_err(Error::call("fcntl(2) O_NONBLOCK"))?;
        let backlog = i32::try_from(MAX_THREADS).unwrap_or(i32::MAX);
        socket.listen(backlog).map_err(Error::call("listen(2)"))?;
        Ok(Self { socket: socket.into(), dropped_before: dropped() })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.socket.local_addr().map_err(Error::call("getsockname(2)"))
    }

    /// The connections of the instance's pairs, in the pairs' order. Any host on a real wire may
    /// connect: one that says another token, or nothing, takes no place and delays no other; how
    /// many these were comes second. `trouble` says what has gone wrong with the client meanwhile.
    pub(super) fn connections(
        &self,
        token: Token,
        pairs: usize,
        mut trouble: impl FnMut() -> Option<Error>,
    ) -> Result<(Vec<Arc<TcpStream>>, u64)> {
        let mut places: Vec<Option<Arc<TcpStream>>> = vec![None; pairs];
        let mut newcomers: VecDeque<Newcomer> = VecDeque::new();
        let mut strangers = 0;
        let began = Instant::now();
        let mut looked = began;
        while places.iter().any(Option::is_none) {
            self.wait_for_connections(&newcomers)?;
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                if let Some(error) = trouble() {
                    return Err(self.with_full_queue(error, pairs));
                }
                if began.elapsed() > ACCEPT_LIMIT {
                    let waiting_for = "connection from the client";
                    return Err(self.with_full_queue(Error::deadline(waiting_for, ACCEPT_LIMIT), pairs));
                }
            }
            match self.socket.accept() {
                Ok((connection, _)) => newcomers.push_back(Newcomer::new(connection)?),
                Err(errno) if errno.kind() == ErrorKind::WouldBlock => {}
                Err(errno) => return Err(host::refused("accept(2)", errno)),
            }
            for mut newcomer in std::mem::take(&mut newcomers) {
                match newcomer.read_hello() {
                    HelloState::Unfinished => newcomers.push_back(newcomer),
                    HelloState::Ended => strangers += 1,
                    HelloState::Whole(theirs, _) if !theirs.matches(token) => strangers += 1,
                    HelloState::Whole(_, pair) => {
                        let place = places.get_mut(pair).filter(|place| place.is_none());
                        *place.ok_or_else(out_of_turn)? = Some(Arc::new(newcomer.into_blocking()?));
                    }
                }
            }
            while newcomers.len() > MOST_NEWCOMERS
                || newcomers.front().is_some_and(|first| first.since.elapsed() > HELLO_LIMIT)
            {
                newcomers.pop_front();
                strangers += 1;
            }
        }
        strangers += newcomers.len() as u64;
        Ok((places.into_iter().flatten().collect(), strangers))
    }

    /// A client whose connection was not answered cannot see why. Where this end's queue was found
    /// to have been full meanwhile, that is the cause.
    fn with_full_queue(&self, error: Error, pairs: usize) -> Error {
        let is_unanswered = match &error {
            Error::Peer { cause, .. } => cause.starts_with(CONNECT),
            error => matches!(error, Error::Path(crate::path::Error::Deadline { .. })),
        };
        let dropped = dropped().zip(self.dropped_before).map(|(now, before)| now.saturating_sub(before));
        let limit = host::sysctl("net/core/somaxconn");
        // The kernel counts for all ports of the namespace: this one is too small for the pairs.
        let is_too_small = limit.parse::<usize>().is_ok_and(|limit| limit < pairs);
        match dropped.filter(|count| *count > 0 && is_too_small && is_unanswered) {
            None => error,
            Some(count) => {
                let cause = format!(
                    "a queue of new connections was full {count} times meanwhile: net.core.somaxconn is {limit}, and {pairs} \
                     pairs connect at once; lift it with `sudo sysctl -w net.core.somaxconn=256`"
                );
                Error::refused(CONNECT, Errno::ETIMEDOUT, cause)
            }
        }
    }

    /// Waits until somebody connects, or one of `newcomers` says something; no longer than a tick.
    fn wait_for_connections(&self, newcomers: &VecDeque<Newcomer>) -> Result<()> {
        let fds = newcomers.iter().map(|newcomer| newcomer.connection.as_fd());
        let fds = std::iter::once(self.socket.as_fd()).chain(fds);
        let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::call("poll(2)")(errno)),
        }
    }
}

/// The data port could not be had.
fn not_bound(address: SocketAddr, errno: io::Error) -> Error {
    let (ip, port) = (address.ip(), address.port());
    let first_free = || host::sysctl("net/ipv4/ip_unprivileged_port_start").parse::<u16>().ok();
    let found = match errno.raw_os_error() {
        Some(libc::EADDRINUSE) => Some(format!("{address} is taken (ss -tlnp)")),
        Some(libc::EADDRNOTAVAIL) => Some(format!("{ip} is no address of this machine (ip address)")),
        Some(libc::EACCES) => first_free().filter(|first| port < *first).map(|first| {
            format!("a port below {first} (net.ipv4.ip_unprivileged_port_start) takes CAP_NET_BIND_SERVICE")
        }),
        _ => None,
    };
    let cause = limits::said(found.map(Found::new), "the address, a security module");
    Error::refused(
        "bind(2) of the data port",
        errno,
        format!("{cause}: another is named with --server-address"),
    )
}

/// How many connections this namespace has dropped because the queue of a port was full: what the
/// kernel counts as `ListenOverflows` in `/proc/net/netstat`.
fn dropped() -> Option<u64> {
    overflows(&std::fs::read_to_string("/proc/thread-self/net/netstat").ok()?)
}

/// The file has two lines for each protocol: names, and under them the values.
fn overflows(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "ListenOverflows")?.1.parse().ok()
}

/// A connection that has not yet said whose it is.
struct Newcomer {
    connection: TcpStream,
    hello: Hello,
    read_bytes: usize,
    since: Instant,
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
        Ok(Self { connection, hello: Hello::default(), read_bytes: 0, since: Instant::now() })
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
