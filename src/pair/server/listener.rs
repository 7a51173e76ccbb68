//! Where the client's connections arrive. Only those that say the instance's token take a place.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::out_of_turn;
use crate::case::MAX_THREADS;
use crate::environment::EffectiveSocket;
use crate::error::{Error, Result};
use crate::limits;
use crate::pair::{Hello, SocketOptions, Token};

/// How long a connection may take to be there, once the client says that it is.
const ACCEPT_LIMIT: Duration = Duration::from_secs(5);

/// A listener whose options the connections inherit.
pub(super) struct Listener(TcpListener);

impl Listener {
    pub(super) fn open(address: Ipv4Addr, options: &SocketOptions) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(Error::call("socket(2)"))?;
        options.apply(&socket)?;
        socket.bind(&SocketAddr::from((address, 0)).into()).map_err(Error::call("bind(2)"))?;
        // A connection that is gone again by the time that it is accepted delays no other.
        socket.set_nonblocking(true).map_err(Error::call("fcntl(2) O_NONBLOCK"))?;
        let backlog = i32::try_from(MAX_THREADS).unwrap_or(i32::MAX);
        socket.listen(backlog).map_err(Error::call("listen(2)"))?;
        Ok(Self(socket.into()))
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.0.local_addr().map_err(Error::call("getsockname(2)"))
    }

    pub(super) fn effective(&self) -> Result<EffectiveSocket> {
        EffectiveSocket::read(&self.0)
    }

    /// Takes the connections of an instance that failed half-way off the queue. They would fill it, and
    /// later instances could not connect.
    pub(super) fn drop_waiting(&self) {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) && self.0.accept().is_ok() {}
    }

    /// The connections of the instance's pairs, in the pairs' order. Any host on a real wire may connect: one that
    /// says another token, or nothing, takes no place and delays no other.
    pub(super) fn connections(&self, token: Token, pairs: usize) -> Result<Vec<Arc<TcpStream>>> {
        let mut places: Vec<Option<Arc<TcpStream>>> = vec![None; pairs];
        let mut newcomers: Vec<Newcomer> = Vec::new();
        let deadline = Instant::now() + ACCEPT_LIMIT;
        while places.iter().any(Option::is_none) {
            self.wait_for_connections(&newcomers, deadline)?;
            match self.0.accept() {
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
        let fds = std::iter::once(self.0.as_fd()).chain(fds);
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
