//! `mmap`: `TCP_ZEROCOPY_RECEIVE`. The kernel maps the pages in which a message arrived into this
//! process, in place of copying them; what is no whole page it leaves to `recv`.
//!
//! It maps a piece of a packet only where that is exactly one ordinary page, from its first byte to
//! its last (`can_map_frag` in `net/ipv4/tcp.c`). So it takes
//! - a maximum segment size of whole pages: an MTU of 4148 for a page of 4096 bytes, IPv4 and TCP's
//!   timestamps;
//! - payloads of whole pages, or what comes after a shorter one is never aligned;
//! - a driver that puts headers apart from data, or a sender on this machine whose packets lie on
//!   single pages. What an ordinary `send` copies lies on pages of 32 KiB where memory allows, and
//!   is not mapped.
//!
//! - a kernel that maps no page of a file (since Linux 6.8, and in stable kernels since): before,
//!   what a sender on this machine had sent by `sendfile` could be mapped too, and its owner may
//!   write to it while it is read here.
//!
//! How much was mapped and how much copied stands in [`Copies`]: measured, not hoped for. The pages
//! are given back when the next message takes their place; a mapping costs the CPUs a flush of
//! their address caches, which for some KiB is dearer than a copy
//! ([LWN](https://lwn.net/Articles/752188/)).
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{MappedReceiver, MessageSender, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//! let mut receiver = MappedReceiver::new(client, vec![vec![8192; 2]])?;
//!
//! let mut sender = MessageSender::one_copy(server, vec![Message::with_field_bytes(&[8192; 2], Layout::Heap)]);
//! sender.message()?.fill(7);
//! sender.send()?;
//!
//! receiver.receive()?;
//! # assert_eq!(receiver.last().verify(7, 0).map(|verdict| verdict.is_err()), Some(true), "not stamped");
//! let copies = receiver.copies();
//! assert_eq!(copies.mapped_bytes + copies.kernel_to_user_bytes, 16384);
//! # Ok(()) }
//! ```

use std::io::{self, IoSlice};
use std::path::Path;
use std::slice;

use super::error::{Error, Result};
use super::receivers::Lengths;
use super::ring::Ring;
use super::socket::{MappedReceive, Mapping};
use super::{Copies, Interest, ReceiveMessage, Socket, WAIT_LIMIT, Wait, recv_all};
use crate::limits::{self, Found};
use crate::message::{Received, page_bytes};

/// Receives by mapping whole pages, and copying the rest.
#[derive(Debug)]
pub struct MappedReceiver<S> {
    socket: S,
    ring: Ring<Lengths>,
    /// Where pages are mapped: as many as the largest message has.
    mapping: Mapping,
    /// What was copied, each byte at its place in the message.
    copied: Box<[u8]>,
    /// The message that was received last: pieces of the one and of the other.
    pieces: Vec<libc::iovec>,
    copies: Copies,
}

// SAFETY: the pieces point into the mapping and into `copied`, which are owned beside them.
unsafe impl<S: Send> Send for MappedReceiver<S> {}

/// No address range could be had of a socket.
fn not_mapped(errno: io::Error, bytes: u64) -> Error {
    let found = match errno.raw_os_error() {
        // What a socket says of which no pages are mapped (`sock_no_mmap`).
        Some(libc::ENODEV) => Some(Found::new(
            "the kernel maps no pages of this socket (TCP has it since Linux 4.18): take another receiver",
        )),
        Some(libc::ENOMEM) => limits::address_space(Path::new("/"), bytes),
        _ => None,
    };
    let look_at =
        "RLIMIT_AS, vm.max_map_count, and whether it is a TCP socket; the other receivers map nothing";
    Error::refused("mmap(2) of a socket", errno, limits::said(found, look_at))
}

impl<S: Socket> MappedReceiver<S> {
    /// A receiver of messages whose fields have the given lengths, in bytes, in turn.
    ///
    /// # Errors
    /// [`Error::Refused`] where the kernel maps no pages of this socket (TCP: Linux 4.18).
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Vec<usize>>) -> Result<Self> {
        let ring = Ring::of_fields(messages);
        let copied = ring.buffer();
        let largest_bytes = copied.len();
        let mapped_bytes = largest_bytes.next_multiple_of(page_bytes());
        let mapping =
            socket.map_received(mapped_bytes).map_err(|errno| not_mapped(errno, mapped_bytes as u64))?;
        let pieces = Vec::with_capacity(largest_bytes / page_bytes() * 2 + 2);
        Ok(Self { socket, ring, mapping, copied, pieces, copies: Copies::default() })
    }

    /// Notes that the next `bytes` of the message lie at `start`, beside the last piece or as a new
    /// one.
    fn add_piece(&mut self, start: *mut u8, bytes: usize) {
        match self.pieces.last_mut() {
            Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == start.cast() => {
                last.iov_len += bytes;
            }
            _ => self.pieces.push(libc::iovec { iov_base: start.cast(), iov_len: bytes }),
        }
    }

    /// Copies `bytes` that come next, from `at` on in the message of `payload_bytes`.
    fn copy(&mut self, at: usize, bytes: usize, payload_bytes: usize) -> Result<()> {
        recv_all(&self.socket, &mut self.copied[at..at + bytes]).map_err(|error| match error {
            Error::Closed { after_bytes, .. } => {
                Error::Closed { after_bytes: at + after_bytes, of_bytes: payload_bytes }
            }
            error => error,
        })?;
        self.copies.kernel_to_user_bytes += bytes as u64;
        let start = self.copied[at..].as_mut_ptr();
        self.add_piece(start, bytes);
        Ok(())
    }
}

impl<S: Socket + Send> ReceiveMessage for MappedReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        self.ring.advance();
        let payload_bytes = self.ring.current().payload_bytes;
        self.pieces.clear();
        let mut wait = Wait::new(Interest::Readable, WAIT_LIMIT);
        // Pages go side by side into the mapping, whatever was copied between them.
        let (mut received_bytes, mut mapped_bytes) = (0, 0);
        let mut waited = false;
        while received_bytes < payload_bytes {
            let left_bytes = payload_bytes - received_bytes;
            let whole_bytes = left_bytes - left_bytes % page_bytes();
            let start = self.mapping.start().wrapping_add(mapped_bytes);
            let mut request = MappedReceive::new(start, whole_bytes);
            let answer = if whole_bytes > 0 {
                // SAFETY: the request names a part of this receiver's own mapping, of which nothing
                // is borrowed now.
                unsafe { self.socket.receive_mapped(&mut request) }
            } else {
                Ok(())
            };
            let is_over = match answer {
                Err(errno) if errno.kind() == io::ErrorKind::Interrupted => continue,
                // The peer has closed. The request still holds what was asked for, and nothing was
                // mapped.
                Err(errno) if errno.raw_os_error() == Some(libc::EIO) => {
                    request = MappedReceive::new(start, 0);
                    true
                }
                Err(errno) => return Err(Error::call("getsockopt(2) TCP_ZEROCOPY_RECEIVE")(errno)),
                Ok(()) => whole_bytes == 0,
            };
            let mapped = request.mapped_bytes();
            if mapped > 0 {
                self.add_piece(start, mapped);
                self.copies.mapped_bytes += mapped as u64;
                mapped_bytes += mapped;
                received_bytes += mapped;
            }
            let to_copy = request.bytes_to_copy().min(payload_bytes - received_bytes);
            if to_copy > 0 {
                self.copy(received_bytes, to_copy, payload_bytes)?;
                received_bytes += to_copy;
            } else if is_over || (mapped == 0 && waited) {
                // The end of the message, which is no whole page; or the end of the stream, which
                // `recv` tells.
                self.copy(received_bytes, left_bytes, payload_bytes)?;
                break;
            }
            waited = mapped == 0 && to_copy == 0;
            if waited {
                wait.poll(&self.socket)?;
            }
        }
        self.ring.mark_sent();
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`. The pieces lie in memory
        // of this receiver, which is borrowed; what is mapped changes with the next message alone.
        let pieces: &[IoSlice<'_>] =
            unsafe { slice::from_raw_parts(self.pieces.as_ptr().cast(), self.pieces.len()) };
        Received::Pieces { pieces, field_bytes: &self.ring.current().field_bytes }
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Layout;
    use crate::message::{Message, field_bytes};
    use crate::path::tests::script::{self, Script, Step, connected};
    use crate::path::{MessageSender, SendMessage};

    fn lengths(payload_bytes: usize) -> Vec<Vec<usize>> {
        vec![field_bytes(payload_bytes).to_vec()]
    }

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(MappedReceiver::new(socket, lengths(message.payload_bytes())).unwrap())
        });
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        script::close_inside_a_message(|socket, message| {
            Box::new(MappedReceiver::new(socket, lengths(message.payload_bytes())).unwrap())
        });
    }

    #[test]
    fn pages_that_are_mapped_and_bytes_that_are_copied_make_one_message() {
        let page = page_bytes();
        let payload_bytes = 3 * page + 100;
        let mut message = Message::new(payload_bytes, Layout::Heap);
        message.fill(1);
        message.stamp(1);
        let mut packed = vec![0; payload_bytes];
        message.pack(&mut packed);
        // By call: so many pages are mapped, and so many bytes have to be copied.
        for answers in [
            vec![(3, 0)],
            vec![(1, page), (1, 0)],
            vec![(0, page), (2, 0)],
            vec![(0, 0), (1, 0), (0, 0), (0, 7), (0, page)],
            vec![(0, 3 * page + 100)],
            vec![(2, page + 100)],
        ] {
            let script = Script::default();
            script.arrive(&packed);
            script.map(answers.clone());
            let mut receiver = MappedReceiver::new(script, lengths(payload_bytes)).unwrap();
            receiver.receive().unwrap();
            assert_eq!(receiver.last().verify(1, 1), Some(Ok(())), "{answers:?}");
            let mapped = answers.iter().map(|(pages, _)| pages * page).sum::<usize>() as u64;
            let Copies { mapped_bytes, kernel_to_user_bytes, .. } = receiver.copies();
            assert_eq!((mapped_bytes, mapped_bytes + kernel_to_user_bytes), (mapped, payload_bytes as u64));
        }
    }

    /// A receiver of one message of a page and `rest_bytes`, of which `arrived_bytes` are there;
    /// and what was sent.
    fn after_a_page(rest_bytes: usize, arrived_bytes: usize) -> (MappedReceiver<Script>, Script) {
        let payload_bytes = page_bytes() + rest_bytes;
        let mut message = Message::new(payload_bytes, Layout::Heap);
        message.fill(1);
        message.stamp(1);
        let mut packed = vec![0; payload_bytes];
        message.pack(&mut packed);
        let script = Script::default();
        script.arrive(&packed[..arrived_bytes]);
        (MappedReceiver::new(script.clone(), lengths(payload_bytes)).unwrap(), script)
    }

    #[test]
    fn after_a_mapped_page_a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        for split in 1..80 {
            for errno in [libc::EINTR, libc::EAGAIN] {
                let (mut receiver, script) = after_a_page(80, page_bytes() + 80);
                script.map([(1, 80)]);
                let (stop, one) = (Step::Errno(errno), Step::Move(1));
                script.expect([stop, Step::Move(split), stop, one, stop]);
                receiver.receive().unwrap();
                assert_eq!(receiver.last().verify(1, 1), Some(Ok(())), "cut at {split}");
                assert_eq!(receiver.copies().mapped_bytes, page_bytes() as u64);
            }
        }
    }

    #[test]
    fn a_call_that_maps_is_made_again_after_a_signal() {
        let (mut receiver, script) = after_a_page(page_bytes(), 2 * page_bytes());
        for _ in 0..2 {
            script.fail_to_map(libc::EINTR);
            script.map([(1, 0)]);
        }
        receiver.receive().unwrap();
        assert_eq!(receiver.last().verify(1, 1), Some(Ok(())));
        assert_eq!(receiver.copies().mapped_bytes, 2 * page_bytes() as u64);
    }

    #[test]
    fn where_nothing_more_can_be_mapped_the_rest_is_copied() {
        let (mut receiver, script) = after_a_page(page_bytes(), 2 * page_bytes());
        script.map([(1, 0)]);
        script.fail_to_map(libc::EIO);
        receiver.receive().unwrap();
        assert_eq!(receiver.last().verify(1, 1), Some(Ok(())));
        let Copies { mapped_bytes, kernel_to_user_bytes, .. } = receiver.copies();
        assert_eq!([mapped_bytes, kernel_to_user_bytes], [page_bytes() as u64; 2]);
    }

    #[test]
    fn a_call_that_maps_and_fails_is_named() {
        let (mut receiver, script) = after_a_page(0, page_bytes());
        script.fail_to_map(libc::EINVAL);
        let error = receiver.receive().unwrap_err();
        let Error::Call { call, errno } = &error else { panic!("{error}") };
        assert_eq!((*call, errno.raw_os_error()), ("getsockopt(2) TCP_ZEROCOPY_RECEIVE", Some(libc::EINVAL)));
    }

    #[test]
    fn a_peer_that_closes_after_a_mapped_page_is_an_error_that_says_where() {
        let page = page_bytes();
        for more_bytes in [0, 1, page - 1, page, page + 79] {
            for says_so in [false, true] {
                let (mut receiver, script) = after_a_page(page + 80, page + more_bytes);
                script.map([(1, more_bytes)]);
                if says_so {
                    script.fail_to_map(libc::EIO);
                }
                let error = receiver.receive().unwrap_err();
                let Error::Closed { after_bytes, of_bytes } = error else { panic!("{error}") };
                assert_eq!((after_bytes, of_bytes), (page + more_bytes, 2 * page + 80), "{says_so}");
            }
        }
    }

    #[test]
    fn what_comes_over_loopback_is_whole_whatever_was_mapped() {
        let payload_bytes = 64 << 10;
        let (server, client) = connected();
        let messages = vec![Message::new(payload_bytes, Layout::Heap)];
        let peer = std::thread::spawn(move || {
            let mut sender = MessageSender::two_copy(server, messages);
            for number in 0..100 {
                let mut message = sender.message().unwrap();
                message.fill(number);
                message.stamp(number);
                sender.send().unwrap();
            }
        });
        let mut receiver = MappedReceiver::new(client, lengths(payload_bytes)).unwrap();
        for number in 0..100 {
            receiver.receive().unwrap();
            assert_eq!(receiver.last().verify(number, number), Some(Ok(())));
        }
        let Copies { mapped_bytes, kernel_to_user_bytes, .. } = receiver.copies();
        assert_eq!(mapped_bytes + kernel_to_user_bytes, 100 * payload_bytes as u64);
        peer.join().unwrap();
    }
}
