//! How a payload is cut into fields.
//!
//! | written | the fields |
//! |---|---|
//! | `equal` | eight equal ones, the last with the remainder: the studies' shape |
//! | `header` | 24 bytes, and the rest |
//! | `fields:16` | 1 to 64 equal ones, the last with the remainder |
//! | `24,512K` | of these sizes |
//! | `97x64\|3x24,512K` | messages of several shapes, so many of each: a trace |
//!
//! The last two bring their own payload sizes.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{CaseError, MAX_FIELDS, MAX_PAYLOAD_BYTES, parse_bytes};
use crate::format::exact_size;

/// The fields of [`Shape::Equal`].
const EQUAL_FIELDS: usize = 8;
/// The first field of [`Shape::Header`].
const HEADER_BYTES: usize = 24;
/// The most size lists of a trace, and the most messages that stand for it.
const TRACE_LISTS: usize = 32;
const TRACE_MESSAGES: usize = 256;

/// How a payload is cut into fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Shape {
    /// Eight equal fields.
    #[default]
    Equal,
    /// 24 bytes, and the rest.
    Header,
    /// So many equal fields.
    Fields(usize),
    /// Fields of these sizes, in bytes.
    Sizes(&'static [usize]),
    /// Messages of several shapes in turn: how many of each, and the sizes of their fields.
    Trace(&'static [(usize, Vec<usize>)]),
}

impl Shape {
    /// Reads several, with `;` between them: a list of sizes has commas of its own.
    ///
    /// # Errors
    /// As [`from_str`](Self::from_str); [`CaseError::EmptyList`]; [`CaseError::Repeated`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, CaseError> {
        super::parse_list(text, ';', str::parse)
    }

    /// The payload that the shape brings with it, in bytes; of a trace the mean. None where it is
    /// given beside it.
    pub fn own_payload_bytes(self) -> Option<usize> {
        match self {
            Self::Equal | Self::Header | Self::Fields(_) => None,
            Self::Sizes(sizes) => Some(sizes.iter().sum()),
            Self::Trace(_) => {
                let messages = self.messages(0);
                let all_bytes: usize = messages.iter().flatten().sum();
                Some((all_bytes + messages.len() / 2) / messages.len())
            }
        }
    }

    /// The sizes of the fields, in bytes, of each of the messages that are sent in turn: one, but
    /// for a trace.
    pub fn messages(self, payload_bytes: usize) -> Vec<Vec<usize>> {
        let equal = |fields: usize| {
            let mut sizes = vec![payload_bytes / fields; fields];
            sizes[fields - 1] += payload_bytes % fields;
            sizes
        };
        match self {
            Self::Equal => vec![equal(EQUAL_FIELDS)],
            Self::Header => vec![vec![HEADER_BYTES, payload_bytes.saturating_sub(HEADER_BYTES)]],
            Self::Fields(fields) => vec![equal(fields)],
            Self::Sizes(sizes) => vec![sizes.to_vec()],
            Self::Trace(lists) => spread(lists),
        }
    }

    /// The largest of its messages, in bytes.
    pub fn largest_bytes(self, payload_bytes: usize) -> usize {
        self.messages(payload_bytes).iter().map(|fields| fields.iter().sum()).max().unwrap_or_default()
    }

    /// Holds a payload to what the shape can hold: a byte in each field, and its own size where it
    /// has one.
    ///
    /// # Errors
    /// [`CaseError::ShapeAndSize`].
    pub fn check(self, payload_bytes: usize) -> Result<(), CaseError> {
        let least_bytes = match self {
            Self::Equal => EQUAL_FIELDS,
            Self::Header => HEADER_BYTES + 1,
            Self::Fields(fields) => fields,
            Self::Sizes(_) | Self::Trace(_) => self.own_payload_bytes().unwrap_or_default(),
        };
        let fits = match self.own_payload_bytes() {
            Some(own_bytes) => payload_bytes == own_bytes,
            None => payload_bytes >= least_bytes,
        };
        if fits { Ok(()) } else { Err(CaseError::ShapeAndSize { shape: self, payload_bytes, least_bytes }) }
    }
}

/// The messages of a trace, each list as often as its weight says and as evenly spread as can be.
fn spread(lists: &[(usize, Vec<usize>)]) -> Vec<Vec<usize>> {
    let counts = counts(lists);
    let mut places: Vec<(f64, usize)> = Vec::new();
    for (list, &count) in counts.iter().enumerate() {
        places.extend((0..count).map(|place| ((place as f64 + 0.5) / count as f64, list)));
    }
    places.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
    places.into_iter().map(|(_, list)| lists[list].1.clone()).collect()
}

/// How many messages stand for each list: the weights themselves where their sum is small, else by
/// their shares.
fn counts(lists: &[(usize, Vec<usize>)]) -> Vec<usize> {
    let weights: usize = lists.iter().map(|(weight, _)| weight).sum();
    let share = |weight: usize| (weight as f64 * TRACE_MESSAGES as f64 / weights as f64).round() as usize;
    lists.iter().map(|&(weight, _)| if weights <= TRACE_MESSAGES { weight } else { share(weight) }).collect()
}

impl FromStr for Shape {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self, CaseError> {
        let unknown = || CaseError::NotAShape(text.to_owned());
        if text == "equal" {
            return Ok(Self::Equal);
        }
        if text == "header" {
            return Ok(Self::Header);
        }
        if let Some(number) = text.strip_prefix("fields:") {
            return match number.parse() {
                Ok(EQUAL_FIELDS) => Ok(Self::Equal),
                Ok(fields @ 1..=MAX_FIELDS) => Ok(Self::Fields(fields)),
                _ => Err(unknown()),
            };
        }
        let sizes = |text: &str| {
            let sizes: Vec<usize> = text
                .split(',')
                .map(|size| parse_bytes(size.trim()))
                .collect::<Result<_, _>>()
                .map_err(|_| unknown())?;
            let all_bytes =
                sizes.iter().try_fold(0usize, |sum, &bytes| sum.checked_add(bytes)).ok_or_else(unknown)?;
            let fits = sizes.len() <= MAX_FIELDS && sizes.iter().all(|&bytes| bytes > 0);
            if fits && all_bytes <= MAX_PAYLOAD_BYTES { Ok(sizes) } else { Err(unknown()) }
        };
        if !text.contains('x') {
            return Ok(Self::Sizes(interned(&SIZES, sizes(text)?)));
        }
        let list = |text: &str| {
            let (weight, list) = text.split_once('x').ok_or_else(unknown)?;
            let weight = weight.trim().parse().ok().filter(|weight| (1..=1_000_000).contains(weight));
            Ok((weight.ok_or_else(unknown)?, sizes(list)?))
        };
        let lists: Vec<(usize, Vec<usize>)> = text.split('|').map(list).collect::<Result<_, CaseError>>()?;
        if lists.len() > TRACE_LISTS {
            return Err(unknown());
        }
        if counts(&lists).contains(&0) {
            return Err(CaseError::RareList(text.to_owned()));
        }
        Ok(Self::Trace(interned(&TRACES, lists)))
    }
}

impl fmt::Display for Shape {
    /// As it is written on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes =
            |sizes: &[usize]| sizes.iter().map(|&bytes| exact_size(bytes)).collect::<Vec<_>>().join(",");
        match self {
            Self::Equal => f.write_str("equal"),
            Self::Header => f.write_str("header"),
            Self::Fields(fields) => write!(f, "fields:{fields}"),
            Self::Sizes(list) => f.write_str(&sizes(list)),
            Self::Trace(lists) => {
                let lists = lists.iter().map(|(weight, list)| format!("{weight}x{}", sizes(list)));
                f.write_str(&lists.collect::<Vec<_>>().join("|"))
            }
        }
    }
}

impl From<Shape> for String {
    fn from(shape: Shape) -> Self {
        shape.to_string()
    }
}

impl TryFrom<String> for Shape {
    type Error = CaseError;

    fn try_from(text: String) -> Result<Self, CaseError> {
        text.parse()
    }
}

// A case is small and copied all over. So the lists that were given live as long as the program,
// each once.
static SIZES: Known<usize> = Mutex::new(BTreeSet::new());
static TRACES: Known<(usize, Vec<usize>)> = Mutex::new(BTreeSet::new());

/// The lists that were given.
type Known<T> = Mutex<BTreeSet<&'static Vec<T>>>;

fn interned<T: Ord>(known: &Known<T>, list: Vec<T>) -> &'static [T] {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.get(&list) {
        return found;
    }
    let list: &'static Vec<T> = Box::leak(Box::new(list));
    known.insert(list);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Shape {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["equal", "header", "fields:1", "fields:64", "24,512K", "97x64|3x24,512K", "1x8"] {
            assert_eq!(shape(text).to_string(), text);
            let json = serde_json::to_string(&shape(text)).unwrap();
            assert_eq!(serde_json::from_str::<Shape>(&json).unwrap(), shape(text));
        }
        assert_eq!(shape("fields:8"), Shape::Equal, "one name for one shape");
        assert_eq!(shape("24, 524288").to_string(), "24,512K");
    }

    #[test]
    fn what_is_no_shape_is_refused() {
        for text in [
            "",
            "round",
            "fields:",
            "fields:0",
            "fields:65",
            "0",
            "24,",
            "24,,8",
            "16M,1",
            "x8",
            "0x8",
            "2x",
            "1x8|",
        ] {
            assert!(text.parse::<Shape>().is_err(), "{text:?}");
        }
        let rare = "100000x64|1x512K".parse::<Shape>().unwrap_err();
        assert!(matches!(rare, CaseError::RareList(_)), "{rare}");
        assert!(vec!["1"; 65].join(",").parse::<Shape>().is_err());
    }

    #[test]
    fn the_fields_hold_the_payload() {
        assert_eq!(shape("equal").messages(83), [[10, 10, 10, 10, 10, 10, 10, 13]]);
        assert_eq!(shape("header").messages(100), [[24, 76]]);
        assert_eq!(shape("fields:3").messages(100), [[33, 33, 34]]);
        assert_eq!(shape("24,512K").own_payload_bytes(), Some(24 + (512 << 10)));
        for (text, least_bytes) in [("equal", 8), ("header", 25), ("fields:64", 64)] {
            assert!(shape(text).check(least_bytes).is_ok());
            assert!(shape(text).check(least_bytes - 1).is_err());
        }
    }

    #[test]
    fn a_trace_sends_each_list_by_its_weight_evenly_spread() {
        let trace = shape("3x64|1x24,512");
        let messages = trace.messages(0);
        assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 2, 1]);
        assert_eq!(trace.own_payload_bytes(), Some((3 * 64 + 536) / 4));
        assert_eq!(trace.largest_bytes(0), 536);
        let heavy = shape("900x64|100x1K").messages(0);
        assert_eq!(heavy.iter().filter(|fields| fields[0] == 1024).count(), 26, "a tenth of 256");
    }
}
