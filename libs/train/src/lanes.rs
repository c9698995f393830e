//! Sums over lanes in one fixed binary tree by lane number, so that the bits do not depend on who held which lane.

pub(crate) mod peers;

use std::ops::Range;

use tch::Tensor;

/// The sum of one aligned group of lanes: lanes `index · 2^level` up to, not including, `(index + 1) · 2^level`, as far as
/// the run has them.
#[derive(Debug)]
pub struct Node {
    /// 0 for a single lane.
    pub level: u32,
    /// Place among the nodes of its level.
    pub index: u32,
    /// The sum.
    pub sum: Tensor,
}

/// Adds lanes up, pair by pair: lane 0 with 1, 2 with 3, then those sums with each other, and so on.
///
/// With a number of lanes that is no power of two, a node whose sibling has no lanes takes its parent's place as it is.
/// Whoever holds lanes merges what is whole; what is left are the [`Node`]s that other workers' nodes complete.
#[derive(Debug)]
pub struct TreeSum {
    lanes: u32,
    nodes: Vec<Node>,
}

impl TreeSum {
    /// An empty sum in a run of so many lanes.
    pub fn new(lanes: u32) -> Self {
        Self { lanes, nodes: Vec::new() }
    }

    /// Adds a lane. Lanes come in rising order; the tensor is the sum's own from here on.
    ///
    /// # Panics
    /// If `lane` is not above all before it, or not one of the run's.
    pub fn push(&mut self, lane: u32, sum: Tensor) {
        self.push_node(Node { level: 0, index: lane, sum });
    }

    /// Adds a node that another worker made. Nodes come in the order of their lanes.
    ///
    /// # Panics
    /// If the node is not above all before it, or not in the run.
    pub fn push_node(&mut self, node: Node) {
        let (from, before) = (lanes_of(&node, self.lanes).start, self.nodes.last());
        let end = before.map_or(0, |last| lanes_of(last, self.lanes).end);
        assert!(from >= end && from < self.lanes, "lane {from} of {} after lane {end}", self.lanes);
        self.nodes.push(self.promote(node));
        while let Some((left, right)) = self.take_siblings() {
            let parent = Node { level: left.level + 1, index: left.index / 2, sum: add(left.sum, &right.sum) };
            self.nodes.push(self.promote(parent));
        }
    }

    /// What is whole so far: with all lanes the root alone.
    pub fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    /// The sum of all that was added, nothing if nothing was. The nodes that are left are added from the right, which is
    /// the tree's own order where all their lanes are there.
    pub fn total(self) -> Option<Tensor> {
        let mut nodes = self.nodes.into_iter().rev();
        let last = nodes.next()?.sum;
        Some(nodes.fold(last, |right, left| add(left.sum, &right)))
    }

    /// The two last nodes if they are the two children of one parent.
    fn take_siblings(&mut self) -> Option<(Node, Node)> {
        let [.., left, right] = self.nodes.as_slice() else { return None };
        if left.level != right.level || !left.index.is_multiple_of(2) || right.index != left.index + 1 {
            return None;
        }
        let right = self.nodes.pop()?;
        Some((self.nodes.pop()?, right))
    }

    /// Moves a left child up for as long as its sibling would begin after the run's last lane.
    fn promote(&self, mut node: Node) -> Node {
        let alone =
            |node: &Node| node.index.is_multiple_of(2) && first_lane(node.level, node.index + 1) >= self.lanes.into();
        while node.index > 0 && alone(&node) {
            (node.level, node.index) = (node.level + 1, node.index / 2);
        }
        node
    }
}

fn first_lane(level: u32, index: u32) -> u64 {
    u64::from(index) << level
}

fn lanes_of(node: &Node, lanes: u32) -> Range<u32> {
    let bound = |index| u32::try_from(first_lane(node.level, index)).unwrap_or(lanes).min(lanes);
    bound(node.index)..bound(node.index + 1)
}

/// `left + right`, in the memory of the left.
fn add(mut left: Tensor, right: &Tensor) -> Tensor {
    left.g_add_(right)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;

    /// A lane's vector whose sum depends on the order of its additions.
    fn lane_vector(lane: u32) -> Tensor {
        let x = Tensor::arange(64, (Kind::Float, Device::Cpu)) + f64::from(lane) * 1.7;
        x.sin() * 10f64.powi(lane as i32 % 5 - 2)
    }

    fn bits(tensor: &Tensor) -> Vec<u32> {
        Vec::<f32>::try_from(tensor).expect("one axis of floats").into_iter().map(f32::to_bits).collect()
    }

    /// The tree by its definition: split at the largest power of two below the number of lanes.
    fn by_definition(lanes: Range<u32>) -> Tensor {
        match lanes.len() as u32 {
            1 => lane_vector(lanes.start),
            n => {
                let middle = lanes.start + n.next_power_of_two() / 2;
                by_definition(lanes.start..middle) + by_definition(middle..lanes.end)
            }
        }
    }

    fn held_by(workers: &[Range<u32>], lanes: u32) -> Tensor {
        let mut all = TreeSum::new(lanes);
        for range in workers {
            let mut own = TreeSum::new(lanes);
            range.clone().for_each(|lane| own.push(lane, lane_vector(lane)));
            own.into_nodes().into_iter().for_each(|node| all.push_node(node));
        }
        let nodes = all.into_nodes();
        assert_eq!(nodes.len(), 1, "all lanes are there, so one root is left");
        nodes.into_iter().next().expect("one root").sum
    }

    proptest! {
        #[test]
        fn any_assignment_gives_the_bits_of_the_tree(lanes in 1_u32..40, cuts in prop::collection::vec(0_u32..40, 0..6)) {
            let mut bounds: Vec<u32> = cuts.into_iter().map(|cut| cut % lanes).chain([0, lanes]).collect();
            bounds.sort_unstable();
            let workers: Vec<Range<u32>> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
            prop_assert_eq!(bits(&held_by(&workers, lanes)), bits(&by_definition(0..lanes)));
        }

        #[test]
        fn one_worker_with_all_lanes_has_the_tree_as_its_total(lanes in 1_u32..70) {
            let mut sum = TreeSum::new(lanes);
            (0..lanes).for_each(|lane| sum.push(lane, lane_vector(lane)));
            prop_assert_eq!(bits(&sum.total().expect("lanes were added")), bits(&by_definition(0..lanes)));
        }

        #[test]
        fn two_workers_totals_add_up_to_the_tree_with_lanes_a_power_of_two(level in 1_u32..6) {
            let lanes = 1 << level;
            let total = |range: Range<u32>| {
                let mut sum = TreeSum::new(lanes);
                range.for_each(|lane| sum.push(lane, lane_vector(lane)));
                sum.total().expect("lanes were added")
            };
            let sum = total(0..lanes / 2) + total(lanes / 2..lanes);
            prop_assert_eq!(bits(&sum), bits(&by_definition(0..lanes)));
        }
    }

    #[test]
    fn the_order_matters_for_these_vectors() {
        let straight = (1..8).fold(lane_vector(0), |sum, lane| sum + lane_vector(lane));
        assert_ne!(bits(&straight), bits(&by_definition(0..8)));
    }

    #[test]
    #[should_panic(expected = "lane 1 of 4 after lane 3")]
    fn lanes_out_of_order_are_refused() {
        let mut sum = TreeSum::new(4);
        sum.push(2, lane_vector(2));
        sum.push(1, lane_vector(1));
    }

    #[test]
    fn nothing_has_no_total() {
        assert!(TreeSum::new(4).total().is_none());
    }
}
