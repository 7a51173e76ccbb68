//! How the benches' cases become charts, and by what ids.

#[path = "../../benches/support/charts.rs"]
mod charts;

use charts::{Charts, line_id};
use sendpath::case::{
    Axes, Case, Cell, Engine, Layout, MAX_PAYLOAD_BYTES, MIN_PAYLOAD_BYTES, Placement, Receiver, SendPath,
    Series, Source, Workload,
};

fn names(charts: &Charts) -> Vec<String> {
    charts.groups().into_iter().map(|group| group.name).collect()
}

#[test]
fn a_matrix_is_cut_into_charts_along_its_x_axis() {
    let by_size = Charts::by_size().groups();
    assert_eq!(names(&Charts::by_size()), ["01", "04"]);
    assert!(by_size.iter().all(|group| group.cases.len() == 4 * 9));
    let sizes: Vec<_> = by_size[1].cases[..3].iter().map(|case| (case.payload_bytes, case.threads)).collect();
    assert_eq!(sizes, [(64, 4), (256, 4), (1024, 4)]);

    let mut by_threads = Charts::by_threads();
    by_threads.matrix.workloads = vec![Workload::Rr, Workload::Stream];
    let groups = by_threads.groups();
    assert_eq!(groups.len(), 1, "a stream has no round trip");
    assert_eq!(groups[0].name, "K064");
    let threads: Vec<_> = groups[0].cases[..4].iter().map(|case| case.threads).collect();
    assert_eq!(threads, [1, 2, 4, 8]);
}

#[test]
fn several_sizes_over_threads_are_a_chart_each() {
    let mut by_threads = Charts::by_threads();
    by_threads.matrix.payload_bytes = vec![64, 4096];
    assert_eq!(names(&by_threads), ["B064", "K004"]);
    let threads: Vec<_> = by_threads.groups()[1].cases[..4].iter().map(|case| case.threads).collect();
    assert_eq!(threads, [1, 2, 4, 8]);
}

#[test]
fn a_line_is_named_in_few_letters() {
    let series = Series::new(SendPath::ZeroCopy, Layout::Page);
    assert_eq!(line_id(series), "zero/page");
    assert_eq!(line_id(series.by(Engine::Uring)), "zero/page/uring");
}

#[test]
fn sizes_in_ids_sort_as_the_sizes_do() {
    let x = Charts::by_size().x;
    let size_id = |payload_bytes: usize| x.id(Cell { payload_bytes, ..Case::default().cell() });
    let ids = [64, 999, 1000, 1024, 1500, 65536, 1000 << 10, 1 << 20, 16 << 20].map(size_id);
    assert_eq!(
        ids,
        ["B064", "B999", "K000.9765625", "K001", "K001.46484375", "K064", "M000.9765625", "M001", "M016"]
    );
    let mut last = String::new();
    for bytes in (MIN_PAYLOAD_BYTES..70_000).chain((70_000..=MAX_PAYLOAD_BYTES).step_by(997)) {
        let id = size_id(bytes);
        assert!(last < id, "{last} before {id}, which is {bytes} bytes");
        last = id;
    }
}

#[test]
fn the_ids_of_the_default_charts_sort_along_the_x_axis_and_are_short() {
    for charts in [Charts::by_size(), Charts::by_threads()] {
        let id = |case: &Case| format!("{}/{}", line_id(case.series()), charts.x.id(case.cell()));
        let groups = charts.groups();
        assert!(groups.is_sorted_by_key(|group| &group.name));
        for group in groups {
            for series in group.cases.chunk_by(|one, other| one.series() == other.series()) {
                assert!(series.iter().map(id).is_sorted(), "{:?}", group.name);
            }
            // Criterion's smallest chart has 94 pixels for a label: these letters, and up to
            // `rtt/` before them.
            assert!(group.cases.iter().all(|case| group.name.len() + 1 + id(case).len() <= 17));
        }
    }
}

#[test]
fn what_departs_from_the_default_axes_names_the_charts() {
    let axes = Axes {
        receivers: vec![Receiver::Buffer, Receiver::Discard],
        sources: vec![Source::Hot, Source::Cold],
        threads: vec![1],
        ..Axes::default()
    };
    assert_eq!(
        names(&Charts::by_size().overridden(&axes)),
        ["01", "01/cold", "01/discard", "01/discard/cold"]
    );
    let axes = Axes {
        workloads: vec![Workload::Stream],
        placements: vec![Placement::Split, Placement::Paired],
        threads: vec![1],
        ..Axes::default()
    };
    assert_eq!(names(&Charts::by_size().overridden(&axes)), ["01/stream/split", "01/stream"]);
}
