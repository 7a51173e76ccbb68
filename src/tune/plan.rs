//! What is looked for, and in which cases it is measured. Pure.

use std::fmt;

use super::{Question, Range};
use crate::case::{Cell, Engine, Layout, SendPath, Series, Shape};

/// The fields of a message in which a threshold for fields is looked for, but the last: these have
/// the size in question.
const EQUAL_FIELDS: usize = 7;
/// The last field: large enough that it is gathered, whatever the others are.
const LAST_FIELD_BYTES: usize = 64 << 10;
/// The largest field in question.
const MOST_FIELD_BYTES: usize = 32 << 10;

/// The shape of these messages, where S is the size in question.
pub const FIELD_SHAPE: &str = "S,S,S,S,S,S,S,64K";

/// What every way is held against.
pub fn baseline() -> Series {
    Series::new(SendPath::TwoCopy, Layout::Heap)
}

/// What is looked for in one line of the table: from which payload on a way is cheaper than
/// another; or the threshold of a hybrid way, from which size on a field is cheaper gathered than
/// copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The way that it is about.
    pub way: Series,
    /// What its payloads are held against; none where its fields are looked at.
    pub against: Option<Series>,
}

impl Line {
    /// What the way is held against, in words.
    pub fn against(self) -> String {
        self.against.map_or_else(|| "a copied field".to_owned(), |way| way.to_string())
    }

    /// The sizes that are looked at.
    ///
    /// # Errors
    /// As [`Range::check`].
    pub fn range(
        self,
        shape: Shape,
        from_bytes: Option<usize>,
        to_bytes: Option<usize>,
        precision: f64,
    ) -> crate::error::Result<Range> {
        let range = if self.against.is_some() {
            let least = if let Shape::Fields(fields) = shape { fields.max(64) } else { 64 };
            let (from_bytes, to_bytes) = (from_bytes.unwrap_or(least), to_bytes.unwrap_or(1 << 20));
            shape.check(from_bytes)?;
            Range { from_bytes, to_bytes, step_bytes: 8, precision }
        } else {
            let to_bytes = to_bytes.unwrap_or(MOST_FIELD_BYTES).min(MOST_FIELD_BYTES);
            Range { from_bytes: from_bytes.unwrap_or(64), to_bytes, step_bytes: 1, precision }
        };
        range.check()?;
        Ok(range)
    }

    /// How it is measured, where all but size and fields is as in `cell`.
    pub fn question(self, cell: Cell) -> Question {
        let Self { way, against } = self;
        if let Some(against) = against {
            let at = move |series: Series| {
                Box::new(move |payload_bytes| Cell { payload_bytes, ..cell }.case(series))
            };
            return Question { arm: at(way), baseline: at(against) };
        }
        let path = if way.path == SendPath::HybridZero { SendPath::ZeroCopy } else { SendPath::OneCopy };
        let gathered = Series { path, ..Series::new(path, way.layout).by(way.engine) };
        let copied = move |bytes| of_fields(cell, bytes).case(way.copying_below(bytes + 1));
        Question {
            arm: Box::new(move |bytes| of_fields(cell, bytes).case(gathered)),
            baseline: Box::new(copied),
        }
    }
}

impl fmt::Display for Line {
    /// As in `one_copy/heap against two_copy/heap`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, against } = self;
        match against {
            Some(against) => write!(f, "{way} against {against}"),
            None => write!(f, "{way}: a gathered field against a copied one"),
        }
    }
}

/// The cell whose messages have seven fields of `bytes` and a large one.
fn of_fields(cell: Cell, bytes: usize) -> Cell {
    let sizes: Vec<String> =
        [bytes; EQUAL_FIELDS].into_iter().chain([LAST_FIELD_BYTES]).map(|bytes| bytes.to_string()).collect();
    let shape = sizes.join(",").parse();
    let shape = shape.unwrap_or_else(|error| unreachable!("eight fields of some KiB are a shape: {error}"));
    Cell { payload_bytes: EQUAL_FIELDS * bytes + LAST_FIELD_BYTES, shape, ..cell }
}

/// What is looked for of some ways: of each, from which payload on it beats [`baseline`]; of one
/// that sends without a copy from which on it beats `one_copy`, too, if that is among them; and of
/// a hybrid its threshold.
pub fn lines(ways: &[Series]) -> Vec<Line> {
    let whole = || ways.iter().copied().filter(|way| !way.path.has_threshold() && *way != baseline());
    let mut lines: Vec<Line> = whole().map(|way| Line { way, against: Some(baseline()) }).collect();
    for way in whole().filter(|way| !matches!(way.path, SendPath::TwoCopy | SendPath::OneCopy)) {
        let gathers =
            |engine: Engine| whole().find(|other| other.path == SendPath::OneCopy && other.engine == engine);
        let against = gathers(way.engine).or_else(|| gathers(Engine::default()));
        lines.extend(against.map(|against| Line { way, against: Some(against) }));
    }
    lines.extend(ways.iter().filter(|way| way.path.has_threshold()).map(|&way| Line { way, against: None }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Case;

    fn way(path: SendPath, layout: Layout) -> Series {
        Series::new(path, layout)
    }

    #[test]
    fn what_sends_without_a_copy_is_held_against_what_gathers_as_well() {
        let (one, zero) = (way(SendPath::OneCopy, Layout::Heap), way(SendPath::ZeroCopy, Layout::Page));
        let hybrid = way(SendPath::Hybrid, Layout::Heap);
        let said: Vec<String> =
            lines(&[baseline(), one, zero, hybrid]).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "one_copy/heap against two_copy/heap",
                "zero_copy/page against two_copy/heap",
                "zero_copy/page against one_copy/heap",
                "hybrid/heap: a gathered field against a copied one",
            ]
        );
        assert_eq!(lines(&[zero]).len(), 1);
        assert_eq!(lines(&[baseline()]), []);
    }

    #[test]
    fn both_arms_of_a_question_have_one_cell_and_are_cases() {
        let cell = Case::default().cell();
        for path in
            [SendPath::OneCopy, SendPath::ZeroCopy, SendPath::Hybrid, SendPath::HybridZero, SendPath::Splice]
        {
            for line in lines(&[way(SendPath::OneCopy, Layout::Heap), way(path, Layout::Heap)]) {
                let Question { arm, baseline } = line.question(cell);
                let range = line.range(cell.shape, None, None, 0.1).unwrap();
                for bytes in [range.from_bytes, 1000, range.to_bytes] {
                    let (arm, baseline) = (arm(bytes), baseline(bytes));
                    assert_eq!(arm.cell(), baseline.cell());
                    assert_ne!(arm, baseline);
                    arm.check().unwrap();
                    baseline.check().unwrap();
                }
            }
        }
    }

    #[test]
    fn the_small_fields_of_a_hybrid_are_copied_and_the_large_one_is_not() {
        let line = Line { way: way(SendPath::HybridZero, Layout::Page), against: None };
        let Question { arm, baseline } = line.question(Case::default().cell());
        let (gathered, copied) = (arm(1500), baseline(1500));
        assert_eq!((gathered.path, gathered.layout), (SendPath::ZeroCopy, Layout::Page));
        assert_eq!((copied.path, copied.copy_below_bytes), (SendPath::HybridZero, 1501));
        let fields = copied.shape.messages(copied.payload_bytes);
        assert_eq!(fields, [[1500, 1500, 1500, 1500, 1500, 1500, 1500, 65536]]);
    }

    #[test]
    fn a_range_begins_where_the_shape_does() {
        let line = Line { way: way(SendPath::OneCopy, Layout::Heap), against: Some(baseline()) };
        let from = |shape: &str, from: Option<usize>| {
            line.range(shape.parse().unwrap(), from, None, 0.1).map(|range| range.from_bytes)
        };
        assert_eq!(from("header", None).unwrap(), 64);
        assert_eq!(from("fields:64", None).unwrap(), 64);
        assert!(from("header", Some(16)).is_err_and(|error| error.is_bad_input()));
        let error = line.range(Shape::Equal, Some(4096), Some(8192), 0.1).unwrap_err();
        assert!(error.is_bad_input() && error.to_string().contains("four times as large"), "{error}");
    }
}
