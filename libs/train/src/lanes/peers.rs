//! The sum over all lanes, whoever carries them: every addition happens in the place that the tree has for it.

use std::ops::Range;

use collective::Group;
use tch::{Device, Kind, Tensor};

use super::{Node, TreeSum};

/// The members of a group, and which sums each of them brings.
#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) group: Group,
    lanes: u32,
    /// Level and index of each member's nodes, by rank.
    nodes: Vec<Vec<(u32, u32)>>,
}

impl Peers {
    /// A group whose members carry these parts of the run's lanes, by rank.
    pub(crate) fn new(group: Group, parts: Vec<Range<u32>>, lanes: u32) -> Self {
        let nodes = parts.into_iter().map(|part| nodes_of(part, lanes)).collect();
        Self { group, lanes, nodes }
    }

    /// The sum over all lanes, from what each member has added up. Each member adds up one slice of the vector for all, so that
    /// with a lane a member as much travels as in a ring.
    pub(crate) fn sum(&mut self, own: TreeSum) -> Result<Tensor, collective::Error> {
        let own = own.into_nodes();
        let (world, most) = (self.nodes.len() as i64, self.nodes.iter().map(Vec::len).max().unwrap_or(0) as i64);
        let (len, options) = (own[0].sum.numel() as i64, (own[0].sum.kind(), own[0].sum.device()));
        let slice = (len + world - 1) / world;
        let to_each = Tensor::zeros([world, most, slice], options);
        for (at, node) in (0..).zip(&own) {
            let padded = node.sum.constant_pad_nd([0, world * slice - len]);
            to_each.select(1, at).copy_(&padded.view([world, slice]));
        }
        let from_each = self.group.all_to_all(&to_each)?;
        let mut sum = TreeSum::new(self.lanes);
        for (rank, nodes) in (0..).zip(&self.nodes) {
            for (at, (level, index)) in (0..).zip(nodes) {
                sum.push_node(Node { level: *level, index: *index, sum: from_each.get(rank).get(at) });
            }
        }
        let slice = sum.total().expect("the members carry lanes");
        Ok(self.group.all_gather(&slice)?.view(-1).narrow(0, 0, len))
    }
}

/// Level and index of what a member that carries these lanes adds up by itself.
fn nodes_of(part: Range<u32>, lanes: u32) -> Vec<(u32, u32)> {
    let mut sum = TreeSum::new(lanes);
    part.for_each(|lane| sum.push(lane, Tensor::zeros([0], (Kind::Float, Device::Cpu))));
    sum.into_nodes().into_iter().map(|node| (node.level, node.index)).collect()
}
