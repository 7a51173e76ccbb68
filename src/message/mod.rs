//! A structured message: fields, each in a place of its own, that travel as one.
//!
//! ```
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//!
//! // A header, a key and a body.
//! let mut message = Message::with_field_bytes(&[16, 32, 4096], Layout::Heap);
//! message.field_mut(0).copy_from_slice(b"sendpath/v1 demo");
//! assert_eq!(message.payload_bytes(), 4144);
//! ```

mod memory;

use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::{ptr, slice};

use crate::case::Layout;
#[cfg(feature = "cli")]
use crate::sample::Seen;

pub use crate::case::MAX_FIELDS;
pub(crate) use memory::Field;
#[cfg(feature = "cli")]
pub(crate) use memory::on_huge_pages;
pub use memory::{Arena, Pages, huge_page_bytes};

/// Fields of a message of which nothing else is said.
pub const FIELDS: usize = 8;

/// Fields, each in a place of its own.
#[derive(Debug)]
pub struct Message {
    fields: Box<[Field]>,
    /// The same, as the system calls take them.
    iovecs: Box<[libc::iovec]>,
    payload_bytes: usize,
}

// SAFETY: the iovecs point to the message's own fields, and are read only through it.
unsafe impl Send for Message {}
// SAFETY: a shared message is only read.
unsafe impl Sync for Message {}

/// The byte at which a received message departs from what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {sequence}: field {field}, byte {offset} is {found:#04x}, not {expected:#04x}")]
pub struct Mismatch {
    /// The message's place in its stream.
    pub sequence: u64,
    /// The field, from 0.
    pub field: usize,
    /// The byte within the field.
    pub offset: usize,
    /// What was sent.
    pub expected: u8,
    /// What arrived.
    pub found: u8,
}

impl Message {
    /// A zeroed message of `payload_bytes`: an eighth in each of eight fields, the remainder in the
    /// last.
    #[must_use]
    pub fn new(payload_bytes: usize, layout: Layout) -> Self {
        Self::with_field_bytes(&field_bytes(payload_bytes), layout)
    }

    /// A zeroed message whose fields have the given lengths, in bytes, each in an allocation of its
    /// own. Empty fields are allowed. Huge pages are shared by many messages
    /// ([`in_arena`](Self::in_arena)): of one by itself, a field with [`Layout::Huge`] lies as with
    /// [`Layout::Page`].
    ///
    /// # Panics
    /// If there are more than [`MAX_FIELDS`].
    #[must_use]
    pub fn with_field_bytes(field_bytes: &[usize], layout: Layout) -> Self {
        Self::of(field_bytes.iter().map(|&bytes| Field::zeroed(bytes, layout)).collect())
    }

    /// Zeroed messages whose fields have the given lengths, in bytes, all in one mapping, which
    /// lives as long as the last of them.
    ///
    /// # Errors
    /// What `mmap(2)` said; for [`Layout::Huge`] also that there are too few huge pages.
    ///
    /// # Panics
    /// If one has more than [`MAX_FIELDS`].
    pub fn in_arena(field_bytes: &[Vec<usize>], layout: Layout) -> io::Result<(Vec<Self>, Arc<Arena>)> {
        let (arena, fields) = Arena::hold(field_bytes, layout, false)?;
        Ok((fields.into_iter().map(Self::of).collect(), arena))
    }

    /// Zeroed messages in a file that lies in memory (`memfd_create(2)`): the fields of each follow
    /// each other without a gap. With each message comes the byte of the file at which it begins.
    ///
    /// # Errors
    /// What the call said.
    ///
    /// # Panics
    /// If one has more than [`MAX_FIELDS`].
    pub(crate) fn in_file(field_bytes: &[Vec<usize>]) -> io::Result<(Vec<Self>, Vec<u64>, Arc<Arena>)> {
        let (arena, fields) = Arena::hold(field_bytes, Layout::Heap, true)?;
        let start = |fields: &Vec<Field>| fields.first().map_or(0, |field| arena.offset_bytes(field)) as u64;
        let offsets_bytes = fields.iter().map(start).collect();
        Ok((fields.into_iter().map(Self::of).collect(), offsets_bytes, arena))
    }

    fn of(fields: Vec<Field>) -> Self {
        assert!(fields.len() <= MAX_FIELDS, "a message has at most {MAX_FIELDS} fields");
        let iovecs: Box<[libc::iovec]> = fields.iter().map(Field::iovec).collect();
        Self { payload_bytes: iovecs.iter().map(|iovec| iovec.iov_len).sum(), fields: fields.into(), iovecs }
    }

    /// Bytes in all fields together.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// What the pages are that its fields lie on.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.fields.first().map(Field::pages).unwrap_or_default()
    }

    /// How many fields there are.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields.len()
    }

    /// One field's bytes.
    ///
    /// # Panics
    /// If `index` is not below [`fields`](Self::fields).
    #[must_use]
    pub fn field(&self, index: usize) -> &[u8] {
        self.fields[index].bytes()
    }

    /// One field's bytes, to write.
    ///
    /// # Panics
    /// If `index` is not below [`fields`](Self::fields).
    pub fn field_mut(&mut self, index: usize) -> &mut [u8] {
        self.fields[index].bytes_mut()
    }

    /// The fields as `sendmsg(2)` takes them.
    #[must_use]
    pub fn io_slices(&self) -> &[IoSlice<'_>] {
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`. Each points to a field,
        // which is initialized and borrowed as long as the message is.
        unsafe { slice::from_raw_parts(self.iovecs.as_ptr().cast(), self.iovecs.len()) }
    }

    /// The fields as `recvmsg(2)` takes them.
    ///
    /// # Safety
    /// The slices go on pointing to where they point: no other is put in their place, and none is
    /// shortened ([`IoSliceMut::advance`]). They are the message's own list, which it reads later.
    pub(crate) unsafe fn io_slices_mut(&mut self) -> &mut [IoSliceMut<'_>] {
        // SAFETY: as above, of `IoSliceMut`; and the message is borrowed for writing.
        unsafe { slice::from_raw_parts_mut(self.iovecs.as_mut_ptr().cast(), self.iovecs.len()) }
    }

    /// The fields for a caller that keeps the promises itself.
    pub(crate) fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs
    }

    /// The fields without their first `gone_bytes`.
    pub(crate) fn rest(&self, gone_bytes: usize) -> Rest<'_> {
        Rest::of(&self.iovecs, gone_bytes)
    }

    /// As [`rest`](Self::rest), to write.
    pub(crate) fn rest_mut(&mut self, gone_bytes: usize) -> RestMut<'_> {
        RestMut(Rest::of(&self.iovecs, gone_bytes))
    }

    /// Copies the fields, one after the other, into `packed`: the first of the two copies.
    ///
    /// # Panics
    /// If `packed` is not [`payload_bytes`](Self::payload_bytes) long.
    pub fn pack(&self, packed: &mut [u8]) {
        assert_eq!(packed.len(), self.payload_bytes, "the pack buffer has the message's size");
        let mut rest = packed;
        for field in &self.fields {
            let (head, tail) = rest.split_at_mut(field.bytes().len());
            head.copy_from_slice(field.bytes());
            rest = tail;
        }
    }

    /// Copies `packed` out into the fields: what [`pack`](Self::pack) did, undone.
    ///
    /// # Panics
    /// If `packed` is not [`payload_bytes`](Self::payload_bytes) long.
    pub fn unpack(&mut self, packed: &[u8]) {
        assert_eq!(packed.len(), self.payload_bytes, "the pack buffer has the message's size");
        let mut rest = packed;
        for field in &mut self.fields {
            let (head, tail) = rest.split_at(field.bytes().len());
            field.bytes_mut().copy_from_slice(head);
            rest = tail;
        }
    }

    /// Writes every byte of every field with a pattern that depends on `seed`, field and place.
    pub fn fill(&mut self, seed: u64) {
        for (index, field) in self.fields.iter_mut().enumerate() {
            for (chunk, word) in field.bytes_mut().chunks_mut(8).zip(pattern(seed, index)) {
                chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
            }
        }
    }

    /// Writes `sequence` over the first eight bytes of every field (its low bytes, where a field is
    /// shorter). Cheap enough to do for every message inside a timed burst.
    pub fn stamp(&mut self, sequence: u64) {
        let stamp = sequence.to_le_bytes();
        for field in &mut self.fields {
            let bytes = field.bytes_mut();
            if let Some(head) = bytes.first_chunk_mut() {
                *head = stamp;
            } else {
                let short = bytes.len();
                bytes.copy_from_slice(&stamp[..short]);
            }
        }
    }

    /// Inverts every bit, so that no byte is what it was. A second time, it undoes the first.
    pub(crate) fn invert(&mut self) {
        self.fields.iter_mut().for_each(|field| invert(field.bytes_mut()));
    }

    /// Compares every byte with what `fill(seed)` and then `stamp(sequence)` write.
    ///
    /// # Errors
    /// The first byte that differs.
    pub fn verify(&self, seed: u64, sequence: u64) -> Result<(), Mismatch> {
        Received::Fields(self).verify(seed, sequence).unwrap_or(Ok(()))
    }
}

/// A message to write, lent by the sender that owns it: its bytes may be changed, and no other
/// message may be put in its place. What a sender has noted of its messages (where their fields
/// lie, what is registered) so stays true.
///
/// It reads as the [`Message`] that it is.
#[derive(Debug)]
pub struct MessageMut<'a>(&'a mut Message);

impl<'a> MessageMut<'a> {
    /// Lends `message`.
    pub fn new(message: &'a mut Message) -> Self {
        Self(message)
    }

    /// As [`Message::field_mut`].
    ///
    /// # Panics
    /// If `index` is not below [`fields`](Message::fields).
    pub fn field_mut(&mut self, index: usize) -> &mut [u8] {
        self.0.field_mut(index)
    }

    /// As [`Message::unpack`].
    ///
    /// # Panics
    /// If `packed` is not [`payload_bytes`](Message::payload_bytes) long.
    pub fn unpack(&mut self, packed: &[u8]) {
        self.0.unpack(packed);
    }

    /// As [`Message::fill`].
    pub fn fill(&mut self, seed: u64) {
        self.0.fill(seed);
    }

    /// As [`Message::stamp`].
    pub fn stamp(&mut self, sequence: u64) {
        self.0.stamp(sequence);
    }
}

impl Deref for MessageMut<'_> {
    type Target = Message;

    fn deref(&self) -> &Message {
        self.0
    }
}

/// What is left of some iovecs after their first bytes. Made anew for each call, and without an
/// allocation.
pub(crate) struct Rest<'a> {
    iovecs: [libc::iovec; MAX_FIELDS + 1],
    count: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Rest<'a> {
    /// `iovecs` point to bytes that are borrowed as they are themselves.
    pub(crate) fn of(iovecs: &'a [libc::iovec], mut gone_bytes: usize) -> Self {
        let mut rest = Self {
            iovecs: [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_FIELDS + 1],
            count: 0,
            bytes: PhantomData,
        };
        for &libc::iovec { iov_base, iov_len } in iovecs {
            // What has no room here is left to the next call, as after a short one.
            if rest.count == rest.iovecs.len() {
                break;
            }
            let gone = gone_bytes.min(iov_len);
            gone_bytes -= gone;
            if gone < iov_len {
                let iov_base = iov_base.wrapping_byte_add(gone);
                rest.iovecs[rest.count] = libc::iovec { iov_base, iov_len: iov_len - gone };
                rest.count += 1;
            }
        }
        rest
    }

    pub(crate) fn of_slices(slices: &'a [IoSlice<'_>], gone_bytes: usize) -> Self {
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`.
        Self::of(unsafe { slice::from_raw_parts(slices.as_ptr().cast(), slices.len()) }, gone_bytes)
    }

    pub(crate) fn iovecs(&self) -> &[libc::iovec] {
        &self.iovecs[..self.count]
    }

    pub(crate) fn io_slices(&self) -> &[IoSlice<'_>] {
        // SAFETY: as of `Message::io_slices`.
        unsafe { slice::from_raw_parts(self.iovecs.as_ptr().cast(), self.count) }
    }
}

/// A [`Rest`] of bytes that are borrowed for writing.
pub(crate) struct RestMut<'a>(Rest<'a>);

impl RestMut<'_> {
    pub(crate) fn io_slices_mut(&mut self) -> &mut [IoSliceMut<'_>] {
        // SAFETY: as of `Message::io_slices_mut`.
        unsafe { slice::from_raw_parts_mut(self.0.iovecs.as_mut_ptr().cast(), self.0.count) }
    }
}

/// The lengths of the fields that share `payload_bytes`: an eighth each, the remainder in the last.
#[must_use]
pub fn field_bytes(payload_bytes: usize) -> [usize; FIELDS] {
    let mut field_bytes = [payload_bytes / FIELDS; FIELDS];
    field_bytes[FIELDS - 1] += payload_bytes % FIELDS;
    field_bytes
}

/// What a receiver has of the message that it received last.
#[derive(Clone, Copy, Debug)]
pub enum Received<'a> {
    /// The message, field by field.
    Fields(&'a Message),
    /// The fields one after the other, as they came.
    Packed {
        /// The bytes of all fields.
        bytes: &'a [u8],
        /// How many of them are whose.
        field_bytes: &'a [usize],
    },
    /// As `Packed`, in the pieces in which they came.
    Pieces {
        /// The bytes of all fields: a piece after the other.
        pieces: &'a [IoSlice<'a>],
        /// How many of them are whose.
        field_bytes: &'a [usize],
    },
    /// Nothing: the kernel discarded the bytes.
    Discarded,
}

impl Received<'_> {
    /// Compares every byte with what [`Message::fill`] and then [`Message::stamp`] write. None
    /// where the bytes were discarded.
    ///
    /// # Panics
    /// If the packed bytes are fewer than the lengths of the fields say.
    #[must_use]
    pub fn verify(&self, seed: u64, sequence: u64) -> Option<Result<(), Mismatch>> {
        self.look(|fields| {
            let mut fields = fields.iter().enumerate();
            fields.try_for_each(|(index, field)| verify_field(index, field, seed, sequence))
        })
    }

    /// Counts the bytes that are what [`Message::fill`] and then [`Message::stamp`] write, and
    /// those that are the inverse of it. None where the bytes were discarded.
    ///
    /// # Errors
    /// The first byte that is neither.
    #[cfg(feature = "cli")]
    pub(crate) fn seen(&self, seed: u64, sequence: u64) -> Option<Result<Seen, Mismatch>> {
        self.look(|fields| {
            let mut found = Seen::default();
            for (field, bytes) in fields.iter().enumerate() {
                let words = std::iter::once(sequence).chain(pattern(seed, field).skip(1));
                let words_bytes = words.flat_map(u64::to_le_bytes);
                for (offset, (&byte, expected)) in bytes.iter().zip(words_bytes).enumerate() {
                    match byte ^ expected {
                        0 => found.old_bytes += 1,
                        0xff => found.new_bytes += 1,
                        _ => return Err(Mismatch { sequence, field, offset, expected, found: byte }),
                    }
                }
            }
            Ok(found)
        })
    }

    /// Looks at the bytes of each field; none where they were discarded.
    ///
    /// # Panics
    /// If there are fewer bytes than the lengths of the fields say.
    fn look<T>(&self, look: impl FnOnce(&[&[u8]]) -> T) -> Option<T> {
        match *self {
            Self::Fields(message) => Some(look(&message.fields.iter().map(Field::bytes).collect::<Vec<_>>())),
            Self::Packed { bytes, field_bytes } => {
                let mut rest = bytes;
                let field = |&bytes: &usize| {
                    let (field, tail) = rest.split_at(bytes);
                    rest = tail;
                    field
                };
                Some(look(&field_bytes.iter().map(field).collect::<Vec<_>>()))
            }
            Self::Pieces { pieces, field_bytes } => {
                let bytes = pieces.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<u8>>();
                Received::Packed { bytes: &bytes, field_bytes }.look(look)
            }
            Self::Discarded => None,
        }
    }
}

/// Inverts every bit.
pub(crate) fn invert(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = !*byte;
    }
}

/// Compares the bytes of one field with what [`Message::fill`] and then [`Message::stamp`] write.
fn verify_field(index: usize, bytes: &[u8], seed: u64, sequence: u64) -> Result<(), Mismatch> {
    let words = || std::iter::once(sequence).chain(pattern(seed, index).skip(1));
    // Whole words without a branch between them; only a field that differs is looked through.
    let (whole, rest) = bytes.as_chunks::<8>();
    let difference =
        whole.iter().zip(words()).fold(0, |sum, (chunk, word)| sum | (u64::from_le_bytes(*chunk) ^ word));
    let last = words().nth(whole.len()).unwrap_or_default().to_le_bytes();
    if difference == 0 && *rest == last[..rest.len()] {
        return Ok(());
    }
    for (place, (chunk, word)) in bytes.chunks(8).zip(words()).enumerate() {
        let expected = word.to_le_bytes();
        if chunk != &expected[..chunk.len()] {
            let byte = (0..chunk.len()).find(|&byte| chunk[byte] != expected[byte]).unwrap_or_default();
            return Err(Mismatch {
                sequence,
                field: index,
                offset: place * 8 + byte,
                expected: expected[byte],
                found: chunk[byte],
            });
        }
    }
    Ok(())
}

/// The words that `fill` writes into one field: the finalizer of SplitMix64 over a counter, so that
/// no two fields, seeds or places look alike. <https://doi.org/10.1145/2714064.2660195>
fn pattern(seed: u64, field: usize) -> impl Iterator<Item = u64> {
    let start = seed.wrapping_mul(0xA076_1D64_78BD_642F) ^ ((field as u64 + 1) << 56);
    (0u64..).map(move |place| {
        let mut word = start.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word ^ (word >> 27)
    })
}

/// The size of a page of memory, in bytes.
#[must_use]
pub fn page_bytes() -> usize {
    rustix::param::page_size()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_field_takes_the_remainder() {
        let message = Message::new(83, Layout::Heap);
        let bytes: Vec<_> = (0..FIELDS).map(|index| message.field(index).len()).collect();
        assert_eq!(bytes, [10, 10, 10, 10, 10, 10, 10, 13]);
    }

    #[test]
    fn page_fields_start_on_pages_of_their_own() {
        let message = Message::new(8 * 5000, Layout::Page);
        let mut pages: Vec<_> = (0..FIELDS)
            .flat_map(|index| {
                let address = message.field(index).as_ptr().addr();
                assert_eq!(address % page_bytes(), 0);
                [address / page_bytes(), address / page_bytes() + 1]
            })
            .collect();
        pages.sort_unstable();
        pages.dedup();
        assert_eq!(pages.len(), 2 * FIELDS, "no page is shared by two fields");
    }

    #[test]
    fn two_messages_of_one_seed_differ_by_their_stamp_in_every_field() {
        let (mut first, mut second) = (Message::new(800, Layout::Heap), Message::new(800, Layout::Heap));
        first.fill(7);
        second.fill(7);
        first.stamp(1);
        second.stamp(2);
        for field in 0..FIELDS {
            assert_ne!(first.field(field)[..8], second.field(field)[..8]);
            assert_eq!(first.field(field)[8..], second.field(field)[8..]);
        }
    }

    #[test]
    fn packed_bytes_of_what_was_sent_are_right_and_discarded_ones_are_not_judged() {
        let mut message = Message::new(83, Layout::Heap);
        message.fill(3);
        message.stamp(4);
        let mut packed = [0; 83];
        message.pack(&mut packed);
        let received = Received::Packed { bytes: &packed, field_bytes: &field_bytes(83) };
        assert_eq!(received.verify(3, 4), Some(Ok(())));
        assert_eq!(Received::Discarded.verify(3, 4), None);
    }

    proptest! {
        #[cfg(feature = "cli")]
        #[test]
        fn every_byte_is_seen_as_old_new_or_neither(
            payload in 8usize..600, seed: u64, sequence: u64, place: prop::sample::Index, flip in 1u8..0xff,
        ) {
            let mut message = Message::new(payload, Layout::Heap);
            message.fill(seed);
            message.stamp(sequence);
            let mut packed = vec![0; payload];
            message.pack(&mut packed);
            let new = place.index(payload);
            invert(&mut packed[..new]);
            let seen = |bytes: &[u8]| {
                Received::Packed { bytes, field_bytes: &field_bytes(payload) }.seen(seed, sequence).unwrap()
            };
            let (old_bytes, new_bytes) = ((payload - new) as u64, new as u64);
            prop_assert_eq!(seen(&packed), Ok(Seen { old_bytes, new_bytes, late_bytes: 0 }));
            packed[new] ^= flip;
            prop_assert!(seen(&packed).is_err());

            message.invert();
            let (old_bytes, new_bytes) = (0, payload as u64);
            let all = Received::Fields(&message).seen(seed, sequence);
            prop_assert_eq!(all, Some(Ok(Seen { old_bytes, new_bytes, late_bytes: 0 })));
        }

        #[test]
        fn verify_finds_any_single_wrong_byte(
            payload in 8usize..600, seed: u64, sequence: u64, place: prop::sample::Index, flip in 1u8..,
        ) {
            let mut message = Message::new(payload, Layout::Heap);
            message.fill(seed);
            message.stamp(sequence);
            prop_assert_eq!(message.verify(seed, sequence), Ok(()));

            let (mut field, mut offset) = (0, place.index(payload));
            while offset >= message.field(field).len() {
                offset -= message.field(field).len();
                field += 1;
            }
            message.field_mut(field)[offset] ^= flip;
            let mismatch = message.verify(seed, sequence).unwrap_err();
            prop_assert_eq!((mismatch.field, mismatch.offset), (field, offset));
            prop_assert_eq!(mismatch.expected ^ mismatch.found, flip);

            let mut packed = vec![0; payload];
            message.pack(&mut packed);
            let field_bytes = field_bytes(payload);
            let received = Received::Packed { bytes: &packed, field_bytes: &field_bytes };
            prop_assert_eq!(received.verify(seed, sequence), Some(Err(mismatch)));
            prop_assert_eq!(Received::Fields(&message).verify(seed, sequence), Some(Err(mismatch)));
        }

        #[test]
        fn unpack_undoes_pack(payload in 8usize..600, seed: u64) {
            let mut sent = Message::new(payload, Layout::Heap);
            sent.fill(seed);
            sent.stamp(seed);
            let mut packed = vec![0; payload];
            sent.pack(&mut packed);
            let mut received = Message::new(payload, Layout::Page);
            received.unpack(&packed);
            prop_assert_eq!(received.verify(seed, seed), Ok(()));
        }
    }
}
