//! How the cases of a matrix become Criterion's charts: which stand together, and by what ids.

use sendpath::case::{Axes, Case, Cell, Matrix, Placement, Series, Workload};

/// What stands on a chart's x axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChartAxis {
    /// A chart for each number of pairs, over payload sizes.
    PayloadBytes,
    /// A chart for each payload size, over numbers of pairs: of round trips, which a stream lacks.
    Threads,
}

impl ChartAxis {
    /// Where a case stands on the axis, in an id: `K064`, or `04` pairs. Criterion sorts ids as
    /// texts, and its charts have room for some twenty letters.
    pub fn id(self, cell: Cell) -> String {
        match self {
            Self::PayloadBytes => size_id(cell.payload_bytes),
            Self::Threads => format!("{:02}", cell.threads),
        }
    }

    /// The axis along which there is a chart for each value.
    fn other(self) -> Self {
        match self {
            Self::PayloadBytes => Self::Threads,
            Self::Threads => Self::PayloadBytes,
        }
    }
}

/// A size in an id: the unit and three digits, as in `B064`, `K256` and `M001`, and decimals where
/// the size is no multiple of the unit. The order of such texts is the order of the sizes.
fn size_id(bytes: usize) -> String {
    let (letter, unit) = match bytes {
        0..1000 => ('B', 1),
        1000..1_024_000 => ('K', 1 << 10),
        _ => ('M', 1 << 20),
    };
    let decimals = (bytes % unit) as f64 / f64::from(unit as u32);
    let decimals = if decimals > 0.0 { decimals.to_string() } else { String::new() };
    format!("{letter}{:03}{}", bytes / unit, decimals.trim_start_matches('0'))
}

/// A line's name, as in `zero/page`, or `zero/page/uring`.
pub fn line_id(series: Series) -> String {
    let path = series.path.to_string();
    format!("{}/{}{}", path.trim_end_matches("_copy"), series.layout, series.departures())
}

/// The cases of one chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the cases have in common, as in `04` pairs or `K064`; what departs from the default
    /// axes follows.
    pub name: String,
    /// Series after series, each along the x axis.
    pub cases: Vec<Case>,
}

/// A matrix that is drawn over one of its axes.
#[derive(Clone, Debug)]
pub struct Charts {
    /// What stands on the x axis.
    pub x: ChartAxis,
    /// What is drawn.
    pub matrix: Matrix,
}

impl Charts {
    /// Over sizes, at 1 and 4 pairs.
    pub fn by_size() -> Self {
        Self { x: ChartAxis::PayloadBytes, matrix: Matrix::by_size() }
    }

    /// Over 1 to 8 pairs, at 64 KiB.
    pub fn by_threads() -> Self {
        Self { x: ChartAxis::Threads, matrix: Matrix::by_threads() }
    }

    /// Replaces each axis that `axes` sets.
    pub fn overridden(self, axes: &Axes) -> Self {
        Self { matrix: self.matrix.overridden(axes), ..self }
    }

    /// Whether they can show `workload`.
    pub fn can_time(&self, workload: Workload) -> bool {
        self.x == ChartAxis::PayloadBytes || workload == Workload::Rr
    }

    /// The charts, in the order of the cells.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<(String, Vec<Cell>)> = Vec::new();
        for cell in self.matrix.cells().into_iter().filter(|cell| self.can_time(cell.workload)) {
            let name = self.name(cell);
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, cells)) => cells.push(cell),
                None => groups.push((name, vec![cell])),
            }
        }
        let lines = |cells: &[Cell]| {
            let line = |series: &Series| cells.iter().map(|cell| cell.case(*series)).collect::<Vec<_>>();
            self.matrix.series.iter().flat_map(line).collect()
        };
        groups.into_iter().map(|(name, cells)| Group { name, cases: lines(&cells) }).collect()
    }

    /// The name of the chart that a cell is in.
    fn name(&self, cell: Cell) -> String {
        let mut name = self.x.other().id(cell);
        if cell.workload != Workload::Rr {
            name = format!("{name}/{}", cell.workload);
        }
        if cell.placement != Placement::Paired {
            name = format!("{name}/{}", cell.placement);
        }
        name + &cell.situation().departures()
    }
}
