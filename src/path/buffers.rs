//! Memory that can be given to the kernel for as long as it needs it.

use std::io::IoSlice;
use std::sync::Arc;

use crate::message::Message;

/// Bytes to send, in one piece or more, which a [`SendQueue`](super::SendQueue) owns until the
/// kernel has let go of them.
///
/// It stands for vectors, boxes and shared slices of bytes, for arrays and pairs of these (a header
/// and a body), for a [`Message`], and with the feature `bytes` for `bytes::Bytes`.
///
/// # Safety
/// From the moment that a value is given to a queue until it is given back, and for good if it is
/// never dropped:
/// - [`pieces`](Self::pieces), [`piece`](Self::piece) and [`io_slices`](Self::io_slices) show the
///   same memory each time, however often the value is moved. What lies in the value itself, such
///   as `[u8; N]`, does not qualify;
/// - [`total_bytes`](Self::total_bytes) and [`io_slices`](Self::io_slices) agree with the pieces;
/// - the memory stays allocated, and *nobody* writes to it: not through another handle, another
///   mapping or a file either.
///
/// The kernel reads the memory after the call that sends it has returned. What lies there by then
/// goes out on the wire.
pub unsafe trait Buffers: Send + 'static {
    /// How many pieces there are.
    fn pieces(&self) -> usize;

    /// One piece, from 0, in the order in which they are sent.
    ///
    /// # Panics
    /// If `index` is not below [`pieces`](Self::pieces).
    fn piece(&self, index: usize) -> &[u8];

    /// How many bytes there are in all pieces.
    fn total_bytes(&self) -> usize {
        (0..self.pieces()).map(|index| self.piece(index).len()).sum()
    }

    /// The pieces as `sendmsg(2)` takes them, where they are kept that way already.
    fn io_slices(&self) -> Option<&[IoSlice<'_>]> {
        None
    }
}

/// For what derefs to one slice of bytes that lies elsewhere.
macro_rules! one_piece {
    ($($(#[$feature:meta])? $kind:ty, $why:literal;)+) => {$(
        $(#[$feature])?
        #[doc = $why]
        // SAFETY: as the line above says.
        unsafe impl Buffers for $kind {
            fn pieces(&self) -> usize {
                1
            }

            fn piece(&self, index: usize) -> &[u8] {
                assert_eq!(index, 0, "there is one piece");
                self
            }
        }
    )+};
}

one_piece! {
    Vec<u8>, "Its owner alone can write to the bytes, and they stay where they are when it is moved.";
    Box<[u8]>, "Its owner alone can write to the bytes, and they stay where they are when it is moved.";
    Arc<[u8]>, "Nobody can write to shared bytes while an owner, here the queue, is left.";
    &'static [u8], "Nobody can write to bytes that are borrowed for good.";
    #[cfg(feature = "bytes")]
    bytes::Bytes, "Nobody can write to the bytes of a handle that is left, and they stay where they are.";
}

/// Several buffers, one after the other.
// SAFETY: each of them keeps the promise for its own pieces.
unsafe impl<B: Buffers, const N: usize> Buffers for [B; N] {
    fn pieces(&self) -> usize {
        self.iter().map(Buffers::pieces).sum()
    }

    fn piece(&self, mut index: usize) -> &[u8] {
        for buffers in self {
            let pieces = buffers.pieces();
            if index < pieces {
                return buffers.piece(index);
            }
            index -= pieces;
        }
        panic!("there are so many pieces")
    }
}

/// Two buffers of different kinds: a header and a body.
// SAFETY: each of them keeps the promise for its own pieces.
unsafe impl<A: Buffers, B: Buffers> Buffers for (A, B) {
    fn pieces(&self) -> usize {
        self.0.pieces() + self.1.pieces()
    }

    fn piece(&self, index: usize) -> &[u8] {
        match index.checked_sub(self.0.pieces()) {
            None => self.0.piece(index),
            Some(index) => self.1.piece(index),
        }
    }
}

/// A piece for each field.
// SAFETY: a message owns its fields, lends them for writing only where it is borrowed for that
// itself, and their memory is none of its own. That of a file in memory leaves this crate for no
// one.
unsafe impl Buffers for Message {
    fn pieces(&self) -> usize {
        self.fields()
    }

    fn piece(&self, index: usize) -> &[u8] {
        self.field(index)
    }

    fn total_bytes(&self) -> usize {
        self.payload_bytes()
    }

    fn io_slices(&self) -> Option<&[IoSlice<'_>]> {
        Some(Message::io_slices(self))
    }
}

/// The same, behind a pointer.
// SAFETY: what is boxed keeps the promise, and moves less than before.
unsafe impl<B: Buffers> Buffers for Box<B> {
    fn pieces(&self) -> usize {
        (**self).pieces()
    }

    fn piece(&self, index: usize) -> &[u8] {
        (**self).piece(index)
    }

    fn total_bytes(&self) -> usize {
        (**self).total_bytes()
    }

    fn io_slices(&self) -> Option<&[IoSlice<'_>]> {
        (**self).io_slices()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Layout;

    #[test]
    fn arrays_and_pairs_show_their_pieces_in_order() {
        let body: Arc<[u8]> = Arc::from(&b"body"[..]);
        let buffers = (b"head".to_vec(), [Arc::clone(&body), body]);
        let shown: Vec<&[u8]> = (0..buffers.pieces()).map(|index| buffers.piece(index)).collect();
        assert_eq!(shown, [b"head", b"body", b"body"]);
        assert_eq!(buffers.total_bytes(), 12);
        assert!(std::panic::catch_unwind(|| buffers.piece(3).len()).is_err());
    }

    #[test]
    fn a_message_shows_its_fields() {
        let message = Message::with_field_bytes(&[3, 0, 5], Layout::Heap);
        assert_eq!((message.pieces(), message.total_bytes(), message.piece(2).len()), (3, 8, 5));
    }
}
