//! The CPUs that pairs are dealt to, in the order in which they are used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::case::{CaseError, Placement};
use crate::in_order::distinct;
use crate::sample::Side;

/// A core, with those of its CPUs (SMT siblings) that may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredCore")]
pub struct Core {
    /// The NUMA node that it is on.
    pub node: usize,
    /// Its CPUs by the kernel's numbers, in ascending order.
    pub cpus: Vec<usize>,
}

/// Earlier versions stored CPUs without their cores.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredCore {
    Cpu(usize),
    Core { node: usize, cpus: Vec<usize> },
}

impl From<StoredCore> for Core {
    fn from(stored: StoredCore) -> Self {
        match stored {
            StoredCore::Cpu(cpu) => Self { node: 0, cpus: vec![cpu] },
            StoredCore::Core { node, cpus } => Self { node, cpus },
        }
    }
}

/// The CPUs that this process uses. Pairs fill cores before siblings: the first CPU of every core
/// comes before the second CPU of any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Core>", into = "Vec<Core>")]
pub struct Cpus {
    cores: Vec<Core>,
    /// All CPUs, in the order in which pairs are dealt to them.
    dealt: Vec<usize>,
    /// The server's and the client's CPU of each pair under [`Placement::Split`], until they
    /// repeat.
    split: Vec<(usize, usize)>,
}

impl From<Vec<Core>> for Cpus {
    fn from(mut cores: Vec<Core>) -> Self {
        cores.retain(|core| !core.cpus.is_empty());
        cores.sort_by_key(|core| (core.node, core.cpus[0]));
        let all: Vec<_> = cores.iter().collect();
        let (dealt, split) = (ranks(&all).concat(), split(&all));
        Self { cores, dealt, split }
    }
}

impl From<Cpus> for Vec<Core> {
    fn from(cpus: Cpus) -> Self {
        cpus.cores
    }
}

impl Cpus {
    /// The first `most` of these CPUs, and at least one, if there is one.
    #[must_use]
    pub fn at_most(self, most: usize) -> Self {
        let kept = &self.dealt[..most.max(1).min(self.dealt.len())];
        let mut cores = self.cores;
        for core in &mut cores {
            core.cpus.retain(|cpu| kept.contains(cpu));
        }
        cores.into()
    }

    /// The CPUs by the kernel's numbers, in the order in which pairs are dealt to them.
    pub fn numbers(&self) -> &[usize] {
        &self.dealt
    }

    /// The same as they are printed: `0,2,4`.
    pub(super) fn list(&self) -> String {
        list(&self.dealt)
    }

    /// The CPUs on which one end of pair number `pair` runs.
    ///
    /// # Errors
    /// [`CaseError`] where the placement needs more CPUs than there are.
    pub fn place(&self, placement: Placement, side: Side, pair: usize) -> Result<&[usize], CaseError> {
        if self.dealt.is_empty() {
            return Err(CaseError::NoCpu);
        }
        match placement {
            Placement::Free => Ok(&self.dealt),
            Placement::Paired => Ok(std::slice::from_ref(&self.dealt[pair % self.dealt.len()])),
            Placement::Split if self.split.is_empty() => Err(CaseError::OneCpu),
            Placement::Split => {
                let (server, client) = &self.split[pair % self.split.len()];
                Ok(std::slice::from_ref(match side {
                    Side::Server => server,
                    Side::Client => client,
                }))
            }
        }
    }

    /// Says in words where pairs run.
    pub fn describe(&self, placement: Placement) -> String {
        match placement {
            Placement::Paired => {
                format!("paired: both ends of a pair on one CPU, dealt from {}", list(&self.dealt))
            }
            Placement::Split if self.split.is_empty() => "split: impossible on one CPU".to_owned(),
            Placement::Split => {
                let (servers, clients): (Vec<_>, Vec<_>) = self.split.iter().copied().unzip();
                let siblings = match self.cores.len() {
                    1 => ", which are siblings of one core: what one does slows the other",
                    _ => "",
                };
                let (servers, clients) = (distinct(servers), distinct(clients));
                format!("split: servers on {}, clients on {}{siblings}", list(&servers), list(&clients))
            }
            Placement::Free => format!("free: any of {}", list(&self.dealt)),
        }
    }
}

/// The first CPU of every core, then the second of every core that has one, and so on.
fn ranks(cores: &[&Core]) -> Vec<Vec<usize>> {
    let most = cores.iter().map(|core| core.cpus.len()).max().unwrap_or(0);
    (0..most).map(|rank| cores.iter().filter_map(|core| core.cpus.get(rank).copied()).collect()).collect()
}

/// Cuts the cores into halves, one for the servers and one for the clients; on every node by itself
/// where the node has two cores, so that a pair's two ends share their memory.
fn split(cores: &[&Core]) -> Vec<(usize, usize)> {
    if let [core] = cores {
        let (servers, clients) = core.cpus.split_at(core.cpus.len() / 2);
        return together(servers, clients);
    }
    let mut nodes: BTreeMap<usize, Vec<&Core>> = BTreeMap::new();
    for &core in cores {
        nodes.entry(core.node).or_default().push(core);
    }
    let (mut groups, alone): (Vec<_>, Vec<_>) = nodes.into_values().partition(|cores| cores.len() > 1);
    // A node's only core joins those of other nodes; one that finds no other is left out.
    let alone = alone.concat();
    if alone.len() > 1 {
        groups.push(alone);
    }
    let halves: Vec<_> = groups.iter().map(|cores| cores.split_at(cores.len() / 2)).collect();
    let halves: Vec<_> = halves.iter().map(|(servers, clients)| (ranks(servers), ranks(clients))).collect();
    let most = halves.iter().map(|(servers, clients)| servers.len().max(clients.len())).max().unwrap_or(0);
    let pairs = |rank: usize| {
        halves.iter().filter(move |halves| rank < halves.0.len().max(halves.1.len())).flat_map(
            move |(servers, clients)| {
                // Where cores are unlike, one half may have no CPU of this rank: its last one
                // serves again.
                let of = |half: &'_ [Vec<usize>]| half[rank.min(half.len() - 1)].clone();
                together(&of(servers), &of(clients))
            },
        )
    };
    (0..most).flat_map(pairs).collect()
}

/// Joins each of the longer list with one of the shorter, which repeats.
fn together(servers: &[usize], clients: &[usize]) -> Vec<(usize, usize)> {
    if servers.is_empty() || clients.is_empty() {
        return Vec::new();
    }
    let most = servers.len().max(clients.len());
    (0..most).map(|pair| (servers[pair % servers.len()], clients[pair % clients.len()])).collect()
}

/// CPUs as they are printed: `0,2,4`.
fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(cores: &[(usize, &[usize])]) -> Cpus {
        let core = |&(node, cpus): &(usize, &[usize])| Core { node, cpus: cpus.to_vec() };
        cores.iter().map(core).collect::<Vec<_>>().into()
    }

    /// The one CPU of each end, for the first `pairs` pairs.
    fn placed(cpus: &Cpus, placement: Placement, pairs: usize) -> Vec<(usize, usize)> {
        let place = |side, pair| match cpus.place(placement, side, pair).unwrap() {
            [cpu] => *cpu,
            other => panic!("{other:?}"),
        };
        (0..pairs).map(|pair| (place(Side::Server, pair), place(Side::Client, pair))).collect()
    }

    #[test]
    fn pairs_fill_cores_before_siblings_however_those_are_numbered() {
        let apart = cpus(&[(0, &[0, 2]), (0, &[1, 3])]);
        assert_eq!(placed(&apart, Placement::Paired, 5), [(0, 0), (1, 1), (2, 2), (3, 3), (0, 0)]);
        let adjacent = cpus(&[(0, &[0, 1]), (0, &[2, 3])]);
        assert_eq!(placed(&adjacent, Placement::Paired, 4), [(0, 0), (2, 2), (1, 1), (3, 3)]);
        assert_eq!(adjacent.numbers(), [0, 2, 1, 3]);
    }

    #[test]
    fn split_never_puts_a_pair_on_siblings_while_there_are_two_cores() {
        let apart = cpus(&[(0, &[0, 2]), (0, &[1, 3])]);
        assert_eq!(placed(&apart, Placement::Split, 3), [(0, 1), (2, 3), (0, 1)]);
        let adjacent = cpus(&[(0, &[0, 1]), (0, &[2, 3])]);
        assert_eq!(placed(&adjacent, Placement::Split, 3), [(0, 2), (1, 3), (0, 2)]);
        // Two cores with two CPUs and one with a single CPU, as hybrid machines have them.
        let hybrid = cpus(&[(0, &[0, 1]), (0, &[2, 3]), (0, &[4])]);
        assert_eq!(placed(&hybrid, Placement::Split, 4), [(0, 2), (0, 4), (1, 3), (0, 2)]);
        let unlike = cpus(&[(0, &[0, 1]), (0, &[2])]);
        assert_eq!(placed(&unlike, Placement::Split, 3), [(0, 2), (1, 2), (0, 2)]);
        assert_eq!(apart.describe(Placement::Split), "split: servers on 0,2, clients on 1,3");
    }

    #[test]
    fn split_keeps_the_two_ends_of_a_pair_on_one_node() {
        let two_nodes = cpus(&[(0, &[0, 4]), (0, &[1, 5]), (1, &[2, 6]), (1, &[3, 7])]);
        assert_eq!(placed(&two_nodes, Placement::Split, 5), [(0, 1), (2, 3), (4, 5), (6, 7), (0, 1)]);
        // A node with one core has no other way than to another node, or is left out.
        assert_eq!(placed(&cpus(&[(0, &[0]), (1, &[1])]), Placement::Split, 2), [(0, 1), (0, 1)]);
        let uneven = cpus(&[(0, &[0]), (0, &[1]), (1, &[2])]);
        assert_eq!(placed(&uneven, Placement::Split, 2), [(0, 1), (0, 1)]);
    }

    #[test]
    fn split_of_a_single_core_uses_its_siblings_and_says_so() {
        let core = cpus(&[(0, &[0, 2])]);
        assert_eq!(placed(&core, Placement::Split, 2), [(0, 2), (0, 2)]);
        let text = core.describe(Placement::Split);
        assert!(text.starts_with("split: servers on 0, clients on 2, which are siblings"), "{text}");
    }

    #[test]
    fn split_of_one_cpu_is_refused() {
        let one = cpus(&[(0, &[7])]);
        let error = one.place(Placement::Split, Side::Server, 0).unwrap_err();
        assert_eq!(error, CaseError::OneCpu);
        assert_eq!(one.describe(Placement::Split), "split: impossible on one CPU");
        assert_eq!(placed(&one, Placement::Paired, 2), [(7, 7), (7, 7)]);
    }

    #[test]
    fn cores_of_one_cpu_each_are_cut_in_halves() {
        let three = cpus(&[(0, &[0]), (0, &[1]), (0, &[2])]);
        assert_eq!(placed(&three, Placement::Split, 3), [(0, 1), (0, 2), (0, 1)]);
        assert_eq!(three.describe(Placement::Split), "split: servers on 0, clients on 1,2");
    }

    #[test]
    fn free_leaves_every_cpu_open() {
        let both = cpus(&[(0, &[0]), (0, &[1])]);
        assert_eq!(both.place(Placement::Free, Side::Client, 3).unwrap(), [0, 1]);
    }

    #[test]
    fn fewer_cpus_are_the_first_ones_in_the_same_order_and_at_least_one() {
        let four = cpus(&[(0, &[0, 1]), (0, &[2, 3])]);
        assert_eq!(four.clone().at_most(3).numbers(), [0, 2, 1]);
        assert_eq!(four.clone().at_most(0).numbers(), [0]);
        assert_eq!(four.clone().at_most(9), four);
    }

    #[test]
    fn they_are_read_back_as_they_were_written_and_from_files_that_have_no_cores() {
        let four = cpus(&[(0, &[0, 1]), (1, &[2, 3])]);
        let text = serde_json::to_string(&four).unwrap();
        assert_eq!(serde_json::from_str::<Cpus>(&text).unwrap(), four);
        let earlier: Cpus = serde_json::from_str("[3, 5]").unwrap();
        assert_eq!(earlier, cpus(&[(0, &[3]), (0, &[5])]));
    }
}
