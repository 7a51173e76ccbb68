//! A pair without a receiver: a connection into the [sink](Sink), and the acknowledgements that it
//! needs.
//!
//! The connection is made by [`TCP_REPAIR`](https://lwn.net/Articles/495304/): the kernel is told
//! the state that a handshake would have left, with timestamps and selective acknowledgements
//! agreed upon. From then on this thread plays the peer. It writes requests and acknowledgements as
//! frames to the far end of the link, by a packet socket of protocol 0, which receives nothing: one
//! that listened would have every send copied. An acknowledgement says what has left, never more,
//! since the kernel ignores a segment that acknowledges what was not sent: the bytes written so far
//! without those that `SIOCOUTQNSD` calls unsent.

use std::io::{self, ErrorKind};
use std::mem;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::SendFlags;
use rustix::thread::CapabilitySet;
use socket2::{Domain, Type};

use super::frame::{Direction, Frame, REQUEST_BYTES, Segment, WINDOW_SHIFT};
use super::{SocketOptions, receive_request};
use crate::deadlines::STALL_SINK;
use crate::error::{Error, Result};
use crate::host;
use crate::limits::{self, Found};
use crate::path::socket::sealed::Sealed;
use crate::path::socket::set_option;
use crate::path::{Interest, Readiness, Socket};
use crate::topology::Sink;

/// The port that connections are made to. Nobody is there.
const NOBODY_PORT: u16 = 9;
/// Sequence numbers to begin with: far enough below the wrap that the first bursts are easily read
/// in a trace.
const OUR_SEQUENCE: u32 = 1_000_000;
const THEIR_SEQUENCE: u32 = 2_000_000;
/// Acknowledgements in a row before this thread lets others run: what was sent may wait for the
/// kernel's own thread.
const AT_ONCE: u64 = 64;
/// An acknowledgement that brought nothing about for so long may have been dropped on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The peer of one connection, played by the thread that sends.
#[derive(Debug)]
pub(super) struct Injector {
    pub(super) connection: Arc<TcpStream>,
    /// Sends frames at the far end of the link, and hears none.
    packets: OwnedFd,
    direction: Direction,
    /// The sequence number after the last byte that was written. One thread counts: no order is
    /// needed.
    written: AtomicU32,
    /// The number that was acknowledged last.
    acknowledged: AtomicU32,
    /// The sequence number of the next request.
    requested: AtomicU32,
    /// The time stamp of the frame that was injected last. The next one echoes it: what that
    /// acknowledges has left since.
    stamped_ms: AtomicU32,
    /// Whether the work of the peer's frames is in the CPU time of the thread that injects them:
    /// see [`takes_frames_in_at_once`](Self::takes_frames_in_at_once).
    pub(super) is_in_cpu_time: bool,
}

impl Injector {
    /// Makes a connection into `sink`, with the peer that it needs.
    ///
    /// # Errors
    /// [`Refused`](crate::path::Error::Refused) without the privilege; else the call that failed.
    pub(super) fn connect(sink: &Sink, options: &SocketOptions, connections: usize) -> Result<Vec<Self>> {
        sink.within(|| {
            let connect = |_| Self::connect_one(sink, options);
            let mut injectors = (0..connections).map(connect).collect::<Result<Vec<_>>>()?;
            // What holds for one holds for all.
            if let Some(first) = injectors.first() {
                let is_in_cpu_time = first.takes_frames_in_at_once()?;
                for injector in &mut injectors {
                    injector.is_in_cpu_time = is_in_cpu_time;
                }
            }
            Ok(injectors)
        })
    }

    fn connect_one(sink: &Sink, options: &SocketOptions) -> Result<Self> {
        let packets = packet_socket(sink.port_index)?;
        let connection = repaired_connection(options, sink.mtu_bytes)?;
        let from = match connection.local_addr().map_err(Error::call("getsockname(2)"))? {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => return Err(Error::Protocol("the sink's address is of IPv4".to_owned())),
        };
        let injector = Self {
            connection: Arc::new(connection),
            packets,
            direction: Direction {
                from_mac: Sink::NOBODY_MAC,
                to_mac: Sink::SENDER_MAC,
                from: nobody(),
                to: from,
            },
            written: AtomicU32::new(OUR_SEQUENCE),
            acknowledged: AtomicU32::new(OUR_SEQUENCE),
            requested: AtomicU32::new(THEIR_SEQUENCE),
            stamped_ms: AtomicU32::new(now_ms(PEERS_CLOCK)?),
            is_in_cpu_time: true,
        };
        // Opens the window, which no handshake has done.
        injector.acknowledge(true)?;
        Ok(injector)
    }

    /// Tries whether the kernel takes a frame in within the call that injects it, on the time of
    /// the thread that calls. It need not: a thread of the kernel may do that, or another CPU.
    /// Where this thread shares its CPU, that may look as if it were so; the best of some trials
    /// counts.
    fn takes_frames_in_at_once(&self) -> Result<bool> {
        const TRIALS: usize = 8;
        const REQUESTS: usize = 32;
        for _ in 0..TRIALS {
            let mut at_once = 0;
            for _ in 0..REQUESTS {
                let before = context_switches()?;
                self.request(1)?;
                let is_there = self.connection.peek(&mut [0]).is_ok();
                at_once += usize::from(is_there && context_switches()? == before);
                if !is_there
                    && self.connection.wait(Interest::Readable, STALL_SINK).ok() == Some(Readiness::TimedOut)
                {
                    return Err(Error::SinkStalled { waited: STALL_SINK });
                }
                receive_request(&self.connection)?;
            }
            if at_once >= REQUESTS * 9 / 10 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks for `messages`, as a client does. Everything that was written has been acknowledged
    /// before.
    pub(super) fn request(&self, messages: u64) -> Result<()> {
        let sequence = self.requested.load(Ordering::Relaxed);
        self.inject(sequence, self.written.load(Ordering::Relaxed), Some(messages.to_le_bytes()))?;
        self.requested.store(sequence.wrapping_add(REQUEST_BYTES as u32), Ordering::Relaxed);
        Ok(())
    }

    /// Acknowledges what has left since the last time; returns how many bytes have not left. The
    /// same acknowledgement twice would be a duplicate, and three of these are how TCP learns of a
    /// loss. So only `again` repeats one, which may itself have been lost.
    pub(super) fn acknowledge(&self, again: bool) -> Result<u32> {
        let unsent_bytes = self.unsent_bytes()?;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let left = left(self.written.load(Ordering::Relaxed), unsent_bytes, acknowledged);
        if again || acknowledged != left {
            self.inject(self.requested.load(Ordering::Relaxed), left, None)?;
            self.acknowledged.store(left, Ordering::Relaxed);
        }
        Ok(unsent_bytes)
    }

    /// Acknowledges until everything has left. More than once where the congestion window is not
    /// yet open.
    pub(super) fn acknowledge_all(&self) -> Result<()> {
        let mut unsent_bytes = self.acknowledge(false)?;
        if unsent_bytes == 0 {
            return Ok(());
        }
        let mut progressed = Instant::now();
        for times in 1_u64.. {
            let still_unsent_bytes = self.acknowledge(false)?;
            if still_unsent_bytes == 0 {
                break;
            }
            if still_unsent_bytes < unsent_bytes {
                (unsent_bytes, progressed) = (still_unsent_bytes, Instant::now());
            }
            if times.is_multiple_of(AT_ONCE) {
                if progressed.elapsed() > STALL_SINK {
                    return Err(Error::SinkStalled { waited: STALL_SINK });
                }
                if progressed.elapsed() > LOOK_AGAIN {
                    self.acknowledge(true)?;
                }
                // Where another pair failed, this connection was shut down, and may have been reset
                // since.
                match self.connection.peek(&mut [0]) {
                    Ok(0) => return Err(Error::Stopped),
                    Err(errno) if !matches!(errno.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                        return Err(Error::call("recv(2) MSG_PEEK")(errno));
                    }
                    _ => {}
                }
                yield_now();
            }
        }
        Ok(())
    }

    fn inject(&self, sequence: u32, acknowledged: u32, payload: Option<[u8; REQUEST_BYTES]>) -> Result<()> {
        let (stamp_ms, echo_ms) = (now_ms(PEERS_CLOCK)?, self.stamped_ms.load(Ordering::Relaxed));
        let segment = Segment { sequence, acknowledged, stamp_ms, echo_ms };
        let frame = Frame::new(&self.direction, segment, payload);
        let mut full_since = None;
        let errno = loop {
            match rustix::net::send(&self.packets, frame.bytes(), SendFlags::empty()) {
                Ok(_) => {
                    self.stamped_ms.store(stamp_ms, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                // The kernel's backlog is full, and has dropped the frame: other pairs fill it, and
                // softirqs empty it.
                Err(Errno::NOBUFS) if full_since.get_or_insert_with(Instant::now).elapsed() < STALL_SINK => {
                    yield_now();
                }
                Err(errno) => break errno,
            }
        };
        let found = match errno {
            // What `packet_snd` says of a link without IFF_UP, and of one that is not there.
            Errno::NETDOWN => Some(Found::new("the sink's link was set down while it was measured")),
            Errno::NXIO | Errno::NODEV => {
                Some(Found::new("the sink's link was removed while it was measured"))
            }
            Errno::NOBUFS => {
                let drops_before = backlog_drops();
                let again = rustix::net::send(&self.packets, frame.bytes(), SendFlags::empty());
                (again == Err(Errno::NOBUFS) && backlog_drops() > drops_before).then(|| {
                    Found::new(
                        "the kernel's backlog stayed full: raise net.core.netdev_max_backlog, or measure fewer pairs at \
                         a time",
                    )
                })
            }
            _ => None,
        };
        let look_at =
            "the state of the sink's links, a program on them (tc filter), net.core.netdev_max_backlog";
        Err(Error::refused("send(2) of a frame into the sink", errno, limits::said(found, look_at)))
    }

    /// Bytes that were written and have not been sent yet (`tcp(7)`).
    fn unsent_bytes(&self) -> Result<u32> {
        /// From `<linux/sockios.h>`.
        const SIOCOUTQNSD: Opcode = 0x894B;
        // SAFETY: this request writes one int.
        let bytes = unsafe { ioctl(&self.connection, Getter::<SIOCOUTQNSD, libc::c_int>::new()) };
        bytes.map(libc::c_int::unsigned_abs).map_err(Error::call("ioctl(2) SIOCOUTQNSD"))
    }

    fn wrote(&self, bytes: usize) {
        let written = self.written.load(Ordering::Relaxed).wrapping_add(bytes as u32);
        self.written.store(written, Ordering::Relaxed);
    }
}

/// The clock that the peer's time stamps are of. It is read for each frame, and this is the
/// cheapest to read.
const PEERS_CLOCK: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;

fn now_ms(clock: ClockId) -> Result<u32> {
    let now = clock_gettime(clock).map_err(Error::call("clock_gettime(2)"))?;
    Ok(now.num_milliseconds() as u32) // time stamps wrap around
}

/// How often the calling thread has left its CPU.
fn context_switches() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).map_err(Error::call("getrusage(2)"))?;
    Ok(usage.voluntary_context_switches() + usage.involuntary_context_switches())
}

/// The sequence number after the last byte that has left. While a thread of the kernel sends, what
/// it has put into the socket so far counts as unsent and not yet as written; so the number would
/// be below one that was acknowledged.
fn left(written: u32, unsent_bytes: u32, acknowledged: u32) -> u32 {
    let left = written.wrapping_sub(unsent_bytes);
    if left.wrapping_sub(acknowledged).cast_signed() > 0 { left } else { acknowledged }
}

/// The parts of a connection into the sink, for code that makes its own calls on them.
#[doc(hidden)]
#[derive(Debug)]
pub struct SinkParts {
    /// The sender's end, non-blocking, with an open window.
    pub connection: TcpStream,
    /// Takes frames that seem to come from the peer.
    pub packets: OwnedFd,
    /// A frame that asks for one message, and one that acknowledges: with the numbers of the first
    /// of each, and the time stamps 0.
    pub frames: [Vec<u8>; 2],
}

impl SinkParts {
    pub(super) fn open(sink: &Sink, options: &SocketOptions) -> Result<Self> {
        let injector = sink.within(|| Injector::connect_one(sink, options))?;
        let first = Segment { sequence: THEIR_SEQUENCE, acknowledged: OUR_SEQUENCE, stamp_ms: 0, echo_ms: 0 };
        let frame = |payload| Frame::new(&injector.direction, first, payload).bytes().to_vec();
        let frames = [frame(Some(1_u64.to_le_bytes())), frame(None)];
        let connection = injector.connection.try_clone().map_err(Error::call("dup(2)"))?;
        Ok(Self { connection, packets: injector.packets, frames })
    }
}

/// Frames that the kernel has dropped because a CPU's backlog was full (`/proc/net/softnet_stat`).
fn backlog_drops() -> u64 {
    let text = std::fs::read_to_string("/proc/net/softnet_stat").unwrap_or_default();
    let of_cpu = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    text.lines().filter_map(of_cpu).sum()
}

/// Why a connection may not be put together by hand.
fn no_repair() -> String {
    let found =
        host::lacks(CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN, which the sink takes in its network namespace");
    limits::said(found, "whether that namespace belongs to another user namespace (lsns), a security module")
        + "; run as root, or as an ordinary user with the default topology, anonymous"
}

fn nobody() -> SocketAddrV4 {
    SocketAddrV4::new(Sink::NOBODY_ADDRESS, NOBODY_PORT)
}

/// A socket that sends frames at the interface `index` and receives none, since its protocol is 0
/// ([`packet(7)`](https://man7.org/linux/man-pages/man7/packet.7.html)).
fn packet_socket(index: i32) -> Result<OwnedFd> {
    let socket = socket2::Socket::new(libc::AF_PACKET.into(), Type::from(libc::SOCK_RAW), None)
        .map_err(|errno| host::refused("socket(2) AF_PACKET", errno))?;
    // SAFETY: zero is a value for every field of this structure.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index;
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is live and as long as `length` says.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result < 0 {
        return Err(Error::call("bind(2) of the sink's packet socket")(io::Error::last_os_error()));
    }
    Ok(socket.into())
}

/// An established connection to nobody: non-blocking, since only this thread can acknowledge what
/// fills its buffer.
fn repaired_connection(options: &SocketOptions, mtu_bytes: u32) -> Result<TcpStream> {
    /// From `<linux/tcp.h>`: ends the repair without a window probe, which nobody would answer.
    const TCP_REPAIR_OFF_NO_WP: libc::c_int = -1;
    const TCP_RECV_QUEUE: libc::c_int = 1;
    const TCP_SEND_QUEUE: libc::c_int = 2;
    /// Kinds of TCP options (RFC 9293, RFC 7323, RFC 2018).
    const MAXIMUM_SEGMENT_SIZE: u32 = 2;
    const WINDOW_SCALE: u32 = 3;
    const SACK_PERMITTED: u32 = 4;
    const TIMESTAMPS: u32 = 8;
    /// The headers of IPv4 and TCP, without options.
    const HEADER_BYTES: u32 = 40;

    // No peer would answer a FIN, so that the kernel would send it again and again.
    let socket = options.resetting_socket(Domain::IPV4)?;
    socket
        .bind(&SocketAddrV4::new(Sink::SENDER_ADDRESS, 0).into())
        .map_err(Error::call("bind(2) of the sink's connection"))?;
    let repair = |on: libc::c_int| set_tcp(&socket, "setsockopt(2) TCP_REPAIR", libc::TCP_REPAIR, &on);
    repair(1).map_err(|error| error.explained(libc::EPERM, no_repair))?;
    for (queue, sequence) in [(TCP_SEND_QUEUE, OUR_SEQUENCE), (TCP_RECV_QUEUE, THEIR_SEQUENCE)] {
        set_tcp(&socket, "setsockopt(2) TCP_REPAIR_QUEUE", libc::TCP_REPAIR_QUEUE, &queue)?;
        set_tcp(&socket, "setsockopt(2) TCP_QUEUE_SEQ", libc::TCP_QUEUE_SEQ, &sequence)?;
    }
    socket.connect(&nobody().into()).map_err(Error::call("connect(2) of the sink's connection"))?;
    let shift = u32::from(WINDOW_SHIFT);
    // What both ends of an ordinary connection say in the handshake.
    let agreed = [
        [MAXIMUM_SEGMENT_SIZE, mtu_bytes.saturating_sub(HEADER_BYTES)],
        [WINDOW_SCALE, shift | shift << 16],
        [SACK_PERMITTED, 0],
        [TIMESTAMPS, 0],
    ];
    set_tcp(&socket, "setsockopt(2) TCP_REPAIR_OPTIONS", libc::TCP_REPAIR_OPTIONS, &agreed)?;
    // The time stamps of its segments follow the peer's clock, so that the peer has some to echo
    // without seeing any; they are not behind it. The lowest bit would ask for microseconds (Linux
    // 6.7).
    let stamp_ms = (now_ms(ClockId::CLOCK_MONOTONIC)?.wrapping_add(1)) & !1;
    set_tcp(&socket, "setsockopt(2) TCP_TIMESTAMP", libc::TCP_TIMESTAMP, &stamp_ms)?;
    repair(TCP_REPAIR_OFF_NO_WP)?;
    socket.set_nonblocking(true).map_err(Error::call("fcntl(2) O_NONBLOCK"))?;
    Ok(socket.into())
}

fn set_tcp<T: Copy>(socket: &impl AsFd, call: &'static str, option: libc::c_int, value: &T) -> Result<()> {
    set_option(socket, libc::IPPROTO_TCP, option, value).map_err(Error::call(call))
}

/// The connection as a path sees it: it counts what is written, and whoever waits for room, or for
/// a completion, is the one who can bring it about.
#[derive(Debug)]
pub(super) struct SinkSocket(pub(super) Arc<Injector>);

impl Sealed for SinkSocket {
    fn stream(&self) -> &TcpStream {
        &self.0.connection
    }
}

impl Socket for SinkSocket {
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<Readiness> {
        if interest == Interest::Readable {
            return self.stream().wait(interest, timeout);
        }
        let since = Instant::now();
        let mut again = false;
        loop {
            // What left after the last acknowledgement needs another one.
            self.0.acknowledge(again).map_err(io::Error::other)?;
            again = true;
            let left = timeout.saturating_sub(since.elapsed());
            let readiness = self.stream().wait(interest, left.min(LOOK_AGAIN))?;
            if readiness != Readiness::TimedOut || left.is_zero() {
                return Ok(readiness);
            }
        }
    }

    fn sent(&self, bytes: usize) {
        self.0.wrote(bytes);
    }

    fn attend(&self, again: bool) -> io::Result<Option<Duration>> {
        self.0.acknowledge(again).map_err(io::Error::other)?;
        Ok(Some(LOOK_AGAIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_once_is_not_taken_back() {
        for start in [OUR_SEQUENCE, u32::MAX - 50] {
            let at = |bytes| start.wrapping_add(bytes);
            assert_eq!(left(at(100), 0, at(0)), at(100));
            assert_eq!(left(at(100), 30, at(40)), at(70), "what has not left is left out");
            assert_eq!(left(at(100), 30, at(70)), at(70), "nothing new");
            // A call that is under way has put 64 KiB into the socket.
            assert_eq!(left(at(100), 64 << 10, at(100)), at(100));
        }
    }
}
