//! The floors: the least code that makes `messages` round trips of `payload` bytes, on raw libc calls.
//! Both ends on CPU `cpu`, the client in a forked process in the network namespace `client_netns`.

/// What is done to a message besides moving it.
#[derive(Clone, Copy, PartialEq)]
pub enum Floor {
    /// Nothing: one contiguous buffer, `send` and `recv`.
    Plain,
    /// Eight pieces are copied together before `send`, and apart after `recv`.
    Pack,
    /// Eight pieces, `sendmsg` and `recvmsg`.
    Iovec,
}

use std::mem::{size_of, zeroed};
use std::ptr::null_mut;

use libc::{c_int, c_void, iovec, sockaddr_in, socklen_t};

/// One run: returns the nanoseconds that `messages` round trips took, after `warm_up` more.
pub fn round_trips(
    floor: Floor,
    (payload, warm_up, messages): (usize, u64, u64),
    (address, client_netns, cpu): (u32, c_int, usize),
) -> u64 {
    let mut memory = Memory { fields: [(); 8].map(|()| vec![1; payload / 8]), packed: vec![1; payload] };
    // SAFETY: every pointer below is to a live local or into `memory`, with its true length; after
    // fork(2) the child makes system calls only, and leaves by _exit(2).
    unsafe {
        let mut here: sockaddr_in = zeroed();
        here.sin_family = libc::AF_INET as u16;
        here.sin_addr.s_addr = address.to_be();
        let mut length = size_of::<sockaddr_in>() as socklen_t;
        let listener = socket();
        check(libc::bind(listener, (&raw const here).cast(), length));
        check(libc::listen(listener, 1));
        check(libc::getsockname(listener, (&raw mut here).cast(), &raw mut length));
        let mut pipe = [0; 2];
        check(libc::pipe(pipe.as_mut_ptr()));
        let mut elapsed_ns = 0_u64;

        // The accept has a deadline, in case the client fails; the sockets that are timed have none.
        let limit = libc::timeval { tv_sec: 5, tv_usec: 0 };
        let bytes = size_of::<libc::timeval>() as socklen_t;
        check(libc::setsockopt(
            listener,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const limit).cast(),
            bytes,
        ));

        let client = libc::fork();
        if client == 0 {
            // What fails from here on must not unwind into what the parent owns.
            std::panic::set_hook(Box::new(|panic| {
                eprintln!("the floor's client: {panic}");
                libc::_exit(1);
            }));
            check(libc::setns(client_netns, libc::CLONE_NEWNET));
            pin(cpu);
            let fd = socket();
            check(libc::connect(fd, (&raw const here).cast(), length));
            let mut start_ns = 0;
            for message in 0..warm_up + messages {
                if message == warm_up {
                    start_ns = clock_ns();
                }
                check(libc::send(fd, [0_u8; 8].as_ptr().cast(), 8, 0) as c_int);
                receive(fd, &mut memory, floor);
            }
            elapsed_ns = clock_ns() - start_ns;
            check(libc::write(pipe[1], (&raw const elapsed_ns).cast(), 8) as c_int);
            libc::_exit(0);
        }
        check(client);
        pin(cpu);
        let fd = libc::accept(listener, null_mut(), null_mut());
        check(fd);
        for _ in 0..warm_up + messages {
            let mut request = [0_u8; 8];
            assert_eq!(libc::recv(fd, request.as_mut_ptr().cast(), 8, libc::MSG_WAITALL), 8);
            send(fd, &mut memory, floor);
        }
        check(libc::read(pipe[0], (&raw mut elapsed_ns).cast(), 8) as c_int);
        check(libc::waitpid(client, null_mut(), 0));
        for fd in [fd, listener, pipe[0], pipe[1]] {
            libc::close(fd);
        }
        elapsed_ns
    }
}

/// Eight fields as malloc gives them, and one buffer of their size.
struct Memory {
    fields: [Vec<u8>; 8],
    packed: Vec<u8>,
}

/// One message out.
fn send(fd: c_int, memory: &mut Memory, floor: Floor) {
    if floor == Floor::Pack {
        for (to, from) in memory.packed.chunks_exact_mut(memory.fields[0].len()).zip(&memory.fields) {
            to.copy_from_slice(from);
        }
    }
    let mut sent = 0;
    while sent < memory.packed.len() {
        // SAFETY: as in `round_trips`.
        let result = unsafe {
            if floor == Floor::Iovec {
                let mut pieces = pieces(memory, sent);
                let header = header(&mut pieces);
                libc::sendmsg(fd, &raw const header, 0)
            } else {
                libc::send(fd, memory.packed[sent..].as_ptr().cast(), memory.packed.len() - sent, 0)
            }
        };
        check(result as c_int);
        sent += result as usize;
    }
}

/// One message in.
fn receive(fd: c_int, memory: &mut Memory, floor: Floor) {
    let mut received = 0;
    while received < memory.packed.len() {
        // SAFETY: as in `round_trips`.
        let result = unsafe {
            if floor == Floor::Iovec {
                let mut pieces = pieces(memory, received);
                let mut header = header(&mut pieces);
                libc::recvmsg(fd, &raw mut header, 0)
            } else {
                let rest = &mut memory.packed[received..];
                libc::recv(fd, rest.as_mut_ptr().cast(), rest.len(), 0)
            }
        };
        check(result as c_int);
        received += result as usize;
    }
    if floor == Floor::Pack {
        for (from, to) in memory.packed.chunks_exact(memory.fields[0].len()).zip(&mut memory.fields) {
            to.copy_from_slice(from);
        }
    }
}

/// The fields without their first `skip` bytes.
fn pieces(memory: &mut Memory, mut skip: usize) -> [iovec; 8] {
    memory.fields.each_mut().map(|field| {
        let cut = skip.min(field.len());
        skip -= cut;
        iovec { iov_base: field[cut..].as_mut_ptr().cast(), iov_len: field.len() - cut }
    })
}

fn header(pieces: &mut [iovec; 8]) -> libc::msghdr {
    // SAFETY: zero is a value for every field of msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = pieces.as_mut_ptr();
    header.msg_iovlen = 8;
    header
}

/// A socket set as the suite sets its own: fixed buffers, reno, no delay.
fn socket() -> c_int {
    // SAFETY: as in `round_trips`.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let (on, buffer): (c_int, c_int) = (1, 2 << 20);
        let set = |level, option, value: *const c_void, bytes: usize| {
            libc::setsockopt(fd, level, option, value, bytes as socklen_t)
        };
        for (forced, plain) in
            [(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF), (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF)]
        {
            if set(libc::SOL_SOCKET, forced, (&raw const buffer).cast(), 4) != 0 {
                check(set(libc::SOL_SOCKET, plain, (&raw const buffer).cast(), 4));
            }
        }
        check(set(libc::IPPROTO_TCP, libc::TCP_CONGESTION, c"reno".as_ptr().cast(), 4));
        check(set(libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), 4));
        fd
    }
}

fn clock_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one live timespec.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) });
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn pin(cpu: usize) {
    // SAFETY: a zeroed set is an empty one; the call reads it.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        libc::CPU_SET(cpu, &mut set);
        check(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set));
    }
}

fn check(result: c_int) {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
}
