//! What a sweep measures, and in what order: pure.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use strum::{Display, EnumMessage, EnumString, IntoStaticStr, VariantArray};

use crate::case::{Axes, Cell, Engine, Layout, Matrix, Receiver, SendPath, Series, Source};
use crate::error::Result;
use crate::in_order::distinct;
use crate::pair::buffer_bytes;
use crate::results::record::Arm;
use crate::results::store::{OnlyIn, Plan};
use crate::sample::Side;

/// A named choice of cases.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Display, EnumMessage, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Profile {
    /// 64 B to 1 MiB at 1 pair, to a receiver and the sender alone; 64 and 256 KiB at 4 pairs; the
    /// sender alone with cold data, and on huge pages. Four series in 17 cells, a fifth in 3 of
    /// them.
    Quick,
    /// 8 to 64 KiB at 4 pairs, 64 KiB at 6 to 12 pairs: 27 cases.
    StudyA,
    /// 64 B to 4 KiB at 1 to 8 pairs: 48 cases.
    StudyB,
    /// The studied paths in everything: both layouts, both workloads, all placements.
    Full,
    /// 64 B to 1 MiB at 1 pair, to a receiver and the sender alone: the ways to send without a
    /// copy, against those with one. Eight series in 14 cells, a ninth in 3 of them.
    ZeroCopy,
}

impl Profile {
    /// What it consists of.
    pub(crate) fn matrices(self) -> Vec<Matrix> {
        let heap: Vec<Series> = SendPath::STUDIED.map(|path| Series::new(path, Layout::Heap)).into();
        let base = Matrix::by_size();
        match self {
            Self::Quick => {
                let payload_bytes = vec![64, 1 << 10, 8 << 10, 64 << 10, 256 << 10, 1 << 20];
                let received = Matrix { payload_bytes, threads: vec![1], ..base };
                // The minute is short. More pairs change how long all takes, and hardly which path
                // is the fastest: two sizes show that. The time goes to the sender alone, whose
                // threshold depends on where its data lie.
                let payload_bytes = vec![64 << 10, 256 << 10];
                let pairs = Matrix { payload_bytes, threads: vec![4], ..received.clone() };
                let alone = Matrix { receivers: vec![Receiver::Sink], ..received.clone() };
                // On pages of their own, the smaller the fields, the more memory a cold set takes.
                let payload_bytes = vec![16 << 10, 64 << 10, 256 << 10];
                let cold = Matrix { payload_bytes, sources: vec![Source::Cold], ..alone.clone() };
                vec![received, pairs, alone, cold]
            }
            Self::StudyA => {
                let base = Matrix { series: heap, ..base };
                // In steps of 16 KiB, as it asks for a crossing.
                let sizes = vec![8 << 10, 16 << 10, 32 << 10, 48 << 10, 64 << 10];
                vec![
                    Matrix { payload_bytes: sizes, threads: vec![4], ..base.clone() },
                    Matrix { payload_bytes: vec![64 << 10], threads: vec![6, 8, 10, 12], ..base },
                ]
            }
            Self::StudyB => vec![Matrix {
                series: heap,
                payload_bytes: vec![64, 256, 1024, 4096],
                threads: vec![1, 2, 4, 8],
                ..base
            }],
            Self::Full => {
                let both =
                    |heap: &Series| [Layout::Heap, Layout::Page].map(|layout| Series { layout, ..*heap });
                vec![Matrix {
                    series: heap.iter().flat_map(both).collect(),
                    payload_bytes: vec![64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 262_144, 1_048_576],
                    threads: vec![1, 2, 4, 8],
                    workloads: VariantArray::VARIANTS.to_vec(),
                    placements: VariantArray::VARIANTS.to_vec(),
                    ..base
                }]
            }
            Self::ZeroCopy => {
                let page = Series::new(SendPath::ZeroCopy, Layout::Page);
                let series = vec![
                    heap[0],
                    heap[1],
                    heap[1].by(Engine::Uring),
                    page,
                    page.by(Engine::Uring),
                    page.by(Engine::UringFixed),
                    Series::new(SendPath::Splice, Layout::Page),
                    Series::new(SendPath::File, Layout::Heap),
                ];
                vec![Matrix {
                    series,
                    payload_bytes: vec![64, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20],
                    threads: vec![1],
                    receivers: vec![Receiver::Buffer, Receiver::Sink],
                    ..base
                }]
            }
        }
    }

    /// Its series, the baseline first, its cells, and which series stand in some of them alone;
    /// `axes` take the place of its own.
    pub(crate) fn measured(self, axes: &Axes) -> (Vec<Series>, Vec<Cell>, Vec<OnlyIn>) {
        // What is asked of the sender alone besides is not asked where receivers, sizes or shapes
        // are given by name.
        let is_given =
            !(axes.receivers.is_empty() && axes.payload_bytes.is_empty() && axes.shapes.is_empty());
        let is_besides = |matrix: &Matrix| matrix.sources != [Source::default()];
        let matrices = self.matrices().into_iter().filter(|matrix| !is_given || !is_besides(matrix));
        let matrices: Vec<Matrix> = matrices.map(|matrix| matrix.overridden(axes)).collect();
        let (mut series, cells) = (matrices[0].series.clone(), cells(&matrices));
        // The plainest is the baseline, wherever it was named.
        series.sort_by_key(|series| *series != Series::new(SendPath::TwoCopy, Layout::Heap));
        let names_series = !(axes.paths.is_empty() && axes.layouts.is_empty() && axes.engines.is_empty());
        let huge = Self::on_huge_pages(&cells);
        if !matches!(self, Self::Quick | Self::ZeroCopy) || is_given || names_series || huge.cells.is_empty()
        {
            return (series, cells, Vec::new());
        }
        series.push(huge.series);
        (series, cells, vec![huge])
    }

    /// The cells in which huge pages make fewer fragments of a message than ordinary ones by more
    /// than a packet has, and in which that is not hidden by a receiver or by the time that memory
    /// takes.
    fn on_huge_pages(cells: &[Cell]) -> OnlyIn {
        let fits = |cell: &&Cell| {
            cell.receiver == Receiver::Sink && cell.source == Source::Hot && cell.payload_bytes >= 64 << 10
        };
        OnlyIn {
            series: Series::new(SendPath::ZeroCopy, Layout::Huge),
            cells: cells.iter().filter(fits).copied().collect(),
        }
    }

    /// How long it takes by default, in seconds.
    pub(crate) fn default_seconds(self) -> u64 {
        match self {
            Self::Full => 1800,
            Self::ZeroCopy => 300,
            Self::Quick | Self::StudyA | Self::StudyB => 60,
        }
    }
}

/// The cells of all matrices, each once, in order.
pub(crate) fn cells(matrices: &[Matrix]) -> Vec<Cell> {
    distinct(matrices.iter().flat_map(Matrix::cells))
}

/// What is measured in a cell: each series, and the baseline once more as the control.
pub(crate) fn arms(plan: &Plan, cell: Cell) -> Vec<Arm> {
    let arm = |series: Series| Arm { case: cell.case(series), control: false };
    let control = Arm { control: true, ..arm(plan.series[0]) };
    plan.series_of(cell).map(arm).chain([control]).collect()
}

/// Cells whose instances are open at once: so many that a second passes between the first visit of
/// one and its last.
const GROUP_CELLS: usize = 6;
/// Pairs that are open at once, over all arms. Each is a thread, a connection and a buffer on both
/// sides.
const GROUP_PAIRS: usize = 160;
/// Memory of the messages and buffers that are open at once.
const GROUP_BYTES: usize = 1 << 30;

/// Cuts `cells` into groups whose instances are open at once, and which are visited in turn. `arms`
/// are those of a cell.
///
/// # Errors
/// As [`buffer_bytes`].
pub(crate) fn groups<T: Clone>(cells: &[T], arms: impl Fn(&T) -> Vec<Arm>) -> Result<Vec<Vec<T>>> {
    let weight = |cell: &T| {
        arms(cell).into_iter().map(|arm| arm.case).try_fold((0, 0), |(pairs, bytes), case| {
            let both = buffer_bytes(&case, Side::Server)? + buffer_bytes(&case, Side::Client)?;
            Result::Ok((pairs + case.threads, bytes + both))
        })
    };
    // As many in each group as in the others, give or take one.
    let most = cells.len().div_ceil(cells.len().div_ceil(GROUP_CELLS).max(1)).max(1);
    let mut groups: Vec<Vec<T>> = Vec::new();
    let mut open = (0, 0);
    for cell in cells {
        let (pairs, bytes) = weight(cell)?;
        let fits = |group: &&mut Vec<T>| {
            group.len() < most && open.0 + pairs <= GROUP_PAIRS && open.1 + bytes <= GROUP_BYTES
        };
        if let Some(group) = groups.last_mut().filter(fits) {
            group.push(cell.clone());
            open = (open.0 + pairs, open.1 + bytes);
        } else {
            groups.push(vec![cell.clone()]);
            open = (pairs, bytes);
        }
    }
    Ok(groups)
}

/// The random orders of one generation: the same whenever the sweep is made again with its seed.
pub(crate) fn orders(seed: u64, generation: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(generation);
    rng
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;

    use super::*;

    #[test]
    fn the_studies_have_as_many_cases_as_they_had() {
        let cases = |profile: Profile| {
            let matrices = profile.matrices();
            cells(&matrices).len() * matrices[0].series.len()
        };
        assert_eq!((cases(Profile::StudyA), cases(Profile::StudyB)), (27, 48));
        assert_eq!(cases(Profile::Quick), (6 + 2 + 6 + 3) * 4);
        assert_eq!(cases(Profile::Full), 10 * 4 * 2 * 3 * 6);
    }

    #[test]
    fn the_ways_without_a_copy_stand_against_two_copy_by_system_calls() {
        let [matrix] = &Profile::ZeroCopy.matrices()[..] else { panic!("one matrix") };
        assert_eq!(matrix.series[0], Series::new(SendPath::TwoCopy, Layout::Heap));
        assert!(matrix.series.iter().all(|series| series.check().is_ok()));
        assert_eq!((matrix.series.len(), cells(std::slice::from_ref(matrix)).len()), (8, 14));
    }

    #[test]
    fn full_and_quick_have_the_studied_paths_alone() {
        for profile in [Profile::Quick, Profile::StudyA, Profile::StudyB, Profile::Full] {
            for series in profile.matrices().iter().flat_map(|matrix| &matrix.series) {
                assert!(SendPath::STUDIED.contains(&series.path), "{profile}: {series}");
                assert_eq!(*series, Series::new(series.path, series.layout), "{profile}");
                assert_ne!(series.layout, Layout::Huge, "{profile}");
            }
        }
    }

    #[test]
    fn the_minute_asks_of_the_sender_alone_with_cold_data_and_on_huge_pages() {
        let (series, cells, only_in) = Profile::Quick.measured(&Axes::default());
        let of = |receiver, source, threads| {
            let is_one =
                |cell: &&Cell| (cell.receiver, cell.source, cell.threads) == (receiver, source, threads);
            cells.iter().filter(is_one).map(|cell| cell.payload_bytes >> 10).collect::<Vec<_>>()
        };
        assert_eq!(of(Receiver::Buffer, Source::Hot, 1), [0, 1, 8, 64, 256, 1024]);
        assert_eq!(of(Receiver::Buffer, Source::Hot, 4), [64, 256]);
        assert_eq!(of(Receiver::Sink, Source::Hot, 1), [0, 1, 8, 64, 256, 1024]);
        assert_eq!(of(Receiver::Sink, Source::Cold, 1), [16, 64, 256]);
        let [OnlyIn { series: huge, cells: of_huge }] = &only_in[..] else { panic!("one series") };
        assert_eq!(series.last(), Some(huge));
        assert_eq!(of_huge.iter().map(|cell| cell.payload_bytes >> 10).collect::<Vec<_>>(), [64, 256, 1024]);
        let plan = Plan { profile: String::new(), seed: 7, precision: 0.01, series, cells, only_in };
        let arms: usize = plan.cells.iter().map(|cell| arms(&plan, *cell).len()).sum();
        assert!(arms <= 90, "more than a minute has time for: {arms}");
    }

    #[test]
    fn what_is_asked_for_by_name_takes_the_place_of_what_the_minute_asks_besides() {
        let receivers = |receiver| Axes { receivers: vec![receiver], ..Axes::default() };
        let (_, cells, only_in) = Profile::Quick.measured(&receivers(Receiver::Fields));
        assert_eq!((cells.len(), only_in.len()), (8, 0));
        assert!(cells.iter().all(|cell| cell.receiver == Receiver::Fields && cell.source == Source::Hot));
        for axes in [
            Axes { paths: vec![SendPath::TwoCopy, SendPath::ZeroCopy], ..Axes::default() },
            Axes { layouts: vec![Layout::Heap], ..Axes::default() },
            Axes { payload_bytes: vec![64, 64 << 10], ..Axes::default() },
        ] {
            let (series, cells, only_in) = Profile::Quick.measured(&axes);
            assert!(only_in.is_empty() && series.iter().all(|series| series.layout != Layout::Huge));
            // Of 64 B from memory, each field on a page of its own, the set would take gigabytes.
            let from_memory = cells.iter().any(|cell| cell.source == Source::Cold);
            assert_eq!(from_memory, axes.payload_bytes.is_empty());
        }
        let (_, cells, _) = Profile::Quick.measured(&Axes { sources: vec![Source::Cold], ..Axes::default() });
        assert!(cells.iter().all(|cell| cell.source == Source::Cold));
    }

    #[test]
    fn every_cell_has_the_baseline_twice() {
        let matrices = Profile::StudyA.matrices();
        let (cells, series) = (cells(&matrices), matrices[0].series.clone());
        let plan = Plan {
            profile: "study-a".to_owned(),
            seed: 7,
            precision: 0.01,
            series,
            cells,
            only_in: Vec::new(),
        };
        for &cell in &plan.cells {
            let arms = arms(&plan, cell);
            assert_eq!(arms.len(), 4);
            assert_eq!(arms.iter().filter(|arm| arm.case == arms[0].case).count(), 2);
            assert!(arms[3].control && !arms[0].control);
        }
    }

    #[test]
    fn groups_hold_every_cell_once_and_no_more_than_may_be_open() {
        let matrices = Profile::Full.matrices();
        let (cells, series) = (cells(&matrices)[..18].to_vec(), Matrix::by_size().series);
        let mut plan =
            Plan { profile: "full".to_owned(), seed: 7, precision: 0.01, series, cells, only_in: Vec::new() };
        let all: Vec<usize> = (0..plan.cells.len()).collect();
        let sizes = |plan: &Plan, cells: &[usize]| {
            groups(cells, |&cell| arms(plan, plan.cells[cell]))
                .unwrap()
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(sizes(&plan, &all), [6, 6, 6]);
        assert_eq!(sizes(&plan, &all[..7]), [4, 3]);
        assert_eq!(sizes(&plan, &[]), [0; 0]);
        assert_eq!(groups(&all, |&cell| arms(&plan, plan.cells[cell])).unwrap().concat(), all);
        for cell in &mut plan.cells {
            cell.threads = 64;
        }
        assert_eq!(sizes(&plan, &all[..3]), [1, 1, 1], "one is always let in");
    }

    #[test]
    fn a_seed_gives_the_same_orders_again_and_each_generation_its_own() {
        let order = |seed, generation| {
            let mut items: Vec<u32> = (0..20).collect();
            items.shuffle(&mut orders(seed, generation));
            items
        };
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }
}
