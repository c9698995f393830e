//! All trained parameters in one piece of memory, and the one vector that a step sums over lanes.

use std::ops::Range;

use models::{Network, Param, Role};
use tch::Tensor;

/// Parameters begin at multiples of this many elements: 64 bytes, as libtorch aligns what it allocates itself.
const ALIGN: i64 = 16;

/// Parameters that the optimiser treats alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Weights: with decay.
    Weight,
    /// Norms, biases and cheap kernels: without decay. (A cheap kernel begins as a copy of what it reads; decay would fade it.)
    Plain,
    /// Matrices of gates: at the gates' rate, with a decay of their own.
    GateWeight,
    /// Norms and β of gates: at the gates' rate.
    GatePlain,
}

impl Group {
    fn of(param: &Param) -> Self {
        match param.role {
            Role::Weight => Self::Weight,
            Role::Gate if param.tensor.dim() > 1 => Self::GateWeight,
            Role::Gate => Self::GatePlain,
            Role::NormOrBias | Role::Cheap | Role::Buffer => Self::Plain,
        }
    }
}

/// One trained parameter and its place.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    pub(crate) group: Group,
    pub(crate) range: Range<i64>,
    /// Place in the order in which clips pass the layers.
    pub(crate) made: usize,
}

/// The trained parameters of a network, moved into one vector that the layers go on to use.
#[derive(Debug)]
pub(crate) struct FlatParams {
    /// The vector; gaps between parameters hold 0.
    pub(crate) values: Tensor,
    /// In the vector's order: by group, then by name.
    pub(crate) entries: Vec<Entry>,
    /// Where each group lies.
    pub(crate) groups: Vec<(Group, Range<i64>)>,
}

impl FlatParams {
    /// Moves the parameters of `network`: from here on each is a view of the vector.
    pub(crate) fn take(network: &Network) -> Self {
        let mut params: Vec<&Param> = network.params().trained().collect();
        params.sort_by_key(|param| Group::of(param));
        let mut groups: Vec<(Group, Range<i64>)> = Vec::new();
        let mut entries = Vec::with_capacity(params.len());
        let mut end = 0;
        for param in params {
            let numel = param.tensor.numel() as i64;
            let range = end..end + numel;
            end = (range.end + ALIGN - 1) / ALIGN * ALIGN;
            match groups.last_mut() {
                Some((group, place)) if *group == Group::of(param) => place.end = end,
                _ => groups.push((Group::of(param), range.start..end)),
            }
            entries.push(Entry {
                name: param.name.clone(),
                tensor: param.tensor.shallow_clone(),
                group: Group::of(param),
                range,
                made: param.made,
            });
        }
        let like =
            entries.first().map_or((tch::Kind::Float, tch::Device::Cpu), |e| (e.tensor.kind(), e.tensor.device()));
        let values = Tensor::zeros([end], like);
        tch::no_grad(|| entries.iter_mut().for_each(|entry| entry.move_into(&values)));
        Self { values, entries, groups }
    }

    /// Length of the vector.
    pub(crate) fn len(&self) -> i64 {
        self.values.size()[0]
    }

    /// The parameters as inputs of a backward pass.
    pub(crate) fn tensors(&self) -> Vec<&Tensor> {
        self.entries.iter().map(|entry| &entry.tensor).collect()
    }

    /// Lays gradients (one a parameter, undefined where the loss does not depend on it) out as [`FlatParams::values`] is,
    /// and appends `rest`.
    pub(crate) fn lay_out(&self, gradients: &[Tensor], rest: &[Tensor]) -> Tensor {
        let zeros = Tensor::zeros([self.longest()], (self.values.kind(), self.values.device()));
        let mut parts = Vec::with_capacity(2 * gradients.len() + rest.len());
        let starts = self.entries.iter().skip(1).map(|entry| entry.range.start).chain([self.len()]);
        for ((entry, gradient), next) in self.entries.iter().zip(gradients).zip(starts) {
            let numel = entry.range.end - entry.range.start;
            parts.push(if gradient.defined() { gradient.reshape([numel]) } else { zeros.narrow(0, 0, numel) });
            if next > entry.range.end {
                parts.push(zeros.narrow(0, 0, next - entry.range.end));
            }
        }
        parts.extend(rest.iter().map(Tensor::shallow_clone));
        Tensor::cat(&parts, 0)
    }

    fn longest(&self) -> i64 {
        self.entries.iter().map(|entry| entry.range.end - entry.range.start).max().unwrap_or(0).max(ALIGN)
    }
}

/// The piece of a vector laid out as [`FlatParams::values`], in the same memory.
pub(crate) fn part(vector: &Tensor, range: &Range<i64>) -> Tensor {
    vector.narrow(0, range.start, range.end - range.start)
}

impl Entry {
    fn move_into(&mut self, values: &Tensor) {
        let mut place = part(values, &self.range).view_as(&self.tensor);
        place.copy_(&self.tensor);
        // The layer's own handle shares this tensor's inside: it moves with it.
        self.tensor.set_data(&place);
    }
}
