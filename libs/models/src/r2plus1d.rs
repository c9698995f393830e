//! R(2+1)D (Tran et al., 2018) in the layout and under the names of torchvision.
//!
//! A 3-D convolution is cut in two: `1×3×3` over space into `mid` channels, norm, ReLU, `3×1×1` over time.

use nn::{Activation, ConvConfig, ConvUnit, ConvUnitConfig, FeatureShape, Head, LayerCost, Pass, Residual, Scope};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ModelError;
use crate::config::{General, bounded, yes};
use crate::network::Backbone;

/// How many channels lie between the spatial and the temporal convolution of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Midplanes {
    /// One number a block, from its input and output: torchvision.
    #[default]
    Shared,
    /// One number a convolution: VMZ, ig65m. Their batch norms have ε = 1e-3.
    PerConv,
}

/// R(2+1)D in the torchvision layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct R2plus1dConfig {
    /// Blocks of the four stages: `[2, 2, 2, 2]` is the 18, `[3, 4, 6, 3]` the 34.
    pub blocks: [i64; 4],
    /// Channels of the four stages; the stem gives as many as the first.
    #[serde(default = "R2plus1dConfig::published_widths")]
    pub widths: [i64; 4],
    /// Channels between the stem's two convolutions; without it 45 for a first width of 64, and in proportion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<i64>,
    /// Step of the stem over space: 2 as published, 4 for small nets that must be quick.
    #[serde(default = "R2plus1dConfig::two")]
    pub stem_stride: i64,
    /// Channels between the two convolutions of a unit.
    #[serde(default)]
    pub midplanes: Midplanes,
    /// Residual branches start at zero (γ of their last norm), so that training begins near the identity.
    #[serde(default = "yes")]
    pub zero_gamma: bool,
    /// What every backbone has.
    #[serde(flatten)]
    pub general: General,
}

/// Published rate of dropout.
const DROPOUT: f64 = 0.0;

/// The network.
#[derive(Debug)]
pub(crate) struct R2plus1d {
    stem: Factored,
    blocks: Vec<Block>,
    head: Head,
}

/// Two convolution units: space, then time.
#[derive(Debug)]
struct Factored {
    space: ConvUnit,
    time: ConvUnit,
}

/// Two factored convolutions and the way around them.
#[derive(Debug)]
struct Block {
    first: Factored,
    space: ConvUnit,
    time: Residual,
}

/// Channels and stride of a block.
#[derive(Debug, Clone, Copy)]
struct BlockConfig {
    inputs: i64,
    outputs: i64,
    stride: i64,
}

impl R2plus1dConfig {
    fn published_widths() -> [i64; 4] {
        [64, 128, 256, 512]
    }

    fn two() -> i64 {
        2
    }

    /// The plain R(2+1)D-18 of torchvision.
    pub fn r18(classes: i64) -> Self {
        Self {
            blocks: [2; 4],
            widths: Self::published_widths(),
            stem: None,
            stem_stride: 2,
            midplanes: Midplanes::Shared,
            zero_gamma: false,
            general: General::plain(classes),
        }
    }

    /// The plain R(2+1)D-34 of VMZ and ig65m.
    pub fn r34(classes: i64) -> Self {
        Self { blocks: [3, 4, 6, 3], midplanes: Midplanes::PerConv, ..Self::r18(classes) }
    }

    /// Channels between the stem's two convolutions.
    pub(crate) fn stem_channels(&self) -> i64 {
        self.stem.unwrap_or_else(|| ((self.widths[0] * 45 + 32) / 64).max(1))
    }

    /// ε of the batch norms, which comes with the layout.
    fn eps(&self) -> f64 {
        match self.midplanes {
            Midplanes::Shared => 1e-5,
            Midplanes::PerConv => 1e-3,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        for blocks in self.blocks {
            bounded("blocks", blocks, 1..=64, "from 1 to 64 in each of the four stages")?;
        }
        for width in self.widths {
            bounded("widths", width, 1..=4096, "from 1 to 4096 in each of the four stages")?;
        }
        bounded("stem", self.stem_channels(), 1..=4096, "from 1 to 4096")?;
        bounded("stem_stride", self.stem_stride, 1..=8, "from 1 to 8")
    }

    /// Registers the network for clips of shape `clip`.
    pub(crate) fn init(&self, scope: &Scope, clip: FeatureShape) -> R2plus1d {
        let (stem, mut shape) = self.init_stem(&scope.sub("stem"), clip);
        let mut blocks = Vec::new();
        for (stage, (count, outputs)) in self.blocks.iter().zip(self.widths).enumerate() {
            for index in 0..*count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let block = BlockConfig { inputs: shape.channels, outputs, stride };
                let scope = scope.sub(format!("layer{}.{index}", stage + 1));
                let (block, output) = self.init_block(block, &scope, shape);
                blocks.push(block);
                shape = output;
            }
        }
        let head = self.general.head(shape.channels, DROPOUT).init(&scope.sub("fc"));
        R2plus1d { stem, blocks, head }
    }

    fn init_stem(&self, scope: &Scope, clip: FeatureShape) -> (Factored, FeatureShape) {
        let mid = self.stem_channels();
        let space = ConvConfig::same(clip.channels, mid, [1, 7, 7], [1, self.stem_stride, self.stem_stride]);
        let time = ConvConfig::same(mid, self.widths[0], [3, 1, 1], [1; 3]);
        let (space, shape) = self.unit(space, ["0", "1"]).init(scope, clip);
        let (time, shape) = self.unit(time, ["3", "4"]).init(scope, shape);
        (Factored { space, time }, shape)
    }

    fn init_block(&self, block: BlockConfig, scope: &Scope, input: FeatureShape) -> (Block, FeatureShape) {
        let BlockConfig { inputs, outputs, stride } = block;
        let shared = midplanes(inputs, outputs);
        let own = match self.midplanes {
            Midplanes::Shared => shared,
            Midplanes::PerConv => midplanes(outputs, outputs),
        };
        let first = FactoredConfig { inputs, mid: shared, outputs, stride, last: false };
        let second = FactoredConfig { inputs: outputs, mid: own, outputs, stride: 1, last: true };
        let (first, shape) = self.init_factored(first, &scope.sub("conv1"), input);
        let (second, shape) = self.init_factored(second, &scope.sub("conv2"), shape);
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let conv = ConvConfig::same(inputs, outputs, [1; 3], [stride; 3]);
            let unit = ConvUnitConfig { activation: Activation::None, ..self.unit(conv, ["0", "1"]) };
            unit.init(&scope.sub("downsample"), input).0
        });
        let Factored { space, time: last } = second;
        (Block { first, space, time: Residual { last, shortcut } }, shape)
    }

    fn init_factored(&self, config: FactoredConfig, scope: &Scope, input: FeatureShape) -> (Factored, FeatureShape) {
        let FactoredConfig { inputs, mid, outputs, stride, last } = config;
        let space = ConvConfig::same(inputs, mid, [1, 3, 3], [1, stride, stride]);
        let time = ConvConfig::same(mid, outputs, [3, 1, 1], [stride, 1, 1]);
        let dynamic = |conv: ConvConfig| self.general.dynamic_config(conv.kernel);
        let space = ConvUnitConfig { dynamic: dynamic(space), ..self.unit(space, ["0.0", "0.1"]) };
        let time = ConvUnitConfig {
            dynamic: dynamic(time),
            activation: if last { Activation::None } else { Activation::Relu },
            gamma: if last && self.zero_gamma { 0.0 } else { 1.0 },
            ..self.unit(time, ["0.3", "1"])
        };
        let (space, shape) = space.init(scope, input);
        let (time, shape) = time.init(scope, shape);
        (Factored { space, time }, shape)
    }

    /// A static unit with ReLU; names are those of the convolution and of its norm.
    fn unit<'a>(&self, conv: ConvConfig, [conv_name, norm_name]: [&'a str; 2]) -> ConvUnitConfig<'a> {
        ConvUnitConfig {
            conv,
            conv_name,
            norm_name: Some(norm_name),
            eps: self.eps(),
            gamma: 1.0,
            activation: Activation::Relu,
            dynamic: None,
        }
    }
}

/// Channels and stride of a factored convolution; `last` ends a residual branch.
#[derive(Debug, Clone, Copy)]
struct FactoredConfig {
    inputs: i64,
    mid: i64,
    outputs: i64,
    stride: i64,
    last: bool,
}

/// As many channels as give the two parts the parameters of a full 3×3×3.
pub(crate) fn midplanes(inputs: i64, outputs: i64) -> i64 {
    (inputs * outputs * 27) / (inputs * 9 + 3 * outputs)
}

impl Factored {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        self.space.forward_into((&self.time, None), x_ncthw, pass)
    }

    fn trace(&self, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let shape = self.space.trace(input, costs);
        self.time.trace(shape, costs)
    }
}

impl Block {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let y = self.first.forward_t(x_ncthw, pass);
        self.time.forward_from(&self.space, [&y, x_ncthw], pass)
    }

    fn trace(&self, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let shape = self.first.trace(input, costs);
        let shape = self.space.trace(shape, costs);
        self.time.trace(shape, input, costs)
    }
}

impl Backbone for R2plus1d {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let stem = self.stem.forward_t(x_ncthw, pass);
        let features = self.blocks.iter().fold(stem, |x, block| block.forward_t(&x, pass));
        self.head.forward_t(&features, pass)
    }

    fn trace(&self, clip: FeatureShape) -> Vec<LayerCost> {
        let mut costs = Vec::new();
        let stem = self.stem.trace(clip, &mut costs);
        self.blocks.iter().fold(stem, |shape, block| block.trace(shape, &mut costs));
        self.head.trace(&mut costs);
        costs
    }
}
