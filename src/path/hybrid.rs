//! `hybrid`: small fields are copied into one buffer, larger ones are sent from where they lie. What stands between
//! `two_copy`, which copies every field, and `one_copy`, which copies none: a header of 24 bytes before a body of 512 KiB
//! is not worth an iovec of its own, and the body is not worth a copy.
//!
//! Fields that follow each other and are copied share an iovec. From which size on a field is worth one of its own depends
//! on the machine; `sendpath tune` finds it. Where every field is small this is `two_copy`, and where none is, `one_copy`.
//!
//! With `MSG_ZEROCOPY` ([`ZeroCopySender::with_copy_below`](super::ZeroCopySender::with_copy_below), path `hybrid_zero`)
//! the kernel reads the copies as long as the large fields. So each message has a buffer of its own for them, and a message
//! without a large field is sent without the flag.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{BufferReceiver, HybridSender, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let message = Message::with_field_bytes(&[24, 65536], Layout::Heap);
//! let mut sender = HybridSender::new(server, vec![message], 4096); // fields of fewer than 4096 bytes are copied
//! sender.message()?.field_mut(0).fill(b'h');
//! sender.send()?;
//! assert_eq!(sender.copies().user_to_user_bytes, 24, "the header alone");
//!
//! let mut receiver = BufferReceiver::new(client, vec![vec![24, 65536]]);
//! receiver.receive()?;
//! assert_eq!(receiver.bytes()[..24], [b'h'; 24]);
//! # Ok(()) }
//! ```

use std::io::IoSlice;
use std::{mem, slice};

use super::ring::Ring;
use super::{Copies, SendMessage, Socket, ZeroCopyCounts, send_all_vectored};
use crate::error::Result;
use crate::message::{Message, Rest, invert};

/// How the messages of a ring are sent with their small fields copied.
#[derive(Debug)]
pub(super) struct Gather {
    /// By place in the ring.
    messages: Vec<Gathered>,
    /// The copies of the small fields: one buffer for each message, or one for all.
    buffers: Vec<Box<[u8]>>,
}

/// One message, as it is sent.
#[derive(Debug)]
struct Gathered {
    /// The small fields, each with where its copy begins.
    copied: Vec<(usize, usize)>,
    copied_bytes: usize,
    /// Copies and large fields, in the order of the fields.
    iovecs: Box<[libc::iovec]>,
    has_large: bool,
}

// SAFETY: the iovecs point to the buffers, which are owned beside them, and to the fields of the ring's messages, which are
// owned beside this; they are read only together with these.
unsafe impl Send for Gather {}

impl Gather {
    /// Fields of fewer than `copy_below_bytes` are copied. `shared`: one buffer serves all messages.
    pub(super) fn new(messages: &[Message], copy_below_bytes: usize, shared: bool) -> Self {
        let small_bytes = |message: &Message| -> usize {
            let lengths = message.iovecs().iter().map(|iovec| iovec.iov_len);
            lengths.filter(|&bytes| bytes < copy_below_bytes).sum()
        };
        let mut buffers: Vec<Box<[u8]>> = Vec::new();
        if shared {
            buffers.push(vec![0; messages.iter().map(small_bytes).max().unwrap_or_default()].into());
        } else {
            buffers.extend(messages.iter().map(|message| vec![0; small_bytes(message)].into()));
        }
        let mut gathered = Vec::new();
        for (place, message) in messages.iter().enumerate() {
            let buffer = &mut buffers[if shared { 0 } else { place }];
            gathered.push(Gathered::new(message, copy_below_bytes, buffer));
        }
        Self { messages: gathered, buffers }
    }

    /// Copies the small fields of the message at `place`; returns how many bytes these are.
    pub(super) fn copy(&mut self, place: usize, message: &Message) -> usize {
        let shared = self.buffers.len() == 1;
        let buffer = &mut self.buffers[if shared { 0 } else { place }];
        let gathered = &self.messages[place];
        for &(field, at) in &gathered.copied {
            let field = message.field(field);
            buffer[at..at + field.len()].copy_from_slice(field);
        }
        gathered.copied_bytes
    }

    /// Whether the message at `place` has a field that is not copied.
    pub(super) fn has_large(&self, place: usize) -> bool {
        self.messages[place].has_large
    }

    /// What is sent of the message at `place`.
    pub(super) fn io_slices<'a>(&'a self, place: usize, _message: &'a Message) -> &'a [IoSlice<'a>] {
        let iovecs = &self.messages[place].iovecs;
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`. Each points into a buffer or a field, which are
        // initialized, and borrowed as long as this and the message are.
        unsafe { slice::from_raw_parts(iovecs.as_ptr().cast(), iovecs.len()) }
    }

    /// As [`io_slices`](Self::io_slices), without the first `gone_bytes`.
    pub(super) fn rest<'a>(&'a self, place: usize, message: &'a Message, gone_bytes: usize) -> Rest<'a> {
        Rest::of_slices(self.io_slices(place, message), gone_bytes)
    }

    /// Inverts every bit of the copies of the message at `place`.
    pub(super) fn invert(&mut self, place: usize) {
        let shared = self.buffers.len() == 1;
        invert(&mut self.buffers[if shared { 0 } else { place }]);
    }

    /// Leaks the copies' memory.
    pub(super) fn leak(&mut self) {
        mem::forget(mem::take(&mut self.buffers));
    }
}

impl Gathered {
    fn new(message: &Message, copy_below_bytes: usize, buffer: &mut [u8]) -> Self {
        let (mut copied, mut at) = (Vec::new(), 0);
        let mut iovecs: Vec<libc::iovec> = Vec::new();
        let mut has_large = false;
        // Whether the last iovec is one of copies.
        let mut joins = false;
        for (field, &iovec) in message.iovecs().iter().enumerate().filter(|(_, iovec)| iovec.iov_len > 0) {
            if iovec.iov_len >= copy_below_bytes {
                iovecs.push(iovec);
                (has_large, joins) = (true, false);
                continue;
            }
            copied.push((field, at));
            match iovecs.last_mut() {
                Some(last) if joins => last.iov_len += iovec.iov_len,
                _ => iovecs
                    .push(libc::iovec { iov_base: buffer[at..].as_mut_ptr().cast(), iov_len: iovec.iov_len }),
            }
            at += iovec.iov_len;
            joins = true;
        }
        Self { copied, copied_bytes: at, iovecs: iovecs.into(), has_large }
    }
}

/// Copies the small fields, and sends the others from where they lie.
#[derive(Debug)]
pub struct HybridSender<S> {
    socket: S,
    ring: Ring,
    gather: Gather,
    copies: Copies,
}

impl<S: Socket> HybridSender<S> {
    /// A sender of `messages`, in turn, which copies fields of fewer than `copy_below_bytes`.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>, copy_below_bytes: usize) -> Self {
        let gather = Gather::new(&messages, copy_below_bytes, true);
        Self { socket, ring: Ring::new(messages), gather, copies: Copies::default() }
    }
}

impl<S: Socket + Send> SendMessage for HybridSender<S> {
    fn message(&mut self) -> Result<&mut Message> {
        self.ring.advance();
        Ok(self.ring.current_mut())
    }

    fn send(&mut self) -> Result<()> {
        let (place, message) = (self.ring.place(), self.ring.current());
        self.copies.user_to_user_bytes += self.gather.copy(place, message) as u64;
        send_all_vectored(&self.socket, self.gather.io_slices(place, message), message.payload_bytes())?;
        self.copies.user_to_kernel_bytes += message.payload_bytes() as u64;
        self.ring.mark_sent();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, write: &mut dyn FnMut(&mut Message)) -> Result<()> {
        self.ring.messages_mut().iter_mut().for_each(write);
        Ok(())
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.gather.invert(self.ring.place());
        self.ring.current_mut().invert();
        Ok(true)
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        None
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Layout;
    use crate::path::script::{self, Script};

    #[test]
    fn a_short_send_at_any_byte_goes_on_where_it_stopped() {
        // The fields have ten bytes: all are copied, none is.
        for copy_below_bytes in [11, 10] {
            script::interrupt_at_every_byte(|socket, messages| {
                Box::new(HybridSender::new(socket, messages, copy_below_bytes))
            });
        }
    }

    #[test]
    fn messages_are_sent_in_the_order_of_the_ring() {
        script::send_in_turn(|socket, messages| Box::new(HybridSender::new(socket, messages, 11)));
    }

    #[test]
    fn a_socket_that_never_gets_ready_is_given_up() {
        script::give_up_waiting(|socket, messages| Box::new(HybridSender::new(socket, messages, 4096)));
    }

    #[test]
    fn small_fields_that_follow_each_other_are_copied_into_one_piece() {
        let shape = [5, 7, 100, 3, 0, 200, 100, 9];
        for shared in [true, false] {
            let mut message = Message::with_field_bytes(&shape, Layout::Heap);
            message.fill(1);
            let mut packed = vec![0; message.payload_bytes()];
            message.pack(&mut packed);
            let messages = [message];
            let mut gather = Gather::new(&messages, 100, shared);
            assert_eq!(gather.copy(0, &messages[0]), 5 + 7 + 3 + 9);
            let slices = gather.io_slices(0, &messages[0]);
            assert_eq!(slices.iter().map(|slice| slice.len()).collect::<Vec<_>>(), [12, 100, 3, 200, 100, 9]);
            assert_eq!(slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(), packed);
        }
    }

    #[test]
    fn what_is_copied_is_counted() {
        let message = Message::with_field_bytes(&[24, 1000], Layout::Heap);
        let mut sender = HybridSender::new(Script::default(), vec![message], 512);
        sender.send().unwrap();
        assert_eq!((sender.copies().user_to_user_bytes, sender.copies().user_to_kernel_bytes), (24, 1024));
    }
}
