//! I3D on ResNet (Carreira & Zisserman, 2017, in the 8×8 form of PySlowFast) under the names of PyTorchVideo.
//!
//! Bottleneck blocks whose first convolution looks over time in some blocks, and whose second looks over space. The head
//! averages over windows of the size that the network is made for: one at its own clips, several at larger crops, as
//! published tests have it.

use nn::{
    Activation, ConvConfig, ConvUnit, ConvUnitConfig, FeatureShape, Head, LayerCost, Pass, Pool, Residual, Scope,
};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ModelError;
use crate::config::{General, bounded, yes};
use crate::network::Backbone;

/// I3D on ResNet in the PyTorchVideo layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I3dConfig {
    /// Blocks of the four stages: `[3, 4, 6, 3]` is ResNet-50.
    #[serde(default = "I3dConfig::published_blocks")]
    pub blocks: [i64; 4],
    /// Channels of the stem. The stages are 1, 2, 4 and 8 times as wide inside their blocks, and 4 times that outside.
    #[serde(default = "I3dConfig::published_width")]
    pub width: i64,
    /// Residual branches start at zero (γ of their last norm), so that training begins near the identity.
    #[serde(default = "yes")]
    pub zero_gamma: bool,
    /// What every backbone has.
    #[serde(flatten)]
    pub general: General,
}

/// Temporal kernels of the blocks of the four stages, repeated.
const TEMPORAL: [&[i64]; 4] = [&[3], &[3, 1], &[3, 1], &[1, 3]];

/// Published numbers of the four stages; 2 is the pool over time.
const STAGES: [usize; 4] = [1, 3, 4, 5];

/// After the stem: 3×3, a step of 2 over space.
const OVER_SPACE: Pool = Pool::max([1, 3, 3], [1, 2, 2], [0, 1, 1]);

/// After the first stage: pairs of frames.
const OVER_TIME: Pool = Pool::max([2, 1, 1], [2, 1, 1], [0; 3]);

/// Published rate of dropout.
const DROPOUT: f64 = 0.5;

/// The network.
#[derive(Debug)]
pub(crate) struct I3d {
    stem: ConvUnit,
    first_stage: Vec<Block>,
    stages: Vec<Block>,
    pool: Pool,
    head: Head,
}

/// A bottleneck: narrow, over space, wide.
#[derive(Debug)]
struct Block {
    narrow: ConvUnit,
    space: ConvUnit,
    widen: Residual,
}

/// Channels, stride and temporal kernel of a block.
#[derive(Debug, Clone, Copy)]
struct BlockConfig {
    inner: i64,
    stride: i64,
    temporal: i64,
}

impl I3dConfig {
    fn published_blocks() -> [i64; 4] {
        [3, 4, 6, 3]
    }

    fn published_width() -> i64 {
        64
    }

    /// The plain I3D on ResNet-50.
    pub fn r50(classes: i64) -> Self {
        Self {
            blocks: Self::published_blocks(),
            width: Self::published_width(),
            zero_gamma: true,
            general: General::plain(classes),
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        for blocks in self.blocks {
            bounded("blocks", blocks, 1..=64, "from 1 to 64 in each of the four stages")?;
        }
        bounded("width", self.width, 1..=512, "from 1 to 512")
    }

    /// Registers the network for clips of shape `clip`.
    pub(crate) fn init(&self, scope: &Scope, clip: FeatureShape) -> I3d {
        let stem = ConvConfig::same(clip.channels, self.width, [5, 7, 7], [1, 2, 2]);
        let (stem, shape) = unit(stem, ["conv", "norm"]).init(&scope.sub("blocks.0"), clip);
        let (first_stage, shape) = self.init_stage(0, scope, OVER_SPACE.output(shape));
        let mut shape = OVER_TIME.output(shape);
        let mut stages = Vec::new();
        for stage in 1..4 {
            let (blocks, output) = self.init_stage(stage, scope, shape);
            stages.extend(blocks);
            shape = output;
        }
        let pool = Pool::sliding([shape.frames, shape.height, shape.width]);
        let head = self.general.head(shape.channels, DROPOUT);
        I3d { stem, first_stage, stages, pool, head: head.init(&scope.sub("blocks.6.proj")) }
    }

    fn init_stage(&self, stage: usize, scope: &Scope, mut shape: FeatureShape) -> (Vec<Block>, FeatureShape) {
        let mut blocks = Vec::new();
        for (index, temporal) in (0..self.blocks[stage]).zip(TEMPORAL[stage].iter().cycle()) {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let block = BlockConfig { inner: self.width << stage, stride, temporal: *temporal };
            let scope = scope.sub(format!("blocks.{}.res_blocks.{index}", STAGES[stage]));
            let (block, output) = self.init_block(block, &scope, shape);
            blocks.push(block);
            shape = output;
        }
        (blocks, shape)
    }

    fn init_block(&self, block: BlockConfig, scope: &Scope, input: FeatureShape) -> (Block, FeatureShape) {
        let BlockConfig { inner, stride, temporal } = block;
        let (inputs, outputs) = (input.channels, 4 * inner);
        let branch = scope.sub("branch2");
        let dynamic = |conv: ConvConfig, names| ConvUnitConfig {
            dynamic: self.general.dynamic_config(conv.kernel),
            ..unit(conv, names)
        };
        let narrow = ConvConfig::same(inputs, inner, [temporal, 1, 1], [1; 3]);
        let (narrow, shape) = dynamic(narrow, ["conv_a", "norm_a"]).init(&branch, input);
        let space = ConvConfig::same(inner, inner, [1, 3, 3], [1, stride, stride]);
        let (space, shape) = dynamic(space, ["conv_b", "norm_b"]).init(&branch, shape);
        let widen = ConvUnitConfig {
            activation: Activation::None,
            gamma: if self.zero_gamma { 0.0 } else { 1.0 },
            ..dynamic(ConvConfig::same(inner, outputs, [1; 3], [1; 3]), ["conv_c", "norm_c"])
        };
        let (last, shape) = widen.init(&branch, shape);
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let conv = ConvConfig::same(inputs, outputs, [1; 3], [1, stride, stride]);
            let around = unit(conv, ["branch1_conv", "branch1_norm"]);
            ConvUnitConfig { activation: Activation::None, ..around }.init(scope, input).0
        });
        (Block { narrow, space, widen: Residual { last, shortcut } }, shape)
    }
}

/// A static unit with ReLU; names are those of the convolution and of its norm.
fn unit(conv: ConvConfig, [conv_name, norm_name]: [&str; 2]) -> ConvUnitConfig<'_> {
    ConvUnitConfig {
        conv,
        conv_name,
        norm_name: Some(norm_name),
        eps: 1e-5,
        gamma: 1.0,
        activation: Activation::Relu,
        dynamic: None,
    }
}

impl Block {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let y = self.narrow.forward_t(x_ncthw, pass);
        self.widen.forward_from(&self.space, [&y, x_ncthw], pass)
    }

    fn trace(&self, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let shape = self.narrow.trace(input, costs);
        let shape = self.space.trace(shape, costs);
        self.widen.trace(shape, input, costs)
    }
}

impl Backbone for I3d {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let stem = OVER_SPACE.forward(&self.stem.forward_t(x_ncthw, pass));
        let first = self.first_stage.iter().fold(stem, |x, block| block.forward_t(&x, pass));
        let features = self.stages.iter().fold(OVER_TIME.forward(&first), |x, block| block.forward_t(&x, pass));
        self.head.forward_t(&self.pool.forward(&features), pass)
    }

    fn trace(&self, clip: FeatureShape) -> Vec<LayerCost> {
        let mut costs = Vec::new();
        let stem = OVER_SPACE.output(self.stem.trace(clip, &mut costs));
        let first = self.first_stage.iter().fold(stem, |shape, block| block.trace(shape, &mut costs));
        self.stages.iter().fold(OVER_TIME.output(first), |shape, block| block.trace(shape, &mut costs));
        self.head.trace(&mut costs);
        costs
    }
}
