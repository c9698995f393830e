//! X3D (Feichtenhofer, 2020) under the names of PyTorchVideo.
//!
//! A block widens its input by a `1×1×1` convolution, filters each channel by itself with `3×3×3`, lets every other block
//! weigh the channels (squeeze-and-excitation), and narrows again. Time is never strided. The head averages over windows of
//! the size that the network is made for: one at its own clips, several at larger crops, as published tests have it.

use nn::{
    Activation, ConvConfig, ConvUnit, ConvUnitConfig, FeatureShape, Head, LayerCost, Pass, Pool, Residual, Scope,
    SqueezeExcite, SqueezeExciteConfig,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ModelError;
use crate::config::{General, bounded, within, yes};
use crate::network::Backbone;

/// X3D in the PyTorchVideo layout. S and M are one network, at other clips; L is deeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct X3dConfig {
    /// Blocks of the four stages: `[3, 5, 11, 7]` is S and M, `[5, 10, 25, 15]` is L.
    #[serde(default = "X3dConfig::published_blocks")]
    pub blocks: [i64; 4],
    /// Channels of the four stages; the stem gives as many as the first.
    #[serde(default = "X3dConfig::published_widths")]
    pub widths: [i64; 4],
    /// How much wider than its stage a block is inside.
    #[serde(default = "X3dConfig::published_expansion")]
    pub expansion: f64,
    /// Channels of the head's hidden layer.
    #[serde(default = "X3dConfig::published_hidden")]
    pub hidden: i64,
    /// A batch norm on the first stage's shortcut: files of PySlowFast have it, those of PyTorchVideo do not.
    #[serde(default)]
    pub first_shortcut_norm: bool,
    /// Residual branches start at zero (γ of their last norm), so that training begins near the identity.
    #[serde(default = "yes")]
    pub zero_gamma: bool,
    /// What every backbone has.
    #[serde(flatten)]
    pub general: General,
}

/// Published rate of dropout.
const DROPOUT: f64 = 0.5;

/// The network.
#[derive(Debug)]
pub(crate) struct X3d {
    stem: [ConvUnit; 2],
    blocks: Vec<Block>,
    widen: ConvUnit,
    pool: Pool,
    hidden: ConvUnit,
    head: Head,
}

/// Wide, depthwise, narrow.
#[derive(Debug)]
struct Block {
    widen: ConvUnit,
    depthwise: ConvUnit,
    excite: Option<SqueezeExcite>,
    narrow: Residual,
}

/// Channels and stride of a block.
#[derive(Debug, Clone, Copy)]
struct BlockConfig {
    outputs: i64,
    stride: i64,
    excite: bool,
    shortcut_norm: bool,
}

impl X3dConfig {
    fn published_blocks() -> [i64; 4] {
        [3, 5, 11, 7]
    }

    fn published_widths() -> [i64; 4] {
        [24, 48, 96, 192]
    }

    fn published_expansion() -> f64 {
        2.25
    }

    fn published_hidden() -> i64 {
        2048
    }

    /// The plain X3D-S and X3D-M.
    pub fn m(classes: i64) -> Self {
        Self {
            blocks: Self::published_blocks(),
            widths: Self::published_widths(),
            expansion: Self::published_expansion(),
            hidden: Self::published_hidden(),
            first_shortcut_norm: false,
            zero_gamma: true,
            general: General::plain(classes),
        }
    }

    /// The plain X3D-L.
    pub fn l(classes: i64) -> Self {
        Self { blocks: [5, 10, 25, 15], ..Self::m(classes) }
    }

    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        for blocks in self.blocks {
            bounded("blocks", blocks, 1..=64, "from 1 to 64 in each of the four stages")?;
        }
        for width in self.widths {
            bounded("widths", width, 1..=4096, "from 1 to 4096 in each of the four stages")?;
        }
        within("expansion", self.expansion, (1.0..=8.0).contains(&self.expansion), "from 1 to 8")?;
        bounded("hidden", self.hidden, 1..=65_536, "from 1 to 65536")
    }

    /// Registers the network for clips of shape `clip`.
    pub(crate) fn init(&self, scope: &Scope, clip: FeatureShape) -> X3d {
        let (stem, mut shape) = self.init_stem(&scope.sub("blocks.0"), clip);
        let mut blocks = Vec::new();
        for (stage, (count, outputs)) in self.blocks.iter().zip(self.widths).enumerate() {
            for index in 0..*count {
                let block = BlockConfig {
                    outputs,
                    stride: if index == 0 { 2 } else { 1 },
                    excite: index % 2 == 0,
                    shortcut_norm: shape.channels != outputs || self.first_shortcut_norm,
                };
                let scope = scope.sub(format!("blocks.{}.res_blocks.{index}", stage + 1));
                let (block, output) = self.init_block(block, &scope, shape);
                blocks.push(block);
                shape = output;
            }
        }
        let scope = scope.sub("blocks.5");
        let widen = ConvConfig::same(shape.channels, self.inner(shape.channels), [1; 3], [1; 3]);
        let (widen, shape) = unit(widen, "pool.pre_conv", Some("pool.pre_norm")).init(&scope, shape);
        let pool = Pool::sliding([shape.frames, shape.height, shape.width]);
        let hidden = ConvConfig::same(shape.channels, self.hidden, [1; 3], [1; 3]);
        let (hidden, _) = unit(hidden, "pool.post_conv", None).init(&scope, pool.output(shape));
        let head = self.general.head(self.hidden, DROPOUT);
        X3d { stem, blocks, widen, pool, hidden, head: head.init(&scope.sub("proj")) }
    }

    /// Space, then time: published under each other's names.
    fn init_stem(&self, scope: &Scope, clip: FeatureShape) -> ([ConvUnit; 2], FeatureShape) {
        let width = self.widths[0];
        let space = ConvConfig::same(clip.channels, width, [1, 3, 3], [1, 2, 2]);
        let time = ConvConfig { groups: width, ..ConvConfig::same(width, width, [5, 1, 1], [1; 3]) };
        let space = ConvUnitConfig { activation: Activation::None, ..unit(space, "conv.conv_t", None) };
        let (space, shape) = space.init(scope, clip);
        let (time, shape) = unit(time, "conv.conv_xy", Some("norm")).init(scope, shape);
        ([space, time], shape)
    }

    fn init_block(&self, block: BlockConfig, scope: &Scope, input: FeatureShape) -> (Block, FeatureShape) {
        let BlockConfig { outputs, stride, excite, shortcut_norm } = block;
        let (inputs, inner) = (input.channels, self.inner(outputs));
        let branch = scope.sub("branch2");
        let dynamic = |unit: ConvUnitConfig<'static>| ConvUnitConfig {
            dynamic: self.general.dynamic_config(unit.conv.kernel),
            ..unit
        };
        let widen = ConvConfig::same(inputs, inner, [1; 3], [1; 3]);
        let (widen, shape) = dynamic(unit(widen, "conv_a", Some("norm_a"))).init(&branch, input);
        let depthwise = ConvConfig { groups: inner, ..ConvConfig::same(inner, inner, [3; 3], [1, stride, stride]) };
        let depthwise = ConvUnitConfig {
            activation: if excite { Activation::None } else { Activation::Swish },
            ..dynamic(unit(depthwise, "conv_b", Some("norm_b.0")))
        };
        let (depthwise, shape) = depthwise.init(&branch, shape);
        let excite = excite.then(|| {
            let config = SqueezeExciteConfig { channels: inner, hidden: squeezed(inner) };
            config.init(&branch.sub("norm_b.1"))
        });
        let narrow = ConvUnitConfig {
            activation: Activation::None,
            gamma: if self.zero_gamma { 0.0 } else { 1.0 },
            ..dynamic(unit(ConvConfig::same(inner, outputs, [1; 3], [1; 3]), "conv_c", Some("norm_c")))
        };
        let (last, shape) = narrow.init(&branch, shape);
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let conv = ConvConfig::same(inputs, outputs, [1; 3], [1, stride, stride]);
            let around = unit(conv, "branch1_conv", shortcut_norm.then_some("branch1_norm"));
            ConvUnitConfig { activation: Activation::None, ..around }.init(scope, input).0
        });
        (Block { widen, depthwise, excite, narrow: Residual { last, shortcut } }, shape)
    }

    /// Channels inside a block of a stage of this width.
    fn inner(&self, width: i64) -> i64 {
        (self.expansion * width as f64) as i64
    }
}

/// A static unit with ReLU; names are those of the convolution and of its norm.
fn unit<'a>(conv: ConvConfig, conv_name: &'a str, norm_name: Option<&'a str>) -> ConvUnitConfig<'a> {
    ConvUnitConfig { conv, conv_name, norm_name, eps: 1e-5, gamma: 1.0, activation: Activation::Relu, dynamic: None }
}

/// A sixteenth of the channels, to a multiple of 8 that is at least 8 and not more than a tenth below it.
fn squeezed(channels: i64) -> i64 {
    let exact = channels as f64 / 16.0;
    let rounded = ((exact + 4.0) as i64 / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
}

impl Block {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let y = self.widen.forward_t(x_ncthw, pass);
        let Some(excite) = &self.excite else {
            return self.narrow.forward_from(&self.depthwise, [&y, x_ncthw], pass);
        };
        let y = self.depthwise.forward_t(&y, pass);
        let y = Activation::Swish.apply_(excite.forward_t(&y, pass));
        self.narrow.forward_t(&y, x_ncthw, pass)
    }

    fn trace(&self, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let shape = self.widen.trace(input, costs);
        let shape = self.depthwise.trace(shape, costs);
        if let Some(excite) = &self.excite {
            excite.trace(costs);
        }
        self.narrow.trace(shape, input, costs)
    }
}

impl Backbone for X3d {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let stem = self.stem.iter().fold(x_ncthw.shallow_clone(), |x, unit| unit.forward_t(&x, pass));
        let features = self.blocks.iter().fold(stem, |x, block| block.forward_t(&x, pass));
        let pooled = self.pool.forward(&self.widen.forward_t(&features, pass));
        let hidden = self.hidden.forward_t(&pooled, pass);
        self.head.forward_t(&hidden, pass)
    }

    fn trace(&self, clip: FeatureShape) -> Vec<LayerCost> {
        let mut costs = Vec::new();
        let stem = self.stem.iter().fold(clip, |shape, unit| unit.trace(shape, &mut costs));
        let features = self.blocks.iter().fold(stem, |shape, block| block.trace(shape, &mut costs));
        let shape = self.widen.trace(features, &mut costs);
        self.hidden.trace(self.pool.output(shape), &mut costs);
        self.head.trace(&mut costs);
        costs
    }
}
