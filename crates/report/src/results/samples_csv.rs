//! The columns of `samples.csv`: raw integers, each with its unit in its name. docs/book/src/format.md explains them.

use std::iter::repeat;
use std::str::FromStr;
use std::sync::LazyLock;

use csv::StringRecord;
use strum::VariantArray;

use super::record::{Arm, Record};
use crate::case::{
    Axis, Case, CaseError, DEFAULT_COPY_BELOW_BYTES, Engine, Layout, Placement, Receiver, SendPath, Shape,
    Source, Workload, parse_bytes, parse_payload_bytes, parse_threads,
};
use crate::event::{Event, Reading, Readings};
use crate::sample::{CopiedBound, Copies, RoundTrips, Sample, Seen, Side, SideReport, ZeroCopyCounts};

/// The columns before the counters.
const COLUMNS: [&str; 37] = [
    "generation",
    "round",
    "position",
    "arm",
    "workload",
    "path",
    "layout",
    "payload_bytes",
    "threads",
    "placement",
    "receiver",
    "source",
    "timed",
    "error",
    "start_ns",
    "elapsed_ns",
    "drain_ns",
    "messages",
    "pairs_ns",
    "server_user_ns",
    "server_system_ns",
    "client_user_ns",
    "client_system_ns",
    "server_user_to_user_bytes",
    "server_user_to_kernel_bytes",
    "client_kernel_to_user_bytes",
    "client_user_to_user_bytes",
    "zero_copy_sends",
    "zero_copy_sent_bytes",
    "zero_copy_completions",
    "zero_copy_notifications",
    "zero_copy_copied",
    "zero_copy_copied_bytes",
    "zero_copy_enobufs",
    "rtt_sum_ns",
    "rtt_max_ns",
    "rtt_histogram_ns",
];

/// The columns after the counters, in the order in which they were added. Sweeps that were measured before a group was
/// added have rows without it and those after it.
const LAST_COLUMNS: [&[&str]; 4] = [
    &["seen_old_bytes", "seen_new_bytes", "seen_late_bytes"],
    &["client_mapped_bytes", "shape", "engine", "copy_below_bytes"],
    &["zero_copy_copied_is_bound"],
    &["retransmitted_segments"],
];

/// How many columns a row may have: all, or fewer where it was written before the last ones were added.
fn row_lengths() -> impl Iterator<Item = usize> {
    let mut length = NAMES.len();
    LAST_COLUMNS.iter().rev().map(|group| group.len()).chain([0]).map(move |added| {
        let this = length;
        length -= added;
        this
    })
}

/// The name of an event in a column: its unit at the end.
#[must_use]
pub fn event_name(event: Event) -> String {
    let name = event.to_string().replace('-', "_");
    if event == Event::TaskClock { name + "_ns" } else { name }
}

/// The names of the columns, made once: a sweep has many rows.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(columns);

/// Where the columns of a case stand that were added later: shape, engine and threshold. Failed rows have them too, so
/// they are written and read apart from what was measured.
static LATER_OF_CASE: LazyLock<usize> =
    LazyLock::new(|| NAMES.iter().position(|name| name == "shape").unwrap_or(NAMES.len()));

/// Every column, in order.
#[must_use]
pub fn columns() -> Vec<String> {
    let counters = [Side::Server, Side::Client].into_iter().flat_map(|side| {
        <Event as VariantArray>::VARIANTS.iter().flat_map(move |&event| {
            let name = format!("{side}_{}", event_name(event));
            [name.clone(), format!("{name}_enabled_ns"), format!("{name}_running_ns")]
        })
    });
    let words = |columns: &'static [&str]| columns.iter().map(ToString::to_string);
    words(&COLUMNS).chain(counters).chain(LAST_COLUMNS.into_iter().flat_map(words)).collect()
}

/// A record as the text of its columns.
#[must_use]
pub fn write(record: &Record) -> Vec<String> {
    let Record { generation, round, position, arm, timed, outcome } = record;
    let Case { workload, path, layout, payload_bytes, threads, placement, receiver, source, .. } = arm.case;
    let mut row = vec![
        generation.to_string(),
        round.to_string(),
        position.to_string(),
        if arm.control { "control" } else { "case" }.to_owned(),
        workload.to_string(),
        path.to_string(),
        layout.to_string(),
        payload_bytes.to_string(),
        threads.to_string(),
        placement.to_string(),
        receiver.to_string(),
        source.to_string(),
        u8::from(*timed).to_string(),
    ];
    match outcome {
        // A row is a line, whatever the error says.
        Err(error) => row.push(error.replace(['\n', '\r'], " ")),
        Ok(sample) => {
            row.push(String::new());
            row.extend(measures(sample, receiver));
        }
    }
    let Case { shape, engine, copy_below_bytes, .. } = arm.case;
    row.resize(*LATER_OF_CASE, String::new());
    let below = if path.has_threshold() { copy_below_bytes.to_string() } else { String::new() };
    row.extend([shape.to_string(), engine.to_string(), below]);
    row.extend(outcome.as_ref().map(later_measures).unwrap_or_default());
    row.resize(NAMES.len(), String::new());
    row
}

/// Of what nobody receives there is no client to measure: its columns are empty, but for those of the window that was
/// timed.
fn measures(sample: &Sample, receiver: Receiver) -> Vec<String> {
    let of_client = |number: u64| if receiver == Receiver::Sink { String::new() } else { number.to_string() };
    let Sample { elapsed_ns, messages, pairs: _, server, client } = sample;
    let mut row: Vec<String> = [client.start_ns, *elapsed_ns, server.drain_ns, *messages, client.pairs_ns]
        .map(|number| number.to_string())
        .into();
    row.extend(optional(server.cpu_untold.is_none().then_some([server.user_ns, server.system_ns])));
    row.extend([client.user_ns, client.system_ns].map(of_client));
    row.extend(
        [server.copies.user_to_user_bytes, server.copies.user_to_kernel_bytes]
            .map(|number| number.to_string()),
    );
    row.extend([client.copies.kernel_to_user_bytes, client.copies.user_to_user_bytes].map(of_client));
    let counts = server.zero_copy.map(|counts| {
        let ZeroCopyCounts {
            sends,
            sent_bytes,
            completions,
            notifications,
            copied,
            copied_bytes,
            enobufs,
            ..
        } = counts;
        [sends, sent_bytes, completions, notifications, copied, copied_bytes, enobufs]
    });
    row.extend(optional(counts));
    let round_trips = client.round_trips.as_ref();
    row.extend(optional(round_trips.map(|round_trips| [round_trips.sum_ns, round_trips.max_ns])));
    row.push(round_trips.map_or_else(String::new, |round_trips| {
        let mut coarse: Vec<(u64, u64)> = Vec::new();
        for &(value_ns, count) in &round_trips.histogram {
            let value_ns = coarsened(value_ns);
            match coarse.last_mut() {
                Some((last, sum)) if *last == value_ns => *sum = sum.saturating_add(count),
                _ => coarse.push((value_ns, count)),
            }
        }
        let entries = coarse.iter().map(|(value_ns, count)| format!("{value_ns}x{count}"));
        entries.collect::<Vec<_>>().join(" ")
    }));
    for readings in [&server.counters, &client.counters] {
        for event in <Event as VariantArray>::VARIANTS {
            row.extend(optional(match readings.get(event) {
                Some(&Reading::Counted { value, enabled_ns, running_ns }) => {
                    Some([value, enabled_ns, running_ns])
                }
                _ => None,
            }));
        }
    }
    let seen =
        client.seen.map(|Seen { old_bytes, new_bytes, late_bytes }| [old_bytes, new_bytes, late_bytes]);
    row.extend(optional(seen));
    let maps = receiver == Receiver::Mmap;
    row.extend(optional(maps.then_some([client.copies.mapped_bytes])));
    row
}

/// What was measured, of the columns after those of the case.
fn later_measures(sample: &Sample) -> Vec<String> {
    let bound = sample.server.zero_copy.and_then(|counts| counts.copied_is_bound());
    let [segments] = optional(sample.server.retransmitted_segments.map(|segments| [segments]));
    vec![bound.map_or_else(String::new, |bound| bound.to_string()), segments]
}

/// A round trip to eight significant bits, the middle of what they hold: within 0.4 %, and a file a quarter as
/// long. Sums and longest round trips stand beside it, exact.
fn coarsened(value_ns: u64) -> u64 {
    let dropped = (u64::BITS - value_ns.leading_zeros()).saturating_sub(8);
    if dropped == 0 { value_ns } else { (value_ns >> dropped << dropped) + (1 << (dropped - 1)) }
}

fn optional<const N: usize>(numbers: Option<[u64; N]>) -> [String; N] {
    numbers.map_or_else(|| [const { String::new() }; N], |numbers| numbers.map(|number| number.to_string()))
}

/// Checks that a header has each column in its place, and no other.
///
/// # Errors
/// The column that is not known, missing or out of its place.
pub fn check_header(header: &StringRecord) -> Result<(), String> {
    let mut expected = columns();
    // As long as one from before the last columns, and not for want of another column.
    let is_older = |length: usize| {
        header.len() == length && header.iter().next_back() == expected.get(length - 1).map(String::as_str)
    };
    if row_lengths().any(is_older) {
        expected.truncate(header.len());
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
    let names = &NAMES;
    if row_lengths().all(|length| length != row.len()) {
        return Err(format!("{} columns instead of {}", row.len(), names.len()));
    }
    let all = || Fields(names.iter().map(String::as_str).zip(row.iter().chain(repeat(""))));
    let mut fields = all();
    let (generation, round, position) = (fields.number()?, fields.number()?, fields.number()?);
    let control = fields.parse(|word| match word {
        "case" => Ok(false),
        "control" => Ok(true),
        _ => Err("neither case nor control"),
    })?;
    let mut later = Fields(all().0.skip(*LATER_OF_CASE));
    let (shape, engine, copy_below_bytes) = (
        later.parse(|text| if text.is_empty() { Ok(Shape::default()) } else { text.parse::<Shape>() })?,
        later.parse(|text| if text.is_empty() { Ok(Engine::default()) } else { Engine::parse(text) })?,
        later.parse(|text| match text {
            "" => Ok::<_, CaseError>(DEFAULT_COPY_BELOW_BYTES),
            text => parse_bytes(text),
        })?,
    );
    let case = Case {
        workload: fields.parse(Workload::parse)?,
        path: fields.parse(SendPath::parse)?,
        layout: fields.parse(Layout::parse)?,
        payload_bytes: fields.parse(parse_payload_bytes)?,
        threads: fields.parse(parse_threads)?,
        placement: fields.parse(Placement::parse)?,
        receiver: fields.parse(Receiver::parse)?,
        source: fields.parse(Source::parse)?,
        shape,
        engine,
        copy_below_bytes,
    };
    if case.copy_below_bytes != DEFAULT_COPY_BELOW_BYTES && !case.path.has_threshold() {
        let Case { path, copy_below_bytes, .. } = case;
        return Err(format!(
            "copy_below_bytes \"{copy_below_bytes}\": path {path} has no threshold: it has to be empty"
        ));
    }
    let timed = fields.parse(|word| match word {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("neither 0 nor 1"),
    })?;
    let (_, error) = fields.next();
    let outcome = if error.is_empty() {
        let mut sample = fields.sample(&case)?;
        later.later_measures(&case, &mut sample)?;
        Ok(sample)
    } else {
        Err(error.to_owned())
    };
    Ok(Record { generation, round, position, arm: Arm { case, control }, timed, outcome })
}

/// The fields of a row that are still to be read, with their names.
struct Fields<I>(I);

impl<'row, I: Iterator<Item = (&'row str, &'row str)>> Fields<I> {
    fn next(&mut self) -> (&'row str, &'row str) {
        // The row was held to its length before.
        self.0.next().unwrap_or_default()
    }

    fn parse<T, E: std::fmt::Display>(&mut self, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, String> {
        let (name, text) = self.next();
        parse(text).map_err(|error| format!("{name} {text:?}: {error}"))
    }

    fn number(&mut self) -> Result<u64, String> {
        self.parse(whole)
    }

    /// A number of the client's: where nobody receives, nothing may stand there.
    fn of_client(&mut self, case: &Case) -> Result<u64, String> {
        if case.receiver != Receiver::Sink {
            return self.number();
        }
        self.parse(|text| if text.is_empty() { Ok(0) } else { Err("nobody receives: it has to be empty") })
    }

    /// Numbers that stand together, or are empty together.
    fn numbers<const N: usize>(&mut self) -> Result<Option<[u64; N]>, String> {
        let mut numbers = [None; N];
        for number in &mut numbers {
            *number = self.parse(|text| if text.is_empty() { Ok(None) } else { whole(text).map(Some) })?;
        }
        match numbers.iter().flatten().count() {
            0 => Ok(None),
            _ if numbers.iter().all(Option::is_some) => Ok(Some(numbers.map(Option::unwrap_or_default))),
            _ => Err("of columns that belong together, some are empty".to_owned()),
        }
    }

    fn sample(&mut self, case: &Case) -> Result<Sample, String> {
        let [start_ns, elapsed_ns, drain_ns, messages, pairs_ns] =
            [self.number()?, self.number()?, self.number()?, self.number()?, self.number()?];
        if elapsed_ns == 0 || messages == 0 {
            return Err("elapsed_ns or messages is 0, in a row without an error".to_owned());
        }
        let server_cpu: Option<[u64; 2]> = self.numbers()?;
        let [user_ns, system_ns] = server_cpu.unwrap_or_default();
        let cpu_untold = server_cpu.is_none().then(|| "the row has no CPU time of the server".to_owned());
        let mut server = SideReport { drain_ns, user_ns, system_ns, cpu_untold, ..SideReport::default() };
        let mut client = SideReport {
            start_ns,
            end_ns: start_ns.saturating_add(elapsed_ns),
            pairs_ns,
            user_ns: self.of_client(case)?,
            system_ns: self.of_client(case)?,
            ..SideReport::default()
        };
        server.copies = Copies {
            user_to_user_bytes: self.number()?,
            user_to_kernel_bytes: self.number()?,
            ..Copies::default()
        };
        client.copies = Copies {
            kernel_to_user_bytes: self.of_client(case)?,
            user_to_user_bytes: self.of_client(case)?,
            ..Copies::default()
        };
        server.zero_copy = self.numbers()?.map(
            |[sends, sent_bytes, completions, notifications, copied, copied_bytes, enobufs]| ZeroCopyCounts {
                sends,
                sent_bytes,
                completions,
                notifications,
                copied,
                copied_bytes,
                enobufs,
                stacked: false,
            },
        );
        server.copies.deferred_bytes = server.zero_copy.map_or(0, |counts| counts.copied_bytes);
        let sums = self.numbers()?;
        let histogram = self.parse(histogram)?;
        client.round_trips = sums.map(|[sum_ns, max_ns]| {
            // Of a study that kept no histogram, the sum is over all messages.
            let counted = histogram.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
            let count = if histogram.is_empty() { messages } else { counted };
            RoundTrips { sum_ns, count, max_ns, histogram }
        });
        server.counters = self.counters()?;
        client.counters = self.counters()?;
        client.seen = self.numbers()?.map(|[old_bytes, new_bytes, late_bytes]| Seen {
            old_bytes,
            new_bytes,
            late_bytes,
        });
        let mapped: Option<[u64; 1]> = self.numbers()?;
        client.copies.mapped_bytes = mapped.map_or(0, |[bytes]| bytes);
        Ok(Sample { elapsed_ns, messages, pairs: case.threads as u64, server, client })
    }

    /// Reads what [`later_measures`] writes into `sample`.
    fn later_measures(&mut self, case: &Case, sample: &mut Sample) -> Result<(), String> {
        let bound = self.parse(|text| match text {
            "" => Ok(None),
            text => CopiedBound::from_str(text).map(Some),
        })?;
        if let Some(counts) = &mut sample.server.zero_copy {
            // Rows from before this column do not say which kernel it was: a bound is never wrong.
            counts.stacked = bound
                .map_or(counts.completions > 0 && case.engine != Engine::Syscall, |bound| {
                    bound == CopiedBound::Upper
                });
        }
        sample.server.retransmitted_segments = self.numbers()?.map(|[segments]| segments);
        Ok(())
    }

    fn counters(&mut self) -> Result<Readings, String> {
        let mut readings = Readings::new();
        for &event in <Event as VariantArray>::VARIANTS {
            if let Some([value, enabled_ns, running_ns]) = self.numbers()? {
                readings.insert(event, Reading::Counted { value, enabled_ns, running_ns });
            }
        }
        Ok(readings)
    }
}

fn whole(text: &str) -> Result<u64, &'static str> {
    u64::from_str(text).map_err(|_| "not a whole number")
}

fn histogram(text: &str) -> Result<Vec<(u64, u64)>, &'static str> {
    let entry = |entry: &str| {
        let (value_ns, count) = entry.split_once('x').ok_or("not a list of valuexcount")?;
        Ok((whole(value_ns)?, whole(count)?))
    };
    text.split_whitespace().map(entry).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
    }

    #[test]
    fn a_sweep_from_before_the_last_columns_is_read_without_them() {
        let mut header = columns();
        let mut expected = record();
        for group in LAST_COLUMNS.into_iter().rev() {
            header.truncate(header.len() - group.len());
            assert_eq!(check_header(&StringRecord::from(header.clone())), Ok(()));
            let mut cells = write(&record());
            cells.truncate(header.len());
            let sample = expected.outcome.as_mut().unwrap();
            if group.contains(&"seen_old_bytes") {
                sample.client.seen = None;
            }
            if group.contains(&"retransmitted_segments") {
                sample.server.retransmitted_segments = None;
            }
            assert_eq!(read(&StringRecord::from(cells)), Ok(expected.clone()));
        }
        header.pop();
        assert!(check_header(&StringRecord::from(header)).is_err());
    }

    #[test]
    fn shape_engine_and_threshold_stand_in_every_row() {
        let mut record = record();
        let end = |record: &Record| write(record)[*LATER_OF_CASE..][..3].join(" ");
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
