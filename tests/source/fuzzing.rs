//! What has to hold of any bytes that are read from outside: of the error queue, the control
//! protocol, `samples.csv`, shapes and trace files. The targets of `fuzz/`, whose library this file
//! is, call these functions with what libFuzzer finds, and `fuzz.rs` beside this file with random
//! bytes.
//!
//! Each panics where something does not hold, and says whether anything could be read of its input,
//! so that a test knows which inputs are worth changing further.

use std::collections::BTreeSet;

use sendpath::case::{MAX_FIELDS, MAX_PAYLOAD_BYTES, Shape};
use sendpath::pair::{read_greeting, rewritten};
use sendpath::path::completion::{InFlight, Notification, control_message, parse};
use sendpath::path::{CompletionError, ZeroCopyCounts};
use sendpath::results::record::Record;
use sendpath::results::{samples_csv as columns, store};
use sendpath::sample::Side;
use sendpath::settings::trace;

/// Longer inputs are passed over: they take longer and say nothing new.
const LONGEST_EVENTS: usize = 512;
const LONGEST_TEXT: usize = 1 << 16;
/// Lists of sizes live as long as the process (see [`Shape`]), so a long run needs memory for each
/// that it found.
const LONGEST_SHAPE: usize = 512;
/// 256 messages stand for a trace. Each of its 32 lists may be rounded up.
const MOST_MESSAGES: usize = 256 + 32;

/// Reads `input` as control data of the error queue, and then as sends and notifications, which are
/// booked.
///
/// # Panics
/// Where a notification is not read, or not booked, as it should be.
#[must_use]
pub fn error_queue(input: &[u8]) -> bool {
    if input.len() > LONGEST_EVENTS {
        return false;
    }
    let read = parse(input);
    // Another control message before it makes no difference.
    let other = control_message(libc::SOL_SOCKET, libc::SO_TIMESTAMP, 0, 0, 0, (0, 0));
    let behind = parse(&[&other, input].concat());
    match &read {
        Err(CompletionError::NoExtendedError { bytes }) => {
            assert_eq!(*bytes, input.len());
            assert_eq!(behind, Err(CompletionError::NoExtendedError { bytes: other.len() + bytes }));
        }
        Err(_) => assert_eq!(behind, read),
        Ok(notification) => {
            assert_eq!(behind, read);
            let Notification { first, last, copied } = *notification;
            let again =
                control_message(libc::SOL_IPV6, libc::IPV6_RECVERR, 0, 5, u8::from(copied), (first, last));
            assert_eq!(parse(&again), read);
        }
    }
    let booked = book(&mut Input(input));
    read.is_ok() || booked
}

/// The rest of an input, from which choices are read. At its end there are zeros.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = N.min(self.0.len());
        array[..taken].copy_from_slice(&self.0[..taken]);
        self.0 = &self.0[taken..];
        array
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

/// What is known of the sends, kept as simply as can be: every call from the first.
struct Ledger {
    first_call: u32,
    calls: Vec<Call>,
    sends: u64,
    /// A notification came that fits no call: nothing comes back any more.
    is_distrusted: bool,
    counts: ZeroCopyCounts,
}

struct Call {
    ticket: u64,
    bytes: u64,
    is_open: bool,
}

impl Ledger {
    fn next_call(&self) -> u32 {
        self.first_call.wrapping_add(self.calls.len() as u32)
    }

    /// Books a notification, and says whether all its calls were outstanding. One with others than
    /// those is booked for none, and after it no other is; a range that ends before it starts has
    /// none.
    fn completed(&mut self, notification: Notification) -> bool {
        let Notification { first, last, copied } = notification;
        let next = self.next_call();
        // Calls back from the next one: the range is `from` to `to`, and the newest call 1.
        let back = |call: u32| i64::from(next.wrapping_sub(call).cast_signed());
        let (from, to) = (back(first), back(last));
        let calls = (1..).zip(self.calls.iter_mut().rev());
        let covered: Vec<&mut Call> = calls
            .filter(|(back, call)| (to..=from).contains(back) && call.is_open)
            .map(|(_, call)| call)
            .collect();
        let closed = covered.len() as u64;
        self.is_distrusted |= from < to || closed != (from - to) as u64 + 1;
        if self.is_distrusted {
            return false;
        }
        self.counts.notifications += 1;
        self.counts.completions += closed;
        for call in covered {
            call.is_open = false;
            if copied {
                self.counts.copied += 1;
                self.counts.copied_bytes += call.bytes;
            }
        }
        true
    }

    fn check(&self, in_flight: &mut InFlight<u64>, given_back: &mut BTreeSet<u64>) {
        while let Some((ticket, buffers, _)) = in_flight.give_back() {
            assert_eq!(ticket.number(), buffers, "each ticket stands for its own buffers");
            assert!(given_back.insert(buffers), "send {buffers} came back twice");
        }
        let open: BTreeSet<u64> =
            self.calls.iter().filter(|call| call.is_open).map(|call| call.ticket).collect();
        let expected: BTreeSet<u64> = (0..self.sends).filter(|ticket| !open.contains(ticket)).collect();
        assert_eq!(*given_back, expected);
        let counts = in_flight.counts;
        assert_eq!(counts, self.counts);
        assert!(counts.completions <= counts.sends && counts.copied <= counts.completions, "{counts:?}");
        assert!(counts.notifications <= counts.completions, "{counts:?}");
        assert!(counts.copied_bytes <= counts.sent_bytes, "{counts:?}");
    }
}

/// Sends and notifications, as the input chooses them. Returns whether a notification was taken.
fn book(input: &mut Input<'_>) -> bool {
    let first_call = input.word();
    let mut in_flight = InFlight::starting_at(first_call);
    let counts = ZeroCopyCounts::default();
    let mut ledger = Ledger { first_call, calls: Vec::new(), sends: 0, is_distrusted: false, counts };
    let mut given_back = BTreeSet::new();
    let mut was_taken = false;
    while !input.0.is_empty() {
        let notification = match input.byte() % 4 {
            0 => {
                let calls = input.byte() % 4;
                let bytes = u16::from_le_bytes(input.array());
                let ticket = in_flight.begin(ledger.sends).number();
                ledger.sends += 1;
                for _ in 0..=calls {
                    in_flight.called(bytes.into());
                    let bytes = u64::from(bytes);
                    ledger.calls.push(Call { ticket, bytes, is_open: true });
                    ledger.counts.sends += 1;
                    ledger.counts.sent_bytes += bytes;
                }
                in_flight.finish();
                None
            }
            // Near the calls that were made: the newest, those before it, and one that is still to
            // be made.
            1 => {
                let [back, more] = input.array();
                let first = ledger.next_call().wrapping_sub(u32::from(back % 32));
                Some(Notification {
                    first,
                    last: first.wrapping_add(u32::from(more % 8)),
                    copied: more > 127,
                })
            }
            2 => {
                Some(Notification { first: input.word(), last: input.word(), copied: input.byte() % 2 == 1 })
            }
            _ => {
                let [level, errno, origin, code, cut, back, more] = input.array();
                let (level, kind) = match level % 4 {
                    0 => (libc::SOL_IPV6, libc::IPV6_RECVERR),
                    1 => (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
                    _ => (libc::SOL_IP, libc::IP_RECVERR),
                };
                let first = ledger.next_call().wrapping_sub(u32::from(back));
                let range = (first, first.wrapping_add(more.into()));
                let origin = if origin < 128 { 5 } else { origin };
                let errno = u32::from(errno.saturating_sub(128));
                let mut control = control_message(level, kind, errno, origin, code, range);
                control.truncate(if cut < 128 { control.len() } else { usize::from(cut - 128) });
                let read = parse(&control);
                if let Ok(notification) = read {
                    assert_eq!((notification.first, notification.last), range);
                    assert_eq!(notification.copied, code & 1 == 1);
                }
                read.ok()
            }
        };
        if let Some(notification) = notification {
            let is_known = ledger.completed(notification);
            let result = in_flight.completed(notification);
            assert_eq!(result.is_ok(), is_known, "{notification:?}: {result:?}");
            was_taken |= is_known;
        }
        ledger.check(&mut in_flight, &mut given_back);
    }
    was_taken
}

/// Reads `input` as the greeting and as frames of the control protocol, of either process, and as
/// the body of one.
///
/// # Panics
/// Where a frame that was read is not the same after it was written and read again.
#[must_use]
pub fn control(input: &[u8]) -> bool {
    if input.len() > LONGEST_TEXT {
        return false;
    }
    let body = [&(input.len() as u32).to_le_bytes(), input].concat();
    let mut was_read = false;
    for to in [Side::Server, Side::Client] {
        was_read |= read_greeting(&mut &input[..], to).is_ok();
        for mut wire in [input, &body] {
            while let Ok(Some(frame)) = rewritten(to, &mut wire) {
                let again = rewritten(to, &mut &frame[..]).expect("what was written is read");
                assert_eq!(
                    again.as_deref().map(String::from_utf8_lossy),
                    Some(String::from_utf8_lossy(&frame))
                );
                was_read = true;
            }
        }
    }
    was_read
}

/// Reads `input` as `samples.csv`, and as rows below its header.
///
/// # Panics
/// Where a row that was read is not the same after it was written and read again, or a last line
/// that is torn does more than to be left out.
#[must_use]
pub fn samples_csv(input: &[u8]) -> bool {
    if input.len() > LONGEST_TEXT {
        return false;
    }
    let header = store::text([columns::columns()]).expect("the header is written");
    let mut was_read = false;
    for text in [input.to_vec(), [&header, input].concat()] {
        let whole = store::whole_bytes(&text);
        if whole < text.len() {
            // It may be read or not: `store::read` cuts it off.
            drop(store::records(&text));
        }
        if let Ok(records) = store::records(&text[..whole]) {
            was_read |= !records.is_empty();
            rewrite(&header, &records, input);
        }
    }
    was_read
}

fn rewrite(header: &[u8], records: &[Record], input: &[u8]) {
    let rows =
        |records: &[Record]| store::text(records.iter().map(columns::write)).expect("rows are written");
    let written = [header, &rows(records)].concat();
    let again = store::records(&written).expect("what was written is read");
    assert_eq!(again, records.iter().zip(&again).map(as_written).collect::<Vec<_>>());
    assert_eq!(again.len(), records.len(), "a row for each record: {:?}", String::from_utf8_lossy(&written));
    // Once coarse, the round trips stay as they are.
    assert_eq!(String::from_utf8_lossy(&[header, &rows(&again)].concat()), String::from_utf8_lossy(&written));
    let lines = |text: &[u8]| text.split_inclusive(|&byte| byte == b'\n').count();
    assert_eq!(lines(&written), records.len() + 1, "a line for each row");

    let anywhere = input.iter().fold(0, |sum: usize, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    for cut in [anywhere % written.len(), written.len() - 1] {
        let whole = &written[..store::whole_bytes(&written[..cut])];
        match lines(whole) {
            0 => assert!(store::records(whole).is_err(), "no header"),
            lines => assert_eq!(store::records(whole).as_deref(), Ok(&again[..lines - 1]), "cut at {cut}"),
        }
    }
}

/// What is to be read of a record that was written: a histogram is coarser than it was, and an
/// error has no line breaks.
fn as_written((record, again): (&Record, &Record)) -> Record {
    let mut record = record.clone();
    match (&mut record.outcome, &again.outcome) {
        (Err(error), _) => *error = error.replace(['\n', '\r'], " "),
        (Ok(sample), Ok(again)) => {
            if let (Some(round_trips), Some(again)) =
                (&mut sample.client.round_trips, &again.client.round_trips)
            {
                let is_empty = round_trips.histogram.is_empty();
                assert_eq!(is_empty, again.histogram.is_empty());
                round_trips.histogram.clone_from(&again.histogram);
            }
        }
        _ => {}
    }
    record
}

/// Reads `input` as a shape, as a list of shapes and as a trace file.
///
/// # Panics
/// Where a shape is read otherwise than it is written, or has messages that cannot be.
#[must_use]
pub fn shape(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    if text.len() > LONGEST_SHAPE {
        return false;
    }
    let shapes = Shape::parse_list(text);
    let shapes = shapes.as_deref().unwrap_or_default();
    shapes.iter().copied().for_each(check_shape);
    let written: Vec<String> = shapes.iter().map(Shape::to_string).collect();
    if !shapes.is_empty() {
        assert_eq!(Shape::parse_list(&written.join(";")).as_deref(), Ok(shapes));
    }
    let one = text.parse::<Shape>();
    if let Ok(shape) = one {
        check_shape(shape);
    }
    let file = trace(text);
    if let Ok(line) = &file {
        check_trace(text, line.parse().expect("a trace that was read is a shape"));
    }
    one.is_ok() || file.is_ok() || !shapes.is_empty()
}

fn check_shape(shape: Shape) {
    assert_eq!(shape.to_string().parse(), Ok(shape));
    let own_bytes = shape.own_payload_bytes();
    let around = |bytes: usize| [bytes.saturating_sub(1), bytes, bytes + 1];
    let payloads = [0, 8, 25, MAX_FIELDS, 4096, MAX_PAYLOAD_BYTES, own_bytes.unwrap_or_default()].map(around);
    for payload_bytes in payloads.into_iter().flatten() {
        let fits = shape.check(payload_bytes);
        if let Some(own_bytes) = own_bytes {
            assert_eq!(fits.is_ok(), payload_bytes == own_bytes, "{shape} {payload_bytes}");
        }
        if let Err(error) = fits {
            assert!(!error.to_string().is_empty());
            continue;
        }
        let messages = shape.messages(payload_bytes);
        assert!((1..=MOST_MESSAGES).contains(&messages.len()), "{shape}: {} messages", messages.len());
        let mut sums = Vec::new();
        for fields in &messages {
            assert!((1..=MAX_FIELDS).contains(&fields.len()), "{shape}: {} fields", fields.len());
            assert!(fields.iter().all(|&bytes| bytes > 0), "{shape} {payload_bytes}: {fields:?}");
            sums.push(fields.iter().sum::<usize>());
        }
        let largest_bytes = sums.iter().copied().max().unwrap_or_default();
        assert_eq!(shape.largest_bytes(payload_bytes), largest_bytes);
        if let Shape::Trace(lists) = shape {
            assert!(lists.iter().all(|(_, list)| messages.contains(list)), "{shape}: each list is sent");
            // The mean, to the nearest byte.
            let of_mean = sums.iter().sum::<usize>().abs_diff(payload_bytes * sums.len());
            assert!(2 * of_mean <= sums.len(), "{shape}: {payload_bytes} of {sums:?}");
        } else {
            assert_eq!(sums, [payload_bytes], "{shape}");
        }
        assert!(own_bytes.is_none() || largest_bytes <= MAX_PAYLOAD_BYTES, "{shape}: {largest_bytes} bytes");
    }
}

/// A line of a trace file has a weight and then its sizes: as many as stand there.
fn check_trace(text: &str, shape: Shape) {
    check_shape(shape);
    let Shape::Trace(lists) = shape else { panic!("{shape} is no trace") };
    let numbers = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split(|letter: char| letter == ',' || letter.is_whitespace())
            // A unit may stand behind a space: 9 KiB is one size.
            .filter(|word| word.starts_with(|digit: char| digit.is_ascii_digit()))
            .count()
    };
    let found: Vec<usize> = text.lines().map(numbers).filter(|&numbers| numbers > 0).collect();
    let read: Vec<usize> = lists.iter().map(|(_, list)| 1 + list.len()).collect();
    assert_eq!(found, read, "{text:?} as {shape}");
}
