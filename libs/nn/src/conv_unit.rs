//! A convolution, its batch norm and maybe a ReLU: what residual networks are made of.

use tch::Tensor;

use crate::macs::{FeatureShape, LayerCost};
use crate::{BatchNorm, BatchNormConfig, Conv, ConvConfig, DynamicConfig, DynamicConv, DynamicConvConfig, Pass, Scope};

/// Configuration of a [`ConvUnit`].
#[derive(Debug, Clone, Copy)]
pub struct ConvUnitConfig<'a> {
    /// The convolution.
    pub conv: ConvConfig,
    /// Published name of the convolution below the unit's scope.
    pub conv_name: &'a str,
    /// Published name of the batch norm below the unit's scope.
    pub norm_name: &'a str,
    /// ε of the batch norm.
    pub eps: f64,
    /// γ of the batch norm at the start.
    pub gamma: f64,
    /// ReLU at the end.
    pub relu: bool,
    /// Set for a dynamic convolution; left plain if there would be nothing to choose.
    pub dynamic: Option<DynamicConfig>,
}

/// A plain or dynamic convolution, batch norm and maybe a ReLU.
#[derive(Debug)]
pub struct ConvUnit {
    conv: AnyConv,
    conv_path: String,
    finish: Finish,
}

/// What follows the convolution.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) norm: BatchNorm,
    pub(crate) relu: bool,
}

impl Finish {
    /// Norm and ReLU by separate operations.
    pub(crate) fn after(&self, y: &Tensor, train: bool) -> Tensor {
        let mut y = self.norm.forward_t(y, train);
        // In place: batch norm keeps its input for the backward pass, not its output.
        if self.relu { y.relu_() } else { y }
    }
}

#[derive(Debug)]
enum AnyConv {
    Plain(Conv),
    Dynamic(Box<DynamicConv>),
}

impl ConvUnitConfig<'_> {
    /// Registers convolution and norm under `scope`, for features of shape `input`; gives the shape of the output.
    pub fn init(&self, scope: &Scope, input: FeatureShape) -> (ConvUnit, FeatureShape) {
        let conv_scope = scope.sub(self.conv_name);
        let dynamic = self.dynamic.map(|dynamic| DynamicConvConfig { conv: self.conv, dynamic, input });
        let conv = match dynamic {
            Some(config) if config.has_options() => AnyConv::Dynamic(Box::new(config.init(&conv_scope))),
            _ => AnyConv::Plain(self.conv.init(&conv_scope)),
        };
        let norm = BatchNormConfig { channels: self.conv.outputs, eps: self.eps, gamma: self.gamma };
        let norm = norm.init(&scope.sub(self.norm_name));
        let finish = Finish { norm, relu: self.relu };
        let unit = ConvUnit { conv, conv_path: conv_scope.path().to_owned(), finish };
        (unit, self.conv.output(input))
    }
}

impl ConvUnit {
    /// # Shape
    /// `[n, inputs, t, h, w]` to `[n, outputs, t', h', w']`.
    ///
    /// # Panics
    /// If the input does not have this shape.
    pub fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        match &self.conv {
            AnyConv::Plain(conv) => self.finish.after(&conv.forward(x_ncthw), pass.train),
            AnyConv::Dynamic(conv) => conv.forward_finished(x_ncthw, pass, &self.finish),
        }
    }

    /// Adds the unit's cost to `costs` and gives the shape that goes on.
    pub fn trace(&self, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let cost = match &self.conv {
            AnyConv::Plain(conv) => LayerCost {
                name: self.conv_path.clone(),
                output: conv.config.output(input),
                macs: conv.config.macs(input),
                dynamic: None,
            },
            AnyConv::Dynamic(conv) => conv.cost(&self.conv_path, input),
        };
        let output = cost.output;
        costs.push(cost);
        output
    }
}
