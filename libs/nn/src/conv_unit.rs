//! A convolution, its batch norm and its activation: what video networks are made of.

use tch::Tensor;

use crate::bridge;
use crate::bridge::packed::Part;
use crate::dynamic::chain;
use crate::gpu;
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
    norm: Option<BatchNorm>,
    activation: Activation,
}

/// What follows one convolution of one pass: `activation(norm(y) + shortcut)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct After<'a> {
    pub(crate) norm: Option<&'a BatchNorm>,
    pub(crate) shortcut: Option<&'a Tensor>,
    pub(crate) activation: Activation,
}

impl<'a> After<'a> {
    /// The end of a residual branch.
    fn onto(self, shortcut_ncthw: &'a Tensor) -> Self {
        Self { shortcut: Some(shortcut_ncthw), activation: Activation::Relu, ..self }
    }

    /// By separate operations.
    pub(crate) fn apply(&self, y: Tensor, train: bool) -> Tensor {
        if let (Some(kernels), Some(norm)) = (gpu::of(&y), self.norm) {
            return kernels.norm(&y, &norm.statistics(train), (self.shortcut, self.activation), train);
        }
        let mut y = match self.norm {
            Some(norm) => norm.forward_t(&y, train),
            None => y,
        };
        // In place: convolution and batch norm keep their inputs for the backward pass, not their outputs.
        self.activation.apply_(match self.shortcut {
            Some(shortcut) => y.g_add_(shortcut),
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
        let unit = ConvUnit { conv, conv_path: conv_scope.path().to_owned(), norm, activation: self.activation };
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
        self.forward_with(x_ncthw, &self.after(), pass)
    }

    fn outputs(&self) -> i64 {
        match &self.conv {
            AnyConv::Plain(conv) => conv.config.outputs,
            AnyConv::Dynamic(conv) => conv.config().outputs,
        }
    }

    fn after(&self) -> After<'_> {
        After { norm: self.norm.as_ref(), shortcut: None, activation: self.activation }
    }

    /// `max(norm(conv(x)) + shortcut, 0)`: the end of a residual branch, whose unit has no activation of its own.
    pub(crate) fn forward_onto(&self, x_ncthw: &Tensor, shortcut_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        self.forward_with(x_ncthw, &self.after().onto(shortcut_ncthw), pass)
    }

    /// `next.forward_t(self.forward_t(x))`, or with a shortcut the end of a residual branch; where it pays, rows go through both units
    /// while they are in cache.
    ///
    /// # Shape
    /// `[n, inputs, t, h, w]` to what `next` gives, which is the shortcut's shape.
    ///
    /// # Panics
    /// If the inputs do not have these shapes.
    pub fn forward_into(
        &self,
        (next, shortcut_ncthw): (&Self, Option<&Tensor>),
        x_ncthw: &Tensor,
        pass: &mut Pass,
    ) -> Tensor {
        let after = shortcut_ncthw.map_or(next.after(), |shortcut| next.after().onto(shortcut));
        let weights = pass.weights.filter(|_| !pass.train && pass.observer.is_none() && bridge::infers(x_ncthw));
        if let (AnyConv::Dynamic(first), AnyConv::Dynamic(second), Some(weights)) = (&self.conv, &next.conv, weights) {
            let links = ((first.as_ref(), &self.after()), (second.as_ref(), &after));
            if let Some(y) = chain::infer(links, x_ncthw, weights, pass) {
                return y;
            }
        }
        next.forward_with(&self.forward_t(x_ncthw, pass), &after, pass)
    }

    fn forward_with(&self, x_ncthw: &Tensor, after: &After, pass: &mut Pass) -> Tensor {
        let weights = pass.weights.filter(|_| !pass.train && (bridge::infers(x_ncthw) || gpu::infers(x_ncthw)));
        pass.observed((&self.conv_path, self.outputs()), |pass| match (&self.conv, weights) {
            (AnyConv::Plain(conv), Some(weights)) => {
                conv.infer(x_ncthw, Part { outputs: conv.config.outputs, every: 1 }, after, weights)
            }
            (AnyConv::Plain(conv), None) => after.apply(conv.forward(x_ncthw), pass.train),
            (AnyConv::Dynamic(conv), Some(weights)) => conv.infer(x_ncthw, (after, weights), pass),
            (AnyConv::Dynamic(conv), None) => after.apply(conv.forward_t(x_ncthw, pass), pass.train),
        })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::{Axes, ForcedGates, GateConfig, Init, ParamsBuilder, Policy, PolicyPlan, Role};

    const KERNELS: [[i64; 3]; 4] = [[1, 1, 1], [1, 3, 3], [3, 1, 1], [3, 3, 3]];

    fn random(name: &str, shape: &[i64]) -> Tensor {
        Init::Normal(1.0).tensor((8, name), shape, Kind::Float, Device::Cpu)
    }

    /// A dynamic unit whose every parameter and statistic is away from its start.
    fn unit(conv: ConvConfig, input: FeatureShape, (activation, search_space): (Activation, usize)) -> ConvUnit {
        let gate = GateConfig { hidden: 4, ..GateConfig::default() };
        let config = ConvUnitConfig {
            conv,
            conv_name: "conv",
            norm_name: Some("norm"),
            eps: 1e-5,
            gamma: 1.0,
            activation,
            dynamic: Some(DynamicConfig { axes: Axes::Both, search_space, gate }),
        };
        let builder = ParamsBuilder::new(3, Kind::Float, Device::Cpu);
        let (unit, _) = config.init(&builder.root(), input);
        let params = builder.finish();
        tch::no_grad(|| {
            for param in params.all().iter().filter(|param| param.role != Role::Buffer) {
                let _ = param.tensor.shallow_clone().g_add_(&(random(&param.name, &param.tensor.size()) * 0.3));
            }
        });
        let channels = [conv.outputs];
        let statistics = Tensor::cat(&[random("mean", &channels), random("variance", &channels).exp()], 0);
        let gates = params.norm_layout().len - 2 * conv.outputs;
        // The gate is made before the norm.
        params.apply_norm_statistics(&Tensor::cat(&[random("gate", &[gates]).exp(), statistics], 0), 1.0);
        unit
    }

    /// Weights of `clips` by options, at least one of each clip's live.
    fn weights(clips: &[[f32; 3]], options: usize) -> Tensor {
        let rows = clips.iter().flat_map(|clip| {
            let mut row = clip[..options].to_vec();
            if row.iter().all(|v| *v == 0.0) {
                row[options - 1] = 1.0;
            }
            row
        });
        Tensor::from_slice(&rows.collect::<Vec<f32>>()).reshape([clips.len() as i64, options as i64])
    }

    fn clip_weights() -> impl Strategy<Value = [f32; 3]> {
        let weight = prop_oneof![Just(0.0_f32), 0.05_f32..1.0];
        [weight.clone(), weight.clone(), weight]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]

        /// Dense and depthwise, under every activation: what skips, with norm and activation on the way out, is what computes
        /// everything and finishes by separate operations.
        #[test]
        fn a_unit_that_skips_is_the_unit_that_computes_everything(
            channels in 1..12_i64, frames in 1..8_i64, width in 3..9_i64, kernel in 0..4_usize, depthwise in any::<bool>(),
            stride in 1..3_i64, search_space in 2..4_usize,
            activation in prop_oneof![Just(Activation::None), Just(Activation::Relu), Just(Activation::Swish)],
            time in prop::collection::vec(clip_weights(), 3), channel in prop::collection::vec(clip_weights(), 3),
        ) {
            let inputs = if depthwise { channels } else { 5 };
            let conv = ConvConfig {
                groups: if depthwise { channels } else { 1 },
                ..ConvConfig::same(inputs, channels, KERNELS[kernel], [1, stride, stride])
            };
            let input = FeatureShape { channels: inputs, frames, height: 5, width };
            let unit = unit(conv, input, (activation, search_space));
            let AnyConv::Dynamic(dynamic) = &unit.conv else { return Ok(()) };
            let mut costs = Vec::new();
            unit.trace(input, &mut costs);
            let options = costs[0].dynamic.as_ref().expect("a dynamic layer");
            let plan = PolicyPlan { layers: vec![ForcedGates {
                v_time_no: weights(&time, options.time_factors.len()),
                v_channel_no: weights(&channel, options.channels.len()),
            }] };
            let x = random("x", &[3, inputs, frames, 5, width]);
            let policy = Policy::Fixed(&plan);
            let (skipped, expected) = tch::no_grad(|| {
                let everything = dynamic.forward_t(&x, &mut Pass::new(true, &policy));
                let skipped = [None, Some(1)].map(|weights| {
                    let mut pass = Pass::new(false, &policy);
                    pass.weights = weights;
                    unit.forward_t(&x, &mut pass)
                });
                (skipped, unit.after().apply(everything, false))
            });
            // By tensor operations, and by the kernels of inference.
            for skipped in skipped {
                prop_assert_eq!(skipped.size(), expected.size());
                let error = (&skipped - &expected).abs().max().double_value(&[]);
                let scale = expected.abs().max().double_value(&[]).max(1e-6);
                prop_assert!(error <= 1e-4 * scale, "{} of {}", error, scale);
            }
        }
    }
}
