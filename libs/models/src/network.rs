//! A network ready to compute: its layers, its parameters and what they cost.

use nn::{DeadAxes, FeatureShape, LayerCost, LayerGates, Observer, Params, Pass, Policy, gpu};
use tch::{Device, Kind, Tensor};

use crate::ModelError;
use crate::config::ClipShape;
use crate::flops::CostModel;

/// The layers of one family of networks.
pub(crate) trait Backbone: std::fmt::Debug + Send {
    /// Logits `[n, k]` of clips `[n, 3, t, h, w]`.
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor;

    /// Cost of each layer for one clip of this shape; dynamic layers in the order in which clips pass them.
    fn trace(&self, clip: FeatureShape) -> Vec<LayerCost>;
}

/// How batch norms behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// True: the batch's own statistics, recorded. False: the running ones.
    pub train: bool,
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Forward {
    /// `[n, k]`.
    pub logits_nk: Tensor,
    /// Weights of the options of every dynamic layer, in the order of [`CostModel::dynamic_layers`]; empty for a plain
    /// backbone. They carry gradients where the policy is [`Policy::Soft`].
    pub gates: Vec<LayerGates>,
}

impl Forward {
    /// Over layers and clips, how often all options of an axis had weight 0.
    pub fn dead_axes(&self) -> usize {
        self.gates.iter().map(|gates| gates.dead_axes.count()).sum()
    }

    /// The same as one float on `device`, without waiting for it.
    pub fn dead_axes_on(&self, device: Device) -> Tensor {
        let counted = |gates: &LayerGates| if let DeadAxes::Counted(count) = gates.dead_axes { count } else { 0 };
        let counted: usize = self.gates.iter().map(counted).sum();
        let start = Tensor::full([0_i64; 0], counted as f64, (Kind::Float, device));
        self.gates.iter().fold(start, |sum, gates| match &gates.dead_axes {
            DeadAxes::Counted(_) => sum,
            DeadAxes::OnDevice(count) => sum + count,
        })
    }
}

/// A network with its parameters.
#[derive(Debug)]
pub struct Network {
    pub(crate) backbone: Box<dyn Backbone>,
    pub(crate) params: Params,
    pub(crate) costs: CostModel,
}

impl Network {
    /// Computes logits.
    ///
    /// # Shape
    /// `[n, 3, t, h, w]` to `[n, classes]`; `t`, `h` and `w` may differ from the clip shape the network was made for.
    ///
    /// # Panics
    /// If the input has another shape, or if a [`Policy::Fixed`] plan does not fit (see [`CostModel::check_plan`]).
    pub fn forward(&self, x_ncthw: &Tensor, mode: Mode, policy: &Policy) -> Forward {
        self.forward_pass(x_ncthw, Pass::new(mode.train, policy))
    }

    /// [`Network::forward`] with all that a pass may be told, the seed of dropout masks for one.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn forward_pass(&self, x_ncthw: &Tensor, mut pass: Pass) -> Forward {
        let x_ncthw = gpu::enter(x_ncthw, pass.precision);
        let logits_nk = self.backbone.forward_t(&x_ncthw, &mut pass);
        Forward { logits_nk, gates: pass.gates }
    }

    /// [`Network::forward`] under the eyes of an observer, who is told of every layer of [`CostModel::layers`] by its name.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn forward_observed(
        &self,
        x_ncthw: &Tensor,
        (mode, policy): (Mode, &Policy),
        observer: &mut dyn Observer,
    ) -> Forward {
        self.forward_pass(x_ncthw, Pass { observer: Some(observer), ..Pass::new(mode.train, policy) })
    }

    /// Multiply-adds at the clip shape that the network was made for.
    pub fn costs(&self) -> &CostModel {
        &self.costs
    }

    /// Multiply-adds at another clip shape.
    ///
    /// # Errors
    /// If the shape is out of bounds, or too short for the network.
    pub fn costs_at(&self, clip: ClipShape) -> Result<CostModel, ModelError> {
        CostModel::traced(self.backbone.as_ref(), clip)
    }

    /// Parameters and buffers, sorted by name, and the batch-norm statistics.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Flat copy of the last training batch's statistics; see [`Params::norm_statistics`].
    pub fn norm_statistics(&self) -> Tensor {
        self.params.norm_statistics()
    }

    /// Moves the running statistics; see [`Params::apply_norm_statistics`].
    pub fn apply_norm_statistics(&self, statistics: &Tensor, momentum: f64) {
        self.params.apply_norm_statistics(statistics, momentum);
    }
}
