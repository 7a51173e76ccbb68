//! Into how many packets and fragments the kernel cuts a message, worked out from how it is sent
//! and where it lies.
//!
//! A *packet* is what TCP hands to the link in one piece (an skb, up to 64 KiB: the link cuts it
//! into segments). A *fragment* is a piece of memory in it, which a card's driver maps one by one;
//! the headers, a piece more for each packet, are not counted. The rules are those of
//! `net/ipv4/tcp.c`, and what each path comes to:
//!
//! | path | a fragment is |
//! |---|---|
//! | copying ones | what lies in one block of the copies' allocator, of 32 KiB (`sk_page_frag_refill`) |
//! | `zero_copy`, `hybrid_zero` | what a field has of a page; of a huge page all that lies in a row (`zerocopy_fill_skb_from_iter`) |
//! | the same, `uring_fixed` | what a field has of a page, of a huge page too (`io_sg_from_iter`) |
//! | `splice`, `file` | what a field has of an ordinary page (`skb_splice_from_iter`) |
//!
//! A packet ends after as many whole segments as 64 KiB hold, and where it has all the fragments
//! that it may have. `splice` and `file` hand over 16 pieces at a time and say that more is to
//! come: what is no whole segment then waits for them, and what is leaves, as a runt.
//!
//! Worked out is what happens with an open window on a connection that has nothing else to send.
//! `docs/book/src/sink.md` says how that was held against counts.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::case::{Case, Engine, Layout, SendPath, Workload};

/// Fragments that a packet may have, where the kernel was not built with another
/// `CONFIG_MAX_SKB_FRAGS`.
pub const MAX_SKB_FRAGS: usize = 17;
/// Larger messages may have to wait for room in the socket's buffer, which cuts them where the
/// acknowledgements come.
pub const MOST_BYTES: usize = 1 << 20;

/// The largest packet, and what TCP sets aside of it for the headers (`GSO_LEGACY_MAX_SIZE`,
/// `MAX_TCP_HEADER`).
const MAX_PACKET_BYTES: usize = 65536;
const MAX_HEADER_BYTES: usize = 320;
/// The block that copies are put into, and how much of it must be left for the next
/// (`sk_page_frag_refill`).
const COPY_BLOCK_BYTES: usize = 32 << 10;
const LEAST_ROOM_BYTES: usize = 32;
/// Pieces that `splice_to_socket` sends with one call.
const PIECES_AT_ONCE: usize = 16;
/// What malloc keeps before a block, and the size from which a block has a mapping of its own.
const BLOCK_HEAD_BYTES: usize = 16;
const OWN_MAPPING_BYTES: usize = 128 << 10;

/// What decides it beside the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Payload of a segment: 1448 bytes over an MTU of 1500 with timestamps, as `TCP_MAXSEG` says.
    pub mss_bytes: usize,
    /// Fragments that a packet may have.
    pub max_skb_frags: usize,
    /// An ordinary page.
    pub page_bytes: usize,
    /// A huge page.
    pub huge_page_bytes: usize,
}

impl Wire {
    /// With pages of 4 KiB and 2 MiB, and packets of [`MAX_SKB_FRAGS`].
    pub const fn new(mss_bytes: usize) -> Self {
        Self { mss_bytes, max_skb_frags: MAX_SKB_FRAGS, page_bytes: 4096, huge_page_bytes: 2 << 20 }
    }

    /// Payload of the largest packet (`tcp_xmit_size_goal`).
    fn packet_bytes(&self) -> usize {
        let mss_bytes = self.mss_bytes.max(1);
        ((MAX_PACKET_BYTES - 1 - MAX_HEADER_BYTES) / mss_bytes).max(1) * mss_bytes
    }
}

/// Where a field lies: its address, or one that is as good for the pages that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the first byte.
    pub address: usize,
    /// How many there are.
    pub bytes: usize,
}

/// Packets and fragments of a message: the mean over the messages that are sent in turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fragments {
    /// Packets.
    pub packets_per_message: f64,
    /// Fragments, in all packets together.
    pub fragments_per_message: f64,
    /// Where the two are from.
    pub fragments_source: FragmentsSource,
}

/// Where packets and fragments are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Display, EnumString, Serialize, Deserialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum FragmentsSource {
    /// Counted by the kernel's tracepoint, in a burst that was not timed.
    Counted,
    /// Worked out from the layout.
    WorkedOut,
}

/// Packets and fragments of a case, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What they are; none where they can neither be counted nor worked out.
    #[serde(flatten)]
    pub fragments: Option<Fragments>,
    /// Why they were not counted, where they were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<String>,
}

/// Why packets and fragments cannot be worked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Packets of a stream hold what was not sent yet when the next message came.
    #[error("messages of a stream may share packets, by when the acknowledgements come")]
    Stream,
    /// See [`MOST_BYTES`].
    #[error(
        "a message of more than 1 MiB waits for room in the socket's buffer, which cuts it where that comes"
    )]
    Large,
}

/// Packets and fragments of a case's messages, lying where such messages are expected to lie: of
/// those that were made, [`worked_out`] takes the addresses.
///
/// # Errors
/// Why they cannot be worked out.
pub fn expected(case: &Case, wire: &Wire) -> Result<Fragments, Unknown> {
    worked_out(case, &expected_places(case, wire), wire)
}

/// Packets and fragments of `messages`, each the places of its fields, that are sent in turn as
/// `case` says.
///
/// # Errors
/// Why they cannot be worked out.
pub fn worked_out(case: &Case, messages: &[Vec<Place>], wire: &Wire) -> Result<Fragments, Unknown> {
    if case.workload == Workload::Stream {
        return Err(Unknown::Stream);
    }
    if messages.iter().any(|fields| bytes(fields) > MOST_BYTES) {
        return Err(Unknown::Large);
    }
    let mut queue = Queue::new(wire);
    for fields in messages {
        queue.send(case, fields);
    }
    let per_message = |count: usize| count as f64 / messages.len().max(1) as f64;
    Ok(Fragments {
        packets_per_message: per_message(queue.packets),
        fragments_per_message: per_message(queue.fragments),
        fragments_source: FragmentsSource::WorkedOut,
    })
}

fn bytes(fields: &[Place]) -> usize {
    fields.iter().map(|field| field.bytes).sum()
}

/// What TCP has to send: the packet that is being filled, and what has left.
struct Queue<'a> {
    wire: &'a Wire,
    /// By fragment of the packet that is being filled, how many bytes it has.
    open: VecDeque<usize>,
    open_bytes: usize,
    /// Where the last fragment ends: a number of what it lies in, and the byte in that.
    end: Option<(usize, usize)>,
    packets: usize,
    fragments: usize,
}

impl<'a> Queue<'a> {
    fn new(wire: &'a Wire) -> Self {
        Self { wire, open: VecDeque::new(), open_bytes: 0, end: None, packets: 0, fragments: 0 }
    }

    fn send(&mut self, case: &Case, fields: &[Place]) {
        let Wire { page_bytes, huge_page_bytes, .. } = *self.wire;
        let is_copied = |field: &&Place| field.bytes < case.copy_below_bytes;
        match case.path {
            SendPath::TwoCopy | SendPath::OneCopy | SendPath::Hybrid => self.copy(bytes(fields)),
            SendPath::HybridZero if fields.iter().all(|field| is_copied(&field)) => self.copy(bytes(fields)),
            SendPath::ZeroCopy | SendPath::HybridZero => {
                let folio_bytes = if case.layout == Layout::Huge { huge_page_bytes } else { page_bytes };
                // Small fields lie one after the other in a buffer of their own, from malloc.
                let mut copies = BLOCK_HEAD_BYTES;
                let mut place = |field: &Place| {
                    let is_copied = case.path == SendPath::HybridZero && is_copied(&field);
                    let address = if is_copied { copies } else { field.address };
                    copies += if is_copied { field.bytes } else { 0 };
                    Place { address, bytes: field.bytes }
                };
                for field in fields.iter().map(&mut place).collect::<Vec<_>>() {
                    if case.engine == Engine::UringFixed {
                        // A piece that is registered joins no other.
                        self.end = None;
                    }
                    self.gather(&pieces(field, folio_bytes), folio_bytes);
                }
            }
            SendPath::Splice => {
                let pieces = fields.iter().flat_map(|&field| pieces(field, page_bytes));
                self.splice(&pieces.collect::<Vec<_>>());
            }
            SendPath::File => {
                // The fields follow each other.
                let address = fields.first().map_or(0, |field| field.address);
                self.splice(&pieces(Place { address, bytes: bytes(fields) }, page_bytes));
            }
        }
        self.close();
        self.end = None;
    }

    /// Copies `bytes` into blocks of the allocator. What it had is free again when a message
    /// begins.
    fn copy(&mut self, mut bytes: usize) {
        let block_bytes = COPY_BLOCK_BYTES.max(self.wire.page_bytes);
        let (mut block, mut used) = (0, 0);
        while bytes > 0 {
            if block_bytes - used < LEAST_ROOM_BYTES {
                (block, used) = (block + 1, 0);
            }
            let room = self.wire.packet_bytes() - self.open_bytes;
            let part = bytes.min(block_bytes - used).min(room);
            self.add(block, used, part);
            used += part;
            bytes -= part;
        }
    }

    /// Adds pieces from where they lie, in folios of `folio_bytes`.
    fn gather(&mut self, pieces: &[Place], folio_bytes: usize) {
        for piece in pieces {
            self.add(piece.address / folio_bytes, piece.address % folio_bytes, piece.bytes);
        }
    }

    fn splice(&mut self, pieces: &[Place]) {
        let mut groups = pieces.chunks(PIECES_AT_ONCE).peekable();
        while let Some(group) = groups.next() {
            self.gather(group, self.wire.page_bytes);
            if groups.peek().is_some() {
                self.push_whole_segments();
            }
        }
    }

    /// Adds `bytes` that lie in `folio` from `start` on to the packet, and to the next ones when it
    /// is full.
    fn add(&mut self, folio: usize, mut start: usize, mut bytes: usize) {
        while bytes > 0 {
            if self.open_bytes == self.wire.packet_bytes() || self.open.len() == self.wire.max_skb_frags {
                self.close();
            }
            let part = bytes.min(self.wire.packet_bytes() - self.open_bytes);
            match self.open.back_mut() {
                Some(last) if self.end == Some((folio, start)) => *last += part,
                _ => self.open.push_back(part),
            }
            self.open_bytes += part;
            start += part;
            bytes -= part;
            self.end = Some((folio, start));
        }
        if self.open_bytes == self.wire.packet_bytes() {
            self.close();
        }
    }

    /// The packet leaves.
    fn close(&mut self) {
        self.packets += usize::from(!self.open.is_empty());
        self.fragments += self.open.len();
        self.open.clear();
        self.open_bytes = 0;
    }

    /// The whole segments of the packet leave, since more is to come (`MSG_MORE`); the rest waits
    /// for it.
    fn push_whole_segments(&mut self) {
        let mut leaving = self.open_bytes / self.wire.mss_bytes * self.wire.mss_bytes;
        self.packets += usize::from(leaving > 0);
        self.open_bytes -= leaving;
        while leaving > 0 {
            self.fragments += 1;
            let Some(first) = self.open.front_mut() else { break };
            let gone = leaving.min(*first);
            *first -= gone;
            leaving -= gone;
            if *first == 0 {
                self.open.pop_front();
            }
        }
    }
}

/// The parts of a field that lie in folios of `folio_bytes`.
fn pieces(field: Place, folio_bytes: usize) -> Vec<Place> {
    let end = field.address + field.bytes;
    let mut pieces = Vec::new();
    let mut address = field.address;
    while address < end {
        let next = (address / folio_bytes + 1) * folio_bytes;
        pieces.push(Place { address, bytes: next.min(end) - address });
        address = next;
    }
    pieces
}

/// Where the fields of a case's messages are expected to lie.
fn expected_places(case: &Case, wire: &Wire) -> Vec<Vec<Place>> {
    let mut turn = case.shape.messages(case.payload_bytes);
    // There are two messages at the least, the second of which may lie otherwise.
    if turn.len() == 1 {
        turn.push(turn[0].clone());
    }
    let is_file = case.path == SendPath::File;
    // Of one mapping that is registered, or that splice owns, malloc has no part.
    let is_malloc = case.engine != Engine::UringFixed && case.path != SendPath::Splice;
    let mut end: usize = 0;
    let mut place = |bytes: usize| {
        let address = match case.layout {
            Layout::Page | Layout::Huge => end.next_multiple_of(wire.page_bytes),
            Layout::Heap if is_file => end,
            // A mapping of its own; else behind the last block.
            Layout::Heap if is_malloc && bytes >= OWN_MAPPING_BYTES => {
                end.next_multiple_of(wire.page_bytes) + BLOCK_HEAD_BYTES
            }
            Layout::Heap => {
                (end + BLOCK_HEAD_BYTES / 2).next_multiple_of(BLOCK_HEAD_BYTES).max(BLOCK_HEAD_BYTES)
            }
        };
        end = address + bytes;
        Place { address, bytes }
    };
    turn.iter().map(|fields| fields.iter().map(|&bytes| place(bytes)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Series;

    /// Packets and fragments of a message.
    fn cut(way: &str, payload_bytes: usize, mss_bytes: usize) -> (f64, f64) {
        let case = case(way, payload_bytes);
        let found = expected(&case, &Wire::new(mss_bytes)).unwrap();
        (found.packets_per_message, found.fragments_per_message)
    }

    fn case(way: &str, payload_bytes: usize) -> Case {
        let mut words = way.split(' ');
        let mut word = || words.next().unwrap_or("syscall");
        let (path, layout) = (word().parse().unwrap(), word().parse().unwrap());
        let Series { path, layout, engine, .. } = Series::new(path, layout).by(word().parse().unwrap());
        Case { path, layout, payload_bytes, engine, ..Case::default() }
    }

    #[test]
    fn what_was_counted_at_the_tracepoint_is_what_is_worked_out() {
        // Linux 6.18, a veth pair with an MTU of 1500, without timestamps: net:netif_rx_entry.
        for (way, counted) in [
            ("two_copy heap", [(1, 1), (1, 1), (2, 3), (5, 12), (17, 48)]),
            ("one_copy huge", [(1, 1), (1, 1), (2, 3), (5, 12), (17, 48)]),
            ("zero_copy page", [(1, 8), (1, 8), (2, 17), (5, 68), (17, 272)]),
            ("zero_copy page uring", [(1, 8), (1, 8), (2, 17), (5, 68), (17, 272)]),
            ("zero_copy huge", [(1, 8), (1, 8), (2, 2), (5, 5), (17, 17)]),
            ("zero_copy heap uring_fixed", [(1, 9), (1, 12), (2, 24), (5, 73), (17, 273)]),
            ("zero_copy huge uring_fixed", [(1, 8), (1, 8), (2, 9), (5, 12), (17, 24)]),
            ("splice page", [(1, 8), (1, 8), (2, 17), (7, 70), (30, 285)]),
            ("splice huge", [(1, 8), (1, 8), (2, 17), (7, 70), (30, 285)]),
            ("file heap", [(1, 1), (1, 4), (2, 17), (7, 70), (30, 285)]),
        ] {
            for (size_kib, (packets, fragments)) in [4, 16, 64, 256, 1024].into_iter().zip(counted) {
                let worked_out = cut(way, size_kib << 10, 1460);
                assert_eq!(worked_out, (f64::from(packets), f64::from(fragments)), "{way} {size_kib} KiB");
            }
        }
        // With timestamps.
        for (way, payload_bytes, counted) in [
            ("two_copy heap", 256 << 10, (5.0, 12.0)),
            ("zero_copy page", 256 << 10, (5.0, 68.0)),
            ("splice page", 256 << 10, (5.0, 68.0)),
            ("zero_copy page", 1 << 20, (17.0, 272.0)),
        ] {
            assert_eq!(cut(way, payload_bytes, 1448), counted, "{way} {payload_bytes}");
        }
    }

    #[test]
    fn where_a_field_begins_decides_how_many_pages_it_covers() {
        let case = case("zero_copy heap", 16 << 10);
        let wire = Wire::new(1460);
        let at = |first: usize| {
            let fields = (0..8).map(|field| Place { address: first + field * 2064, bytes: 2048 });
            worked_out(&case, &[fields.collect()], &wire).unwrap().fragments_per_message
        };
        assert_eq!((at(16), at(2048)), (12.0, 11.0));
        assert_eq!(cut("zero_copy heap", 64 << 10, 1460), (2.0, 24.0));
    }

    #[test]
    fn fields_that_are_copied_take_no_fragment_each() {
        assert_eq!(cut("hybrid_zero page", 16 << 10, 1460), (1.0, 1.0), "all are below 4 KiB: one copy");
        assert_eq!(cut("hybrid_zero page", 64 << 10, 1460), (2.0, 17.0));
        let header = Case { shape: "header".parse().unwrap(), ..case("hybrid_zero page", 24 + 4096) };
        let fragments = expected(&header, &Wire::new(1460)).unwrap().fragments_per_message;
        assert!((fragments - 2.0).abs() < 1e-9, "{fragments}");
    }

    #[test]
    fn a_kernel_with_larger_packets_cuts_at_bytes_alone() {
        let heap = case("zero_copy heap", 64 << 10);
        let wire = Wire { max_skb_frags: 45, ..Wire::new(1448) };
        let found = expected(&heap, &wire).unwrap();
        let counts = (found.packets_per_message, found.fragments_per_message);
        assert_eq!(counts, (2.0, 25.0), "the page that the cut goes through is in both packets");
        assert_eq!(cut("two_copy heap", 64 << 10, 65483), (2.0, 3.0), "over loopback, a segment is a packet");
    }

    #[test]
    fn what_depends_on_acknowledgements_is_not_worked_out() {
        let stream = Case { workload: Workload::Stream, ..case("zero_copy page", 4096) };
        assert_eq!(expected(&stream, &Wire::new(1448)), Err(Unknown::Stream));
        let large = case("zero_copy page", MOST_BYTES + 1);
        assert_eq!(expected(&large, &Wire::new(1448)), Err(Unknown::Large));
    }

    #[test]
    fn no_byte_is_lost_between_packets() {
        for mss_bytes in [536, 1448, 1460, 8948, 65483] {
            let wire = Wire::new(mss_bytes);
            for payload_bytes in [8, 1000, 65_160, 65_161, 300_000] {
                for way in ["two_copy heap", "zero_copy heap", "zero_copy huge", "splice heap", "file heap"] {
                    let case = case(way, payload_bytes);
                    let found = expected(&case, &wire).unwrap();
                    let least = payload_bytes.div_ceil(wire.packet_bytes()) as f64;
                    assert!(found.packets_per_message >= least, "{case} {found:?}");
                    assert!(found.fragments_per_message >= found.packets_per_message, "{case} {found:?}");
                }
            }
        }
    }
}
