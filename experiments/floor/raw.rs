//! The floors: the least code that makes round trips of `payload_bytes` on as many pairs, by the C
//! library's calls. The client is this same executable, started in the client's network namespace
//! ([`client`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use libc::{c_int, iovec};
use nix::sched::{CloneFlags, setns};
use rustix::net::{RecvFlags, SendFlags};
use sendpath::topology::affinity::pin;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};

/// The variable that makes this executable a floor's client; its value is a [`Load`].
pub const CLIENT: &str = "SENDPATH_FLOOR_CLIENT";

/// What the server does to a message besides moving it. The client always receives into one
/// contiguous buffer.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Floor {
    /// Nothing: one contiguous buffer, `send`.
    Plain,
    /// Eight pieces are copied together before `send`.
    Pack,
    /// Eight pieces, `sendmsg`.
    Iovec,
    /// As [`Plain`](Self::Plain), with every system call made in place, on both sides. Those of the
    /// C library are functions, and cancellation points: what a thread returns through after a
    /// system call is dear.
    InPlace,
}

/// What one run is to do.
#[derive(Clone, Serialize, Deserialize)]
pub struct Load {
    pub floor: Floor,
    pub payload_bytes: usize,
    /// Messages that the server sends in turn, as many as the suite's.
    pub source_messages: usize,
    /// Round trips on each pair before the clock starts.
    pub warm_up: u64,
    pub duration: Duration,
    /// The CPU of each pair, for both ends.
    pub cpus: Vec<usize>,
    /// Where the server listens.
    pub server: SocketAddr,
}

/// What came out: round trips on all pairs together, from the first request to the last byte
/// received.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Outcome {
    pub round_trips: u64,
    pub elapsed_ns: u64,
}

impl Outcome {
    /// Nanoseconds by round trip.
    pub fn round_trip_ns(self) -> f64 {
        self.elapsed_ns as f64 / self.round_trips as f64
    }
}

/// Runs `load` with the client in `client_netns`.
pub fn run(mut load: Load, client_netns: &File) -> io::Result<Outcome> {
    let listener = socket()?;
    listener.bind(&load.server.into())?;
    listener.listen(256)?;
    let listener: TcpListener = listener.into();
    load.server = listener.local_addr()?;
    // The accepts have a deadline, in case the client fails; the sockets that are timed have none.
    SockRef::from(&listener).set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut client = Ended(
        Command::new(std::env::current_exe()?)
            .env(CLIENT, serde_json::to_string(&load)?)
            .env(
                "SENDPATH_FLOOR_NETNS",
                format!("/proc/{}/fd/{}", std::process::id(), client_netns.as_raw_fd()),
            )
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let connections = load.cpus.iter().map(|_| listener.accept().map(|(connection, _)| connection));
    let connections = connections.collect::<io::Result<Vec<_>>>()?;
    scope(|threads| {
        let servers: Vec<_> =
            connections.iter().map(|connection| threads.spawn(|| serve(&load, connection))).collect();
        servers
            .into_iter()
            .try_for_each(|server| server.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
    })?;
    let stdout = client.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// Ends the child and waits for it, whatever happened.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// One pair's server: sends a message for every request, until the client closes.
fn serve(load: &Load, connection: &TcpStream) -> io::Result<()> {
    let fd = connection.as_raw_fd();
    let mut pair = [0; 8];
    receive(fd, &mut pair)?;
    pin_to(load.cpus[u64::from_le_bytes(pair) as usize])?;
    let messages: Vec<[Vec<u8>; 8]> =
        (0..load.source_messages).map(|_| [(); 8].map(|()| vec![1; load.payload_bytes / 8])).collect();
    let contiguous: Vec<Vec<u8>> = (0..load.source_messages).map(|_| vec![1; load.payload_bytes]).collect();
    let mut packed = vec![1; load.payload_bytes];
    for number in 0.. {
        let number = number % load.source_messages;
        let mut request = [0; 8];
        let more = match load.floor {
            Floor::InPlace => receive_in_place(connection, &mut request)?,
            Floor::Plain | Floor::Pack | Floor::Iovec => receive(fd, &mut request)?,
        };
        if !more {
            break;
        }
        match load.floor {
            Floor::Plain => send(fd, &contiguous[number])?,
            Floor::InPlace => send_in_place(connection, &contiguous[number])?,
            Floor::Pack => {
                for (to, from) in packed.chunks_exact_mut(load.payload_bytes / 8).zip(&messages[number]) {
                    to.copy_from_slice(from);
                }
                send(fd, &packed)?;
            }
            Floor::Iovec => send_pieces(fd, &messages[number], load.payload_bytes)?,
        }
    }
    Ok(())
}

/// The client process: runs what `load` says and prints the [`Outcome`].
pub fn client(load: &str) -> io::Result<()> {
    let load: Load = serde_json::from_str(load)?;
    let netns = File::open(std::env::var("SENDPATH_FLOOR_NETNS").unwrap_or_default())?;
    setns(netns, CloneFlags::CLONE_NEWNET)?;
    let connections = (0..load.cpus.len()).map(|pair| {
        let socket = socket()?;
        socket.connect(&load.server.into())?;
        send(socket.as_raw_fd(), &(pair as u64).to_le_bytes())?;
        Ok(TcpStream::from(socket))
    });
    let connections = connections.collect::<io::Result<Vec<_>>>()?;
    let (start, stop) = (Barrier::new(connections.len() + 1), AtomicBool::new(false));
    let outcomes = scope(|threads| {
        let clients: Vec<_> = connections
            .iter()
            .zip(&load.cpus)
            .map(|(connection, &cpu)| {
                let (load, start, stop) = (&load, &start, &stop);
                threads.spawn(move || request(load, connection, cpu, start, stop))
            })
            .collect();
        start.wait();
        sleep(load.duration);
        stop.store(true, Ordering::Relaxed);
        let outcomes = clients
            .into_iter()
            .map(|client| client.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())));
        outcomes.collect::<io::Result<Vec<_>>>()
    })?;
    let first = outcomes.iter().map(|(begun, ..)| *begun).min().ok_or(io::ErrorKind::InvalidInput)?;
    let last = outcomes.iter().map(|(_, ended, _)| *ended).max().ok_or(io::ErrorKind::InvalidInput)?;
    let outcome = Outcome {
        round_trips: outcomes.iter().map(|(.., round_trips)| round_trips).sum(),
        elapsed_ns: (last - first).as_nanos() as u64,
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)
}

/// One pair's client: when it began, when it ended, and how many round trips it made between.
fn request(
    load: &Load,
    connection: &TcpStream,
    cpu: usize,
    start: &Barrier,
    stop: &AtomicBool,
) -> io::Result<(Instant, Instant, u64)> {
    let fd = connection.as_raw_fd();
    let warm = pin_to(cpu).and_then(|()| {
        let mut buffer = vec![1; load.payload_bytes];
        for _ in 0..load.warm_up {
            send(fd, &[0; 8])?;
            receive(fd, &mut buffer)?;
        }
        Ok(buffer)
    });
    // Comes to the barrier whatever happened, so that nobody waits for it there.
    start.wait();
    let mut buffer = warm?;
    let (begun, mut round_trips) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        if load.floor == Floor::InPlace {
            send_in_place(connection, &[0; 8])?;
            receive_in_place(connection, &mut buffer)?;
        } else {
            send(fd, &[0; 8])?;
            receive(fd, &mut buffer)?;
        }
        round_trips += 1;
    }
    Ok((begun, Instant::now(), round_trips))
}

fn pin_to(cpu: usize) -> io::Result<()> {
    pin(&[cpu]).map_err(io::Error::other)
}

fn send(fd: c_int, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        // SAFETY: the pointer and the length are those of a live slice.
        sent += moved(unsafe { libc::send(fd, bytes[sent..].as_ptr().cast(), bytes.len() - sent, 0) })?;
    }
    Ok(())
}

fn send_pieces(fd: c_int, fields: &[Vec<u8>; 8], payload_bytes: usize) -> io::Result<()> {
    let mut sent = 0;
    while sent < payload_bytes {
        let mut skip = sent;
        let mut pieces = fields.each_ref().map(|field| {
            let cut = skip.min(field.len());
            skip -= cut;
            iovec { iov_base: field[cut..].as_ptr().cast_mut().cast(), iov_len: field.len() - cut }
        });
        // SAFETY: zero is a value for every field of msghdr; the iovecs are of live slices, which
        // are only read.
        sent += moved(unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_iov = pieces.as_mut_ptr();
            header.msg_iovlen = 8;
            libc::sendmsg(fd, &raw const header, 0)
        })?;
    }
    Ok(())
}

/// Fills `bytes`; false where the peer closed first.
fn receive(fd: c_int, bytes: &mut [u8]) -> io::Result<bool> {
    let mut received = 0;
    while received < bytes.len() {
        let rest = &mut bytes[received..];
        // SAFETY: the pointer and the length are those of a live slice that is borrowed for
        // writing.
        match moved(unsafe { libc::recv(fd, rest.as_mut_ptr().cast(), rest.len(), 0) })? {
            0 => return Ok(false),
            bytes => received += bytes,
        }
    }
    Ok(true)
}

#[inline]
fn send_in_place(connection: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += rustix::net::send(connection, &bytes[sent..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// As [`receive`].
#[inline]
fn receive_in_place(connection: &TcpStream, bytes: &mut [u8]) -> io::Result<bool> {
    let mut received = 0;
    while received < bytes.len() {
        match rustix::net::recv(connection, &mut bytes[received..], RecvFlags::empty())?.0 {
            0 => return Ok(false),
            bytes => received += bytes,
        }
    }
    Ok(true)
}

fn moved(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A socket set as the suite sets its own: fixed buffers, reno, no delay.
fn socket() -> io::Result<Socket> {
    use nix::sys::socket::{setsockopt, sockopt};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let bytes = 2 << 20;
    setsockopt(&socket, sockopt::SndBufForce, &bytes)
        .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &bytes))?;
    setsockopt(&socket, sockopt::RcvBufForce, &bytes)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes))?;
    setsockopt(&socket, sockopt::TcpCongestion, &"reno".into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}
