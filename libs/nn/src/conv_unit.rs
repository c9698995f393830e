//! A convolution, its batch norm and its activation: what video networks are made of.

use tch::Tensor;

use crate::macs::{FeatureShape, LayerCost};
use crate::{
    Activation, BatchNorm, BatchNormConfig, Conv, ConvConfig, DynamicConfig, DynamicConv, DynamicConvConfig, Pass,
    Scope,
};

/// Configuration of a [`ConvUnit`].
#[derive(Debug, Clone, Copy)]
pub struct ConvUnitConfig<'a> {
    /// The convolution.
    pub conv: ConvConfig,
    /// Published name of the convolution below the unit's scope.
    pub conv_name: &'a str,
    /// Published name of the batch norm below the unit's scope; none where the network has no norm there.
    pub norm_name: Option<&'a str>,
    /// ε of the batch norm.
    pub eps: f64,
    /// γ of the batch norm at the start.
    pub gamma: f64,
    /// What comes last.
    pub activation: Activation,
    /// Set for a dynamic convolution; left plain if there would be nothing to choose.
    pub dynamic: Option<DynamicConfig>,
}

/// A plain or dynamic convolution, batch norm and activation.
#[derive(Debug)]
pub struct ConvUnit {
    conv: AnyConv,
    conv_path: String,
    finish: Finish,
}

/// What follows the convolution.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) norm: Option<BatchNorm>,
    pub(crate) activation: Activation,
}

impl Finish {
    /// Norm and activation by separate operations.
    pub(crate) fn after(&self, y: Tensor, train: bool) -> Tensor {
        // The activation is in place: convolution and batch norm keep their inputs for the backward pass, not their outputs.
        self.activation.apply_(match &self.norm {
            Some(norm) => norm.forward_t(&y, train),
            None => y,
        })
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
        let norm = self.norm_name.map(|name| norm.init(&scope.sub(name)));
        let finish = Finish { norm, activation: self.activation };
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
            AnyConv::Plain(conv) => self.finish.after(conv.forward(x_ncthw), pass.train),
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
