//! The columns of `samples.csv`: raw integers, each with its unit in its name.
//! docs/book/src/format.md explains them.
//!
//! `Fields::record` goes through a record column by column: it is the one list of names, of how
//! each is written, and of how it is read.

use std::fmt::{Display, from_fn};
use std::str::FromStr;
use std::sync::LazyLock;

use csv::StringRecord;
use strum::VariantArray;

use super::record::{Arm, Record};
use crate::case::{
    Axis, Case, DEFAULT_COPY_BELOW_BYTES, Engine, Receiver, Shape, parse_bytes, parse_payload_bytes,
    parse_threads,
};
use crate::event::{Event, Reading, Readings};
use crate::sample::{CopiedBound, Copies, RoundTrips, Sample, Seen, Side, SideReport, ZeroCopyCounts};

/// The name of an event in a column: its unit at the end.
pub fn event_name(event: Event) -> String {
    let name = event.to_string().replace('-', "_");
    if event == Event::TaskClock { name + "_ns" } else { name }
}

/// The names of the columns, made once, since a sweep has many rows; and how many a row may have:
/// all, or fewer where it was written before the last ones were added.
static COLUMNS: LazyLock<(Vec<String>, Vec<usize>)> = LazyLock::new(|| {
    let case = Case::default();
    let arm = Arm { case, control: false };
    let outcome = Ok(no_sample());
    let mut nothing = Record { generation: 0, round: 0, position: 0, arm, timed: false, outcome };
    let mut fields = Fields::new(Mode::Name(Vec::new()));
    // Only what is read can be wrong.
    let _ = fields.record(&mut nothing);
    let mut lengths = std::mem::take(&mut fields.earlier_ends);
    let names = fields.texts();
    lengths.push(names.len());
    (names, lengths)
});

/// Every column, in order.
pub fn columns() -> Vec<String> {
    COLUMNS.0.clone()
}

/// A record as the text of its columns.
pub fn write(record: &Record) -> Vec<String> {
    let mut fields = Fields::new(Mode::Write(Vec::with_capacity(COLUMNS.0.len())));
    // Only what is read can be wrong.
    let _ = fields.record(&mut record.clone());
    fields.texts()
}

/// The columns of a case in `summary.csv`, which has them one after the other: name and text.
pub(super) fn of_case(case: Case) -> impl Iterator<Item = (String, String)> {
    let [names, texts] = [Mode::Name(Vec::new()), Mode::Write(Vec::new())].map(|mode| {
        let mut fields = Fields::new(mode);
        let _ = fields.case(&mut case.clone()).and_then(|()| fields.later_of_case(&mut case.clone()));
        fields.texts()
    });
    names.into_iter().zip(texts)
}

/// Reads what [`of_case`] gives.
pub(super) fn read_case<'row>(texts: impl Iterator<Item = &'row str> + 'row) -> Result<Case, String> {
    let (mut fields, mut case) = (Fields::new(Mode::Read(Box::new(texts))), Case::default());
    fields.case(&mut case)?;
    fields.later_of_case(&mut case)?;
    Ok(case)
}

/// Checks that a header has each column in its place, and no other.
///
/// # Errors
/// The column that is not known, missing or out of its place.
pub fn check_header(header: &StringRecord) -> Result<(), String> {
    let (names, lengths) = &*COLUMNS;
    let mut expected = &names[..];
    // As long as one from before the last columns, and not for want of another column.
    let is_older = |length: &usize| {
        header.len() == *length && header.iter().next_back() == names.get(length - 1).map(String::as_str)
    };
    if lengths.iter().any(is_older) {
        expected = &names[..header.len()];
    }
    if let Some(foreign) = header.iter().find(|name| !expected.iter().any(|column| column == name)) {
        return Err(format!("column {foreign:?} is not known"));
    }
    match expected.iter().enumerate().find(|(index, column)| header.get(*index) != Some(column.as_str())) {
        Some((index, column)) if header.iter().any(|name| name == column) => {
            Err(format!("column {column:?} is out of its place: it has to be number {}", index + 1))
        }
        Some((_, column)) => Err(format!("column {column:?} is missing")),
        None if header.len() > expected.len() => {
            Err("there are more columns than there should be".to_owned())
        }
        None => Ok(()),
    }
}

/// Reads a row of [`columns`].
///
/// # Errors
/// The column that cannot be read, and what stands there.
pub fn read(row: &StringRecord) -> Result<Record, String> {
    let (names, lengths) = &*COLUMNS;
    if !lengths.contains(&row.len()) {
        return Err(format!("{} columns instead of {}", row.len(), names.len()));
    }
    let arm = Arm { case: Case::default(), control: false };
    let outcome = Ok(no_sample());
    let mut record = Record { generation: 0, round: 0, position: 0, arm, timed: false, outcome };
    Fields::new(Mode::Read(Box::new(row.iter()))).record(&mut record)?;
    let Case { path, copy_below_bytes, .. } = record.arm.case;
    if copy_below_bytes != DEFAULT_COPY_BELOW_BYTES && !path.has_threshold() {
        return Err(format!(
            "copy_below_bytes \"{copy_below_bytes}\": path {path} has no threshold: it has to be empty"
        ));
    }
    if record.outcome.as_ref().is_ok_and(|sample| sample.elapsed_ns == 0 || sample.messages == 0) {
        return Err("elapsed_ns or messages is 0, in a row without an error".to_owned());
    }
    Ok(record)
}

fn no_sample() -> Sample {
    let (server, client) = (SideReport::default(), SideReport::default());
    Sample { elapsed_ns: 0, messages: 0, pairs: 0, server, client }
}

/// What is done with the columns.
enum Mode<'row> {
    /// Their names are collected.
    Name(Vec<String>),
    /// Their texts are.
    Write(Vec<String>),
    /// They are set from their texts. Rows from before the last columns have nothing there.
    Read(Box<dyn Iterator<Item = &'row str> + 'row>),
}

/// The fields of a row, one after the other.
struct Fields<'row> {
    mode: Mode<'row>,
    /// Whether fields are empty, as those of a burst that failed.
    empty: bool,
    /// How many columns there were before each time that some were added.
    earlier_ends: Vec<usize>,
}

impl<'row> Fields<'row> {
    fn new(mode: Mode<'row>) -> Self {
        Self { mode, empty: false, earlier_ends: Vec::new() }
    }

    fn texts(self) -> Vec<String> {
        match self.mode {
            Mode::Name(texts) | Mode::Write(texts) => texts,
            Mode::Read(_) => Vec::new(),
        }
    }

    /// Sweeps that were measured before the following columns were added have rows that end here.
    fn once_ended(&mut self) {
        if let Mode::Name(names) = &self.mode {
            self.earlier_ends.push(names.len());
        }
    }

    fn field<T, E: Display>(
        &mut self,
        name: impl Display,
        value: &mut T,
        write: impl FnOnce(&T) -> String,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<(), String> {
        match &mut self.mode {
            Mode::Name(names) => names.push(name.to_string()),
            Mode::Write(row) => row.push(if self.empty { String::new() } else { write(value) }),
            Mode::Read(row) => {
                let text = row.next().unwrap_or_default();
                if !self.empty {
                    *value = read(text).map_err(|error| format!("{name} {text:?}: {error}"))?;
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, name: &str, value: &mut u64) -> Result<(), String> {
        self.field(name, value, u64::to_string, whole)
    }

    fn word<T: Axis + Display>(&mut self, name: &str, value: &mut T) -> Result<(), String> {
        self.field(name, value, T::to_string, T::parse)
    }

    /// One of two words.
    fn either(&mut self, name: &str, value: &mut bool, [no, yes]: [&str; 2]) -> Result<(), String> {
        let write = |value: &bool| if *value { yes } else { no }.to_owned();
        let read = |text: &str| match text {
            _ if text == no => Ok(false),
            _ if text == yes => Ok(true),
            _ => Err(format!("neither {no} nor {yes}")),
        };
        self.field(name, value, write, read)
    }

    /// Numbers that stand together, or are empty together.
    fn numbers<const N: usize>(
        &mut self,
        names: [impl Display; N],
        values: &mut Option<[u64; N]>,
    ) -> Result<(), String> {
        let mut each = values.map_or([None; N], |values| values.map(Some));
        for (name, number) in names.into_iter().zip(&mut each) {
            let read = or_empty(None, |text| whole(text).map(Some));
            self.field(name, number, |number| written(*number), read)?;
        }
        *values = match each.iter().flatten().count() {
            0 => None,
            _ if each.iter().all(Option::is_some) => Some(each.map(Option::unwrap_or_default)),
            _ => return Err("of columns that belong together, some are empty".to_owned()),
        };
        Ok(())
    }

    /// A number of the client's: of what nobody receives, there is no client to measure.
    fn of_client(&mut self, name: &str, value: &mut u64, receiver: Receiver) -> Result<(), String> {
        if receiver != Receiver::Sink {
            return self.number(name, value);
        }
        self.field(
            name,
            value,
            |_| String::new(),
            |text| {
                if text.is_empty() { Ok(0) } else { Err("nobody receives: it has to be empty") }
            },
        )
    }

    fn record(&mut self, record: &mut Record) -> Result<(), String> {
        let Record { generation, round, position, arm, timed, outcome } = record;
        self.number("generation", generation)?;
        self.number("round", round)?;
        self.number("position", position)?;
        self.either("arm", &mut arm.control, ["case", "control"])?;
        self.case(&mut arm.case)?;
        self.either("timed", timed, ["0", "1"])?;
        let mut error = outcome.as_ref().err().cloned().unwrap_or_default();
        // A row is a line, whatever the error says.
        let line = |error: &String| error.replace(['\n', '\r'], " ");
        self.field("error", &mut error, line, |text| Ok::<_, &str>(text.to_owned()))?;
        self.empty = !error.is_empty();
        let mut sample = std::mem::replace(outcome, Err(error)).unwrap_or_else(|_| no_sample());
        self.sample(&mut sample, &arm.case)?;
        let is_empty = std::mem::take(&mut self.empty);
        // Rows of what failed have the later columns of a case, too.
        self.later_of_case(&mut arm.case)?;
        self.empty = is_empty;
        self.later_of_sample(&mut sample, &arm.case)?;
        if !is_empty {
            *outcome = Ok(sample);
        }
        Ok(())
    }

    fn case(&mut self, case: &mut Case) -> Result<(), String> {
        self.word("workload", &mut case.workload)?;
        self.word("path", &mut case.path)?;
        self.word("layout", &mut case.layout)?;
        self.field("payload_bytes", &mut case.payload_bytes, usize::to_string, parse_payload_bytes)?;
        self.field("threads", &mut case.threads, usize::to_string, parse_threads)?;
        self.word("placement", &mut case.placement)?;
        self.word("receiver", &mut case.receiver)?;
        self.word("source", &mut case.source)
    }

    /// The columns of a case that were added later: rows from before them are of what was usual.
    fn later_of_case(&mut self, case: &mut Case) -> Result<(), String> {
        let Case { path, shape, engine, copy_below_bytes, .. } = case;
        self.field("shape", shape, Shape::to_string, or_empty(Shape::default(), str::parse))?;
        self.field("engine", engine, Engine::to_string, or_empty(Engine::default(), Engine::parse))?;
        let below = |bytes: &usize| written(path.has_threshold().then_some(*bytes));
        self.field(
            "copy_below_bytes",
            copy_below_bytes,
            below,
            or_empty(DEFAULT_COPY_BELOW_BYTES, parse_bytes),
        )
    }

    fn sample(&mut self, sample: &mut Sample, case: &Case) -> Result<(), String> {
        let Sample { elapsed_ns, messages, pairs, server, client } = sample;
        self.number("start_ns", &mut client.start_ns)?;
        self.number("elapsed_ns", elapsed_ns)?;
        self.number("drain_ns", &mut server.drain_ns)?;
        self.number("messages", messages)?;
        self.number("pairs_ns", &mut client.pairs_ns)?;
        client.end_ns = client.start_ns.saturating_add(*elapsed_ns);
        *pairs = case.threads as u64;

        let mut cpu = server.cpu_untold.is_none().then_some([server.user_ns, server.system_ns]);
        self.numbers(["server_user_ns", "server_system_ns"], &mut cpu)?;
        [server.user_ns, server.system_ns] = cpu.unwrap_or_default();
        server.cpu_untold = cpu.is_none().then(|| "the row has no CPU time of the server".to_owned());
        self.of_client("client_user_ns", &mut client.user_ns, case.receiver)?;
        self.of_client("client_system_ns", &mut client.system_ns, case.receiver)?;

        let (packed, received) = (&mut server.copies, &mut client.copies);
        self.number("server_user_to_user_bytes", &mut packed.user_to_user_bytes)?;
        self.number("server_user_to_kernel_bytes", &mut packed.user_to_kernel_bytes)?;
        self.of_client("client_kernel_to_user_bytes", &mut received.kernel_to_user_bytes, case.receiver)?;
        self.of_client("client_user_to_user_bytes", &mut received.user_to_user_bytes, case.receiver)?;
        self.zero_copy(&mut server.zero_copy)?;
        server.copies.deferred_bytes = server.zero_copy.map_or(0, |counts| counts.copied_bytes);

        let trips = client.round_trips.take();
        let mut sums = trips.as_ref().map(|trips| [trips.sum_ns, trips.max_ns]);
        self.numbers(["rtt_sum_ns", "rtt_max_ns"], &mut sums)?;
        let mut histogram = trips.map(|trips| trips.histogram).unwrap_or_default();
        self.field("rtt_histogram_ns", &mut histogram, |trips| written_histogram(trips), read_histogram)?;
        client.round_trips = sums.map(|[sum_ns, max_ns]| {
            // Of a study that kept no histogram, the sum is over all messages.
            let counted = histogram.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
            let count = if histogram.is_empty() { *messages } else { counted };
            RoundTrips { sum_ns, count, max_ns, histogram }
        });

        self.counters(Side::Server, &mut server.counters)?;
        self.counters(Side::Client, &mut client.counters)?;
        self.once_ended();
        let mut seen = client.seen.map(|seen| [seen.old_bytes, seen.new_bytes, seen.late_bytes]);
        self.numbers(["seen_old_bytes", "seen_new_bytes", "seen_late_bytes"], &mut seen)?;
        client.seen =
            seen.map(|[old_bytes, new_bytes, late_bytes]| Seen { old_bytes, new_bytes, late_bytes });
        self.once_ended();
        let Copies { mapped_bytes, .. } = &mut client.copies;
        let maps = case.receiver == Receiver::Mmap;
        let mut mapped = maps.then_some([*mapped_bytes]);
        self.numbers(["client_mapped_bytes"], &mut mapped)?;
        // Another receiver maps nothing, whatever a row says.
        *mapped_bytes = mapped.filter(|_| maps).map_or(0, |[bytes]| bytes);
        Ok(())
    }

    fn zero_copy(&mut self, zero_copy: &mut Option<ZeroCopyCounts>) -> Result<(), String> {
        let stacked = zero_copy.is_some_and(|counts| counts.stacked);
        let mut counts = zero_copy.map(|counts| {
            let ZeroCopyCounts { sends, sent_bytes, completions, notifications, .. } = counts;
            let ZeroCopyCounts { copied, copied_bytes, enobufs, .. } = counts;
            [sends, sent_bytes, completions, notifications, copied, copied_bytes, enobufs]
        });
        let names =
            ["sends", "sent_bytes", "completions", "notifications", "copied", "copied_bytes", "enobufs"];
        self.numbers(names.map(|name| from_fn(move |f| write!(f, "zero_copy_{name}"))), &mut counts)?;
        *zero_copy =
            counts.map(|[sends, sent_bytes, completions, notifications, copied, copied_bytes, enobufs]| {
                ZeroCopyCounts {
                    sends,
                    sent_bytes,
                    completions,
                    notifications,
                    copied,
                    copied_bytes,
                    enobufs,
                    stacked,
                }
            });
        Ok(())
    }

    fn counters(&mut self, side: Side, readings: &mut Readings) -> Result<(), String> {
        for &event in <Event as VariantArray>::VARIANTS {
            let mut counted = match readings.get(&event) {
                Some(&Reading::Counted { value, enabled_ns, running_ns }) => {
                    Some([value, enabled_ns, running_ns])
                }
                _ => None,
            };
            let ends = ["", "_enabled_ns", "_running_ns"];
            let names = ends.map(|end| from_fn(move |f| write!(f, "{side}_{}{end}", event_name(event))));
            self.numbers(names, &mut counted)?;
            let reading = |[value, enabled_ns, running_ns]: [u64; 3]| Reading::Counted {
                value,
                enabled_ns,
                running_ns,
            };
            readings.extend(counted.map(|counted| (event, reading(counted))));
        }
        Ok(())
    }

    /// What was measured, of the columns after those of the case.
    fn later_of_sample(&mut self, sample: &mut Sample, case: &Case) -> Result<(), String> {
        let SideReport { zero_copy, retransmitted_segments, .. } = &mut sample.server;
        self.once_ended();
        let mut bound = zero_copy.and_then(|counts| counts.copied_is_bound());
        let read = or_empty(None, |text| CopiedBound::from_str(text).map(Some));
        self.field("zero_copy_copied_is_bound", &mut bound, |bound| written(*bound), read)?;
        if let Some(counts) = zero_copy {
            // Rows from before this column do not say which kernel it was: a bound is never wrong.
            counts.stacked = bound
                .map_or(counts.completions > 0 && case.engine != Engine::Syscall, |bound| {
                    bound == CopiedBound::Upper
                });
        }
        self.once_ended();
        let mut segments = retransmitted_segments.map(|segments| [segments]);
        self.numbers(["retransmitted_segments"], &mut segments)?;
        *retransmitted_segments = segments.map(|[segments]| segments);
        Ok(())
    }
}

/// A round trip to eight significant bits, the middle of what they hold: within 0.4 %, and a file a
/// quarter as long. Sums and longest round trips stand beside it, exact.
fn coarsened(value_ns: u64) -> u64 {
    let dropped = (u64::BITS - value_ns.leading_zeros()).saturating_sub(8);
    if dropped == 0 { value_ns } else { (value_ns >> dropped << dropped) + (1 << (dropped - 1)) }
}

fn written<T: Copy + ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// Reads what may be missing; it is `missing` then.
fn or_empty<T, E>(missing: T, read: impl FnOnce(&str) -> Result<T, E>) -> impl FnOnce(&str) -> Result<T, E> {
    move |text| if text.is_empty() { Ok(missing) } else { read(text) }
}

fn whole(text: &str) -> Result<u64, &'static str> {
    u64::from_str(text).map_err(|_| "not a whole number")
}

fn written_histogram(histogram: &[(u64, u64)]) -> String {
    let mut coarse: Vec<(u64, u64)> = Vec::new();
    for &(value_ns, count) in histogram {
        let value_ns = coarsened(value_ns);
        match coarse.last_mut() {
            Some((last, sum)) if *last == value_ns => *sum = sum.saturating_add(count),
            _ => coarse.push((value_ns, count)),
        }
    }
    coarse.iter().map(|(value_ns, count)| format!("{value_ns}x{count}")).collect::<Vec<_>>().join(" ")
}

fn read_histogram(text: &str) -> Result<Vec<(u64, u64)>, &'static str> {
    let entry = |entry: &str| {
        let (value_ns, count) = entry.split_once('x').ok_or("not a list of valuexcount")?;
        Ok((whole(value_ns)?, whole(count)?))
    };
    text.split_whitespace().map(entry).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::case::{Layout, Placement, SendPath, Source, Workload};

    pub(crate) fn record() -> Record {
        let case = Case {
            workload: Workload::Rr,
            path: SendPath::ZeroCopy,
            layout: Layout::Page,
            payload_bytes: 65536,
            threads: 2,
            placement: Placement::Paired,
            receiver: Receiver::Discard,
            source: Source::Cold,
            ..Case::default()
        };
        let counted = |value| Reading::Counted { value, enabled_ns: 10, running_ns: 9 };
        let server = SideReport {
            drain_ns: 11,
            user_ns: 1,
            system_ns: 2,
            zero_copy: Some(ZeroCopyCounts { sends: 3, copied_bytes: 7, ..ZeroCopyCounts::default() }),
            copies: Copies { deferred_bytes: 7, ..Copies::default() },
            retransmitted_segments: Some(6),
            counters: Readings::from([(Event::Cycles, counted(5)), (Event::PageFaults, counted(0))]),
            ..SideReport::default()
        };
        let client = SideReport {
            start_ns: 100,
            end_ns: 1100,
            pairs_ns: 1900,
            round_trips: Some(RoundTrips {
                sum_ns: 900,
                count: 4,
                max_ns: 401,
                histogram: vec![(100, 3), (401, 1)],
            }),
            seen: Some(Seen { old_bytes: 8, new_bytes: 3, late_bytes: 1 }),
            ..SideReport::default()
        };
        let sample = Sample { elapsed_ns: 1000, messages: 4, pairs: 2, server, client };
        let arm = Arm { case, control: true };
        Record { generation: 1, round: 2, position: 3, arm, timed: true, outcome: Ok(sample) }
    }

    fn row(record: &Record) -> StringRecord {
        StringRecord::from(write(record))
    }

    fn with(column: &str, text: &str) -> StringRecord {
        let mut row = write(&record());
        let index = columns().iter().position(|name| name == column).unwrap();
        text.clone_into(&mut row[index]);
        StringRecord::from(row)
    }

    #[test]
    fn cpu_time_that_was_not_told_is_empty_and_no_zero() {
        let mut record = record();
        let sample = record.outcome.as_mut().unwrap();
        sample.server.cpu_untold = Some("it is another thread's".to_owned());
        let row = write(&record);
        let at = |name: &str| &row[columns().iter().position(|column| column == name).unwrap()];
        assert_eq!([at("server_user_ns"), at("server_system_ns")], ["", ""]);
        let read = read(&StringRecord::from(row.clone())).unwrap().outcome.unwrap();
        assert_eq!(read.server.cpu_ns(), None);
        assert!(read.client.cpu_ns().is_some());
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let mut record = record();
        assert_eq!(read(&row(&record)), Ok(record.clone()));
        record.outcome = Err("sendmsg(2): no, \"never\"".to_owned());
        assert_eq!(read(&row(&record)), Ok(record));
    }

    #[test]
    fn where_nobody_receives_the_client_s_columns_are_empty() {
        let mut record = record();
        record.arm.case.receiver = Receiver::Sink;
        let columns = columns();
        let written = write(&record);
        let mut empty = columns.iter().zip(&written).filter(|(name, _)| name.starts_with("client_"));
        assert!(empty.all(|(_, text)| text.is_empty()), "{written:?}");
        assert_eq!(read(&row(&record)), Ok(record.clone()));
        let mut wrong = written;
        wrong[columns.iter().position(|name| name == "client_user_ns").unwrap()] = "0".to_owned();
        assert!(read(&StringRecord::from(wrong)).unwrap_err().contains("client_user_ns"));
    }

    #[test]
    fn what_was_mapped_is_read_as_it_was_written() {
        let mut record = record();
        record.arm.case.receiver = Receiver::Mmap;
        record.outcome.as_mut().unwrap().client.copies.mapped_bytes = 12288;
        assert_eq!(read(&row(&record)), Ok(record));
        let others = self::record();
        assert_ne!(others.arm.case.receiver, Receiver::Mmap);
        assert_eq!(
            read(&with("client_mapped_bytes", "5")),
            Ok(others),
            "it maps nothing, whatever the row says"
        );
    }

    #[test]
    fn a_sweep_from_before_the_last_columns_is_read_without_them() {
        let mut header = columns();
        let mut expected = record();
        let (_, lengths) = &*COLUMNS;
        for &length in lengths.iter().rev().skip(1) {
            let gone = header.split_off(length);
            assert_eq!(check_header(&StringRecord::from(header.clone())), Ok(()));
            let mut cells = write(&record());
            cells.truncate(header.len());
            let sample = expected.outcome.as_mut().unwrap();
            if gone.iter().any(|name| name == "seen_old_bytes") {
                sample.client.seen = None;
            }
            if gone.iter().any(|name| name == "retransmitted_segments") {
                sample.server.retransmitted_segments = None;
            }
            assert_eq!(read(&StringRecord::from(cells)), Ok(expected.clone()));
        }
        assert_eq!(lengths.len(), 5);
        header.pop();
        assert!(check_header(&StringRecord::from(header)).is_err());
    }

    #[test]
    fn shape_engine_and_threshold_stand_in_every_row() {
        let mut record = record();
        let shape = columns().iter().position(|name| name == "shape").unwrap();
        let end = |record: &Record| write(record)[shape..][..3].join(" ");
        assert_eq!(end(&record), "equal syscall ");
        record.arm.case.engine = Engine::UringFixed;
        record.arm.case.shape = "97x64|3x24,512K".parse().unwrap();
        assert_eq!(end(&record), "97x64|3x24,512K uring_fixed ");
        assert_eq!(read(&row(&record)), Ok(record.clone()));
        record.outcome = Err("no such engine".to_owned());
        record.arm.case = Case { path: SendPath::Hybrid, copy_below_bytes: 100, ..Case::default() };
        assert_eq!(end(&record), "equal syscall 100");
        assert_eq!(read(&row(&record)), Ok(record));
    }

    #[test]
    fn what_a_copied_share_is_stands_beside_it_and_io_urings_is_a_bound_where_it_does_not() {
        let mut record = record();
        record.arm.case.engine = Engine::Uring;
        for (notifications, stacked, word) in [(4, false, "exact"), (4, true, "upper"), (3, false, "either")]
        {
            let counts = ZeroCopyCounts { completions: 4, notifications, stacked, ..Default::default() };
            let sample = record.outcome.as_mut().unwrap();
            (sample.server.zero_copy, sample.server.copies.deferred_bytes) = (Some(counts), 0);
            let mut cells = write(&record);
            let place = columns().iter().position(|name| name == "zero_copy_copied_is_bound").unwrap();
            assert_eq!(cells[place], word);
            assert_eq!(read(&row(&record)), Ok(record.clone()));
            cells.truncate(place);
            let before = read(&StringRecord::from(cells)).unwrap().outcome.unwrap().server.zero_copy.unwrap();
            assert!(before.stacked);
        }
        assert!(read(&with("zero_copy_copied_is_bound", "lower")).unwrap_err().contains("lower"));
    }

    #[test]
    fn a_path_without_a_threshold_has_none() {
        let error = read(&with("copy_below_bytes", "100")).unwrap_err();
        assert_eq!(error, "copy_below_bytes \"100\": path zero_copy has no threshold: it has to be empty");
    }

    #[test]
    fn however_many_round_trips_can_be_read_can_be_written() {
        let most = u64::MAX;
        let record = read(&with("rtt_histogram_ns", &format!("1000x{most} 1001x{most}"))).unwrap();
        assert!(write(&record).contains(&format!("1002x{most}")), "both are 1002 to eight bits");
    }

    #[test]
    fn round_trips_are_coarsened_by_less_than_half_a_percent() {
        for value_ns in (1..200_000).step_by(37).chain([60_000_000_000]) {
            let coarse = coarsened(value_ns);
            assert!((coarse as f64 / value_ns as f64 - 1.0).abs() < 0.004, "{value_ns} {coarse}");
            assert_eq!(coarsened(coarse), coarse, "{value_ns}");
        }
    }

    #[test]
    fn what_is_no_number_is_named_with_its_column() {
        for (column, text) in [
            ("elapsed_ns", "NaN"),
            ("elapsed_ns", ""),
            ("elapsed_ns", "-1"),
            ("elapsed_ns", "1.5"),
            ("server_cycles", "inf"),
            ("payload_bytes", "7"),
            ("path", "three_copy"),
            ("arm", "both"),
            ("rtt_histogram_ns", "100x"),
        ] {
            let error = read(&with(column, text)).unwrap_err();
            assert!(error.contains(column) && error.contains(text), "{error}");
        }
        assert!(read(&with("zero_copy_sends", "")).is_err(), "its neighbours are not empty");
        assert!(read(&StringRecord::from(vec!["1"])).is_err());
    }

    #[test]
    fn a_header_must_have_each_column_in_its_place() {
        assert_eq!(check_header(&StringRecord::from(columns())), Ok(()));
        let mut foreign = columns();
        foreign.push("flops".to_owned());
        assert!(check_header(&StringRecord::from(foreign)).unwrap_err().contains("flops"));
        let mut swapped = columns();
        swapped.swap(0, 1);
        assert!(check_header(&StringRecord::from(swapped)).unwrap_err().contains("generation"));
        let short = columns()[..5].to_vec();
        assert!(check_header(&StringRecord::from(short)).unwrap_err().contains("missing"));
    }
}
