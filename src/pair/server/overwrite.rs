//! The proof of what zero-copy shares: messages that are overwritten right after they were sent.

use std::net::TcpStream;

use crate::case::{Case, Receiver};
use crate::environment::Effective;
use crate::error::Result;
use crate::pair::{Burst, Extent, MARKER_BYTES, Mode};
use crate::path::{Observe, send_all};

/// The largest message that is sent for it, and the most on all pairs together.
const OVERWRITTEN_BYTES: usize = 256 << 10;
const ALL_BYTES: usize = 16 << 20;

/// A few messages.
pub(super) const BURST: Burst =
    Burst { lead_in_messages: 0, extent: Extent::Messages(4), mode: Mode::Overwrite };

/// Whether the client can find out what a message of `case` holds once it has been overwritten: it
/// keeps the bytes, and all of the message fits the sockets' buffers.
pub(super) fn is_possible(case: &Case, effective: &Effective) -> bool {
    // Of the buffers, as the kernel reports them, half is its own bookkeeping, and half of the rest
    // is kept free.
    let Effective { server_socket, client_socket, .. } = effective;
    let room_bytes = server_socket.send_buffer_bytes.min(client_socket.recv_buffer_bytes) / 4;
    let Case { payload_bytes, threads, receiver, shape, .. } = *case;
    // Of a trace: its largest message, which the mean says nothing of.
    let largest_bytes = shape.largest_bytes(payload_bytes);
    let fits = largest_bytes <= room_bytes.min(OVERWRITTEN_BYTES) && largest_bytes * threads <= ALL_BYTES;
    fits && !matches!(receiver, Receiver::Discard | Receiver::Sink)
}

/// Overwrites the message that was sent just now, and tells the client that it may read it.
pub(super) fn overwrite(connection: &TcpStream, sender: &mut dyn Observe) -> Result<()> {
    sender.submit()?;
    let was_free = sender.overwrite()?;
    Ok(send_all(connection, &[u8::from(was_free); MARKER_BYTES])?)
}

/// When the client has read it: puts back what was overwritten.
pub(super) fn put_back(sender: &mut dyn Observe) -> Result<()> {
    sender.flush()?;
    sender.overwrite()?;
    Ok(())
}
