//! The sentences below the headline: each is made of the data, and names the rows that it rests on.

use super::fragment_cost;
use super::glance::{self, Decided};
use super::page::Claim;
use super::settle;
use super::trust;
use super::winners::best_of;
use super::words::{self, Copied, Reception, Ways, case_row, comparison_row};
use crate::case::{Layout, Receiver, SendPath, Series};
use crate::format::{list, share, size};
use crate::in_order::{distinct, grouped};
use crate::results::analysis::{Analysis, ArmResult, CPU_TIME_IS_NOT_WHOLE, CellResult};
use crate::results::cost_model::Fit;
use crate::results::decision::{Choice, Standing, comparisons, standing_in, versus};
use crate::results::ladder::Ladder;
use crate::results::load::Load;
use crate::results::manifest::{Manifest, cpu_time_is_whole};
use crate::results::metric::Metric;
use crate::results::summary;
use crate::results::summary::injections;
use crate::results::verdict::Verdict;

/// What all answers are made of.
pub(super) struct Facts<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) analysis: &'a Analysis,
    /// Of the series that all cells have.
    pub(super) ladders: &'a [Ladder<'a>],
    /// Of all series.
    pub(super) all_ladders: &'a [Ladder<'a>],
    pub(super) fits: &'a [(&'a Ladder<'a>, Series, Option<Fit>)],
    pub(super) ways: &'a Ways,
}

fn is_alone(ladder: &Ladder<'_>) -> bool {
    ladder.situation.receiver == Receiver::Sink
}

pub(super) fn claim(text: impl Into<String>) -> Claim {
    Claim { text: text.into(), rows: Vec::new() }
}

/// What the kernel did with the sends of some series: `zero_copy: 100 % copied; zero_copy, page: 0
/// % copied`.
fn each_copied(series: impl Iterator<Item = (Series, Copied)>) -> String {
    let each = series.map(|(series, copied)| format!("{}: {copied}", words::plain(series)));
    each.collect::<Vec<_>>().join("; ")
}

impl Facts<'_> {
    /// The series whose sends bear `MSG_ZEROCOPY`. Of one that failed everywhere there is nothing
    /// to say.
    fn zero_copy_series(&self) -> Vec<Series> {
        let failed = |series: Series| {
            let mut arms = self.arms().filter(|arm| arm.arm.case.series() == series);
            arms.all(|arm| arm.error.is_some() && arm.bursts == 0)
        };
        let all = self.manifest.plan.series.iter().copied();
        all.filter(|series| series.path.is_zero_copy() && !failed(*series)).collect()
    }

    /// Whether the path `zero_copy` was measured, however.
    fn has_zero_copy(&self) -> bool {
        self.manifest.plan.series.iter().any(|series| series.path == SendPath::ZeroCopy)
    }

    pub(super) fn arms(&self) -> impl Iterator<Item = &ArmResult> {
        self.analysis.arms()
    }

    /// What made the machine busy; none where it was quiet, or was not looked at.
    fn busy_with(&self) -> Option<String> {
        self.manifest.load.as_ref().and_then(Load::busy_with)
    }

    /// What the kernel did with the sends of each `zero_copy` series.
    fn copied(&self) -> Vec<(Series, Copied)> {
        let of = |series| Copied::of(self.arms().filter(move |arm| arm.arm.case.series() == series));
        self.zero_copy_series().into_iter().map(|series| (series, of(series))).collect()
    }

    /// Every receiver with every source and shape that were measured together, in the order of the
    /// plan. What is said of one does not hold of another.
    fn receptions(&self) -> Vec<Reception> {
        distinct(self.analysis.cells.iter().map(|cell| Reception::of(cell.cell)))
    }

    /// The cells of one receiver, source and shape.
    fn received_by(&self, reception: Reception) -> Vec<&CellResult> {
        let of = |cell: &&CellResult| Reception::of(cell.cell) == reception;
        self.ladders.iter().flat_map(|ladder| &ladder.cells).copied().filter(of).collect()
    }

    /// A ladder's name, and in a sweep that has both ways, which of them it is.
    fn ladder_with_way(&self, ladder: &Ladder<'_>) -> String {
        let name = words::ladder(ladder);
        if is_alone(ladder) {
            name
        } else {
            name.replacen(')', &format!("{})", self.ways.suffix(ladder.situation.receiver)), 1)
        }
    }

    /// What the kernel did with `MSG_ZEROCOPY` sends; none where there were none.
    fn copied_sentence(&self) -> Option<String> {
        let copied = self.copied();
        let &(_, first) = copied.first()?;
        Some(match first {
            _ if copied.iter().any(|(_, other)| *other != first) => {
                let each = each_copied(copied.into_iter());
                format!("What the kernel did with MSG_ZEROCOPY sends: {each}.")
            }
            Copied::Unknown => "Whether the kernel copied MSG_ZEROCOPY sends was not recorded.".to_owned(),
            copied @ Copied::Shares { .. } if copied.is_none() => {
                "None of the MSG_ZEROCOPY sends was copied.".to_owned()
            }
            copied @ Copied::Shares { .. } => {
                format!("The kernel copied {}.", copied.shares(" of the MSG_ZEROCOPY sends after all"))
            }
        })
    }

    /// What stands below the headline.
    pub(super) fn verdict(&self, decided: &[Decided<'_>]) -> Vec<Claim> {
        let claim_of = |(ladder, decision): &Decided<'_>| Claim {
            text: format!("With {}: {}.", self.ladder_with_way(ladder), glance::sentence(decision)),
            rows: ladder
                .cells
                .iter()
                .flat_map(|cell| comparisons(cell, Metric::Throughput))
                .map(comparison_row)
                .collect(),
        };
        let mut claims: Vec<Claim> = decided.iter().map(claim_of).collect();
        // What a quiet machine would take says nothing of a busy one.
        claims.extend(settled_by(decided).filter(|_| self.busy_with().is_none()).map(claim));
        claims.extend(self.copied_sentence().map(claim));
        if self.has_zero_copy() {
            claims.extend(self.receptions().into_iter().map(|reception| self.zero_copy_wins(reception)));
        }
        claims.extend(self.all_ladders.iter().filter_map(|ladder| self.on_huge_pages(ladder)));
        claims.extend(fragment_cost::claims(self.all_ladders));
        claims.push(self.control());
        claims.extend(injections(self.manifest).map(|text| {
            let of_sink = |arm: &&ArmResult| arm.arm.case.receiver == Receiver::Sink;
            Claim { text, rows: self.arms().filter(of_sink).map(|arm| case_row(arm.arm)).collect() }
        }));
        claims
    }

    /// What huge pages gain over the ordinary pages that `zero_copy` is best on, where both were
    /// measured.
    fn on_huge_pages(&self, ladder: &Ladder<'_>) -> Option<Claim> {
        let huge = Series::new(SendPath::ZeroCopy, Layout::Huge);
        let page = Series::new(SendPath::ZeroCopy, Layout::Page);
        let measured = ladder.cells.iter().filter_map(|cell| {
            let (ratio, verdict, comparison) = versus(cell, Metric::Throughput, huge, page)?;
            let verdict = Metric::Throughput.verdict(verdict, ratio, Metric::Throughput.margin());
            let text =
                format!("{} at {} ({verdict})", words::gain(ratio), size(cell.cell.payload_bytes as f64));
            Some((text, comparison_row(comparison)))
        });
        let (gains, rows): (Vec<String>, Vec<String>) = measured.unzip();
        let text = format!(
            "Where you send by zero_copy, put the data on huge pages (layout huge): a message then lies in a few fragments \
             and not in one for each page, which a card's driver saves most of. Against ordinary pages, {}: {}.",
            self.ladder_with_way(ladder),
            list(&gains)
        );
        (!gains.is_empty()).then_some(Claim { text, rows })
    }

    /// In how many cells a series of path `zero_copy` is better than every other path, to one
    /// receiver, of one source and shape.
    fn zero_copy_wins(&self, reception: Reception) -> Claim {
        let cells = self.received_by(reception);
        let (mut wins, mut judged, mut behind, mut plain) = (0, 0, 0, 0);
        for &cell in &cells {
            let (zero, others): (Vec<Series>, Vec<Series>) =
                cell.series().partition(|one| one.path == SendPath::ZeroCopy);
            let known = |one: Series| {
                others.iter().filter_map(move |&other| versus(cell, Metric::Throughput, one, other))
            };
            let standing = standing_in(cell, Metric::Throughput);
            let is_zero = |choice: Choice| choice.path == SendPath::ZeroCopy;
            wins += usize::from(matches!(standing, Some(Standing::Best { choice, .. }) if is_zero(choice)));
            judged += usize::from(zero.iter().any(|one| known(*one).next().is_some()));
            let best = |is_zero: bool| {
                Some(cell.arm(best_of(cell, SendPath::ZeroCopy, is_zero)?)?.throughput_gbps?.value)
            };
            if let (Some(zero), Some(other)) = (best(true), best(false)) {
                plain += 1;
                behind += usize::from(zero < other);
            }
        }
        let is_there = |series: &Series| cells.iter().any(|cell| cell.arm(*series).is_some());
        let copied = self.zero_copy_series().into_iter().filter(|one| one.path == SendPath::ZeroCopy);
        let copied = copied
            .filter(is_there)
            .map(|series| (series, Copied::of(cells.iter().filter_map(|cell| cell.arm(series)))));
        let given = self.ways.reception(reception);
        let mut text =
            format!("Zero-copy wins in {} of {} cells{given} ({}).", wins, cells.len(), each_copied(copied));
        if judged < cells.len() {
            text = format!(
                "{text} In {} of them there are too few repetitions for a verdict. By the plain numbers it is slower than the \
                 best other path in {behind} of {plain}.",
                cells.len() - judged
            );
        }
        let mut rows: Vec<String> = cells
            .iter()
            .flat_map(|cell| comparisons(cell, Metric::Throughput))
            .filter(|comparison| {
                [comparison.series.path, comparison.baseline.path].contains(&SendPath::ZeroCopy)
            })
            .map(comparison_row)
            .collect();
        if judged == 0 {
            let arms = cells.iter().flat_map(|cell| &cell.arms);
            rows = arms.map(|arm| case_row(arm.arm)).collect();
        }
        Claim { text, rows }
    }

    /// What the control arms say of the noise.
    fn control(&self) -> Claim {
        let is_control = |arm: &&ArmResult| arm.arm.control;
        Claim {
            text: summary::control(self.analysis),
            rows: self.arms().filter(is_control).map(|arm| case_row(arm.arm)).collect(),
        }
    }

    /// Whether some bursts carried counters and others were timed.
    pub(super) fn counted_apart(&self) -> bool {
        self.arms().any(|arm| arm.counted.messages > 0 && arm.bursts > 0)
    }

    /// Arms that failed, each once; those of a series that failed of one cause in several cells
    /// together.
    fn failures(&self) -> Vec<String> {
        let causes = self.arms().filter_map(|arm| Some(((arm.arm.case.series(), arm.error.as_ref()?), arm)));
        let text = |((series, error), arms): ((Series, &String), Vec<&ArmResult>)| match arms[..] {
            [one] => format!("{} failed: {error}", one.arm.case),
            _ => format!("{} failed in {} cells: {error}", words::plain(series), arms.len()),
        };
        grouped(causes).into_iter().map(text).collect()
    }

    /// What has to be known before any of it is believed.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(reason) = &self.manifest.no_sink {
            warnings.push(format!("The sender alone (receiver sink) was not measured: {reason}"));
        }
        if !cpu_time_is_whole(self.manifest) {
            warnings.push(format!("There is no verdict by CPU time: {CPU_TIME_IS_NOT_WHOLE}."));
        }
        warnings.extend(self.failures());
        let compared = trust::against_baseline(self.manifest, self.analysis);
        let all = compared.len();
        let undecided = compared.into_iter().filter(|verdict| *verdict == Some(Verdict::Undecided)).count();
        if undecided > 0 {
            let busy = self.manifest.load.and_then(|load| Some((load.busy_with()?, load.remedy())));
            let advice = match busy {
                Some((with, remedy)) => format!("the machine was busy ({with}). {remedy}."),
                None => "a longer sweep (--time) narrows their intervals. To go on with this one (--resume) is a second look, \
                         which has to be surer: it pays from about twice the time."
                    .to_owned(),
            };
            warnings.push(format!(
                "{undecided} of {all} comparisons with the baseline by throughput are undecided: {advice}"
            ));
        }
        warnings.extend(self.other_state());
        if self.manifest.program.dirty {
            warnings
                .push("The program was built from a tree with changes that were not committed.".to_owned());
        }
        warnings
    }
}

impl Facts<'_> {
    /// Which ratios of throughput were others in the machine's other state; none where there are
    /// none.
    fn other_state(&self) -> Option<String> {
        let found = trust::other_states(self.analysis);
        let away = |(_, usual, other): &trust::InOtherState<'_>| {
            (usual.effect.log_mean - other.effect.log_mean).abs()
        };
        let (comparison, usual, other) = found.iter().max_by(|one, two| away(one).total_cmp(&away(two)))?;
        let all = self.analysis.cells.iter().flat_map(|cell| comparisons(cell, Metric::Throughput)).count();
        Some(format!(
            "While the machine was {} ({} of the sweep's visits), {} of {all} ratios of throughput {}, which is not in the \
             estimates. The most: {} against {} at {}, {}, {}, was {} then, and is {} in the estimate.",
            if other.is_slower { "slower" } else { "faster" },
            share(other.share),
            found.len(),
            if found.len() == 1 { "was another" } else { "were others" },
            words::plain_in_calls(comparison.series),
            words::plain_in_calls(comparison.baseline),
            size(comparison.cell.payload_bytes as f64),
            words::connections(comparison.cell.threads),
            words::receiver_label(comparison.cell.receiver),
            words::gain(other.effect.ratio()),
            words::gain(usual.ratio)
        ))
    }
}

/// `A sweep with --size 8K --time 30s would settle what is undecided (an estimate from the spread
/// seen).`
fn settled_by(decided: &[Decided<'_>]) -> Option<String> {
    let options_of = |(ladder, decision): &Decided<'_>| {
        let open: Vec<(&CellResult, Vec<Series>)> = ladder
            .cells
            .iter()
            .filter_map(|&cell| match &decision.at(cell.cell.payload_bytes)?.standing {
                Standing::Close { choices, .. } | Standing::Open { choices } => {
                    Some((cell, cell.series().filter(|one| choices.contains(&Choice::of(*one))).collect()))
                }
                _ => None,
            })
            .collect();
        settle::options(&open.iter().map(|(cell, series)| (*cell, series.as_slice())).collect::<Vec<_>>())
    };
    let options: Vec<String> = glance::spoken_of(decided).into_iter().filter_map(options_of).collect();
    let sweeps = match &options[..] {
        [] => return None,
        [one] => format!("A sweep with {one}"),
        several => format!("Sweeps with {}", several.join(", and with ")),
    };
    Some(format!("{sweeps} would settle what is undecided (an estimate from the spread seen)."))
}
