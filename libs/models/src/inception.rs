//! I3D on Inception-V2: BN-Inception (Ioffe & Szegedy, 2015) inflated, under the names of its Caffe and PyTorch files.
//!
//! The inflation is ours, after I3D's: a `k×k` kernel, `k > 1`, becomes `3×k×k`, of a pool too; `1×1` becomes `1×1×1`. The
//! stem and the two pools that follow it leave time alone, the pools as `1×3×3`; the reductions `3c` and `4e` step by 2
//! over time as over space. The 2-D files have biases before their norms; here the norms' shifts do that work.

use nn::{Activation, ConvConfig, ConvUnit, ConvUnitConfig, FeatureShape, Head, LayerCost, Pass, Pool, Scope};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::ModelError;
use crate::config::{General, within};
use crate::network::Backbone;

/// I3D on Inception-V2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InceptionConfig {
    /// Multiplies the channels of every convolution; the published network is 1.
    #[serde(default = "InceptionConfig::published_width")]
    pub width: f64,
    /// What every backbone has.
    #[serde(flatten)]
    pub general: General,
}

const MEAN: Pool = Pool::mean([3; 3]);
const MAX: Pool = Pool::max([3; 3], [1; 3], [1; 3]);
const STEP: Pool = Pool::max_begun([3; 3], [2; 3]);

/// Channels of a block's convolutions in the published network.
struct BlockTable {
    name: &'static str,
    /// `1x1`; 0: the block has no such branch, and steps by 2.
    one: i64,
    /// `3x3_reduce`, `3x3`.
    three: [i64; 2],
    /// `double_3x3_reduce`, then both `double_3x3`.
    double: [i64; 2],
    /// The last branch's pool, and its `pool_proj`; 0: it has none.
    pool: (Pool, i64),
}

const fn block(name: &'static str, one: i64, (three, double): ([i64; 2], [i64; 2]), pool: (Pool, i64)) -> BlockTable {
    BlockTable { name, one, three, double, pool }
}

const BLOCKS: [BlockTable; 10] = [
    block("3a", 64, ([64, 64], [64, 96]), (MEAN, 32)),
    block("3b", 64, ([64, 96], [64, 96]), (MEAN, 64)),
    block("3c", 0, ([128, 160], [64, 96]), (STEP, 0)),
    block("4a", 224, ([64, 96], [96, 128]), (MEAN, 128)),
    block("4b", 192, ([96, 128], [96, 128]), (MEAN, 128)),
    block("4c", 160, ([128, 160], [128, 160]), (MEAN, 128)),
    block("4d", 96, ([128, 192], [160, 192]), (MEAN, 128)),
    block("4e", 0, ([128, 192], [192, 256]), (STEP, 0)),
    block("5a", 352, ([192, 320], [160, 224]), (MEAN, 128)),
    block("5b", 352, ([192, 320], [192, 224]), (MAX, 128)),
];

/// After the stem and before the first block.
const STEM_POOL: Pool = Pool::max_begun([1, 3, 3], [1, 2, 2]);

/// Published rate of dropout.
const DROPOUT: f64 = 0.5;

/// The network.
#[derive(Debug)]
pub(crate) struct Inception {
    stem: ConvUnit,
    second: Branch,
    blocks: Vec<Vec<Branch>>,
    head: Head,
}

/// Units one after the other, maybe with a pool before them.
#[derive(Debug)]
struct Branch {
    pool: Option<Pool>,
    units: Vec<ConvUnit>,
}

/// A convolution by name, channels, size over space and stride.
type Layer = (&'static str, i64, i64, i64);

impl InceptionConfig {
    fn published_width() -> f64 {
        1.0
    }

    /// The plain network.
    pub fn v2(classes: i64) -> Self {
        Self { width: Self::published_width(), general: General::plain(classes) }
    }

    pub(crate) fn validate(&self) -> Result<(), ModelError> {
        within("width", self.width, (0.01..=8.0).contains(&self.width), "from 0.01 to 8")
    }

    /// Registers the network for clips of shape `clip`.
    pub(crate) fn init(&self, scope: &Scope, clip: FeatureShape) -> Inception {
        let stem = ConvConfig::same(clip.channels, self.channels(64), [3, 7, 7], [1, 2, 2]);
        let (stem, shape) = unit(stem, ["conv1_7x7_s2", "conv1_7x7_s2_bn"]).init(scope, clip);
        let second = [("conv2_3x3_reduce", 64, 1, 1), ("conv2_3x3", 192, 3, 1)];
        let (second, shape) = self.init_branch((scope, ""), shape, Some(STEM_POOL), &second);
        let mut shape = STEM_POOL.output(shape);
        let mut blocks = Vec::new();
        for table in &BLOCKS {
            let (block, output) = self.init_block(table, scope, shape);
            blocks.push(block);
            shape = output;
        }
        let head = self.general.head(shape.channels, DROPOUT);
        Inception { stem, second, blocks, head: head.init(&scope.sub("last_linear")) }
    }

    fn init_block(&self, table: &BlockTable, scope: &Scope, input: FeatureShape) -> (Vec<Branch>, FeatureShape) {
        let prefix = format!("inception_{}_", table.name);
        let (three, double, (pool, projected)) = (table.three, table.double, table.pool);
        let steps = table.one == 0;
        let stride = if steps { 2 } else { 1 };
        let mut branches: Vec<(Option<Pool>, Vec<Layer>)> = Vec::new();
        if !steps {
            branches.push((None, vec![("1x1", table.one, 1, 1)]));
        }
        branches.push((None, vec![("3x3_reduce", three[0], 1, 1), ("3x3", three[1], 3, stride)]));
        branches.push((
            None,
            vec![
                ("double_3x3_reduce", double[0], 1, 1),
                ("double_3x3_1", double[1], 3, 1),
                ("double_3x3_2", double[1], 3, stride),
            ],
        ));
        let projection = if steps { vec![] } else { vec![("pool_proj", projected, 1, 1)] };
        branches.push((Some(pool), projection));
        let made = branches.iter().map(|(pool, layers)| self.init_branch((scope, &prefix), input, *pool, layers));
        let (branches, shapes): (Vec<Branch>, Vec<FeatureShape>) = made.unzip();
        let channels = shapes.iter().map(|shape| shape.channels).sum();
        (branches, FeatureShape { channels, ..shapes[0] })
    }

    fn init_branch(
        &self,
        (scope, prefix): (&Scope, &str),
        input: FeatureShape,
        pool: Option<Pool>,
        layers: &[Layer],
    ) -> (Branch, FeatureShape) {
        let mut shape = pool.map_or(input, |pool| pool.output(input));
        let mut units = Vec::new();
        for (name, channels, size, stride) in layers {
            let kernel = if *size == 1 { [1; 3] } else { [3, *size, *size] };
            let conv = ConvConfig::same(shape.channels, self.channels(*channels), kernel, [*stride; 3]);
            let names = [format!("{prefix}{name}"), format!("{prefix}{name}_bn")];
            let plain = unit(conv, [&names[0], &names[1]]);
            let unit = ConvUnitConfig { dynamic: self.general.dynamic_config(kernel), ..plain };
            let (unit, output) = unit.init(scope, shape);
            units.push(unit);
            shape = output;
        }
        (Branch { pool, units }, shape)
    }

    fn channels(&self, published: i64) -> i64 {
        ((self.width * published as f64).round() as i64).max(1)
    }
}

/// A static unit with ReLU; names are those of the convolution and of its norm.
fn unit<'a>(conv: ConvConfig, [conv_name, norm_name]: [&'a str; 2]) -> ConvUnitConfig<'a> {
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

impl Branch {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let pooled = self.pool.map_or_else(|| x_ncthw.shallow_clone(), |pool| pool.forward(x_ncthw));
        self.units.iter().fold(pooled, |x, unit| unit.forward_t(&x, pass))
    }

    fn trace(&self, input: FeatureShape, costs: &mut Vec<LayerCost>) -> FeatureShape {
        let pooled = self.pool.map_or(input, |pool| pool.output(input));
        self.units.iter().fold(pooled, |shape, unit| unit.trace(shape, costs))
    }
}

impl Backbone for Inception {
    fn forward_t(&self, x_ncthw: &Tensor, pass: &mut Pass) -> Tensor {
        let stem = self.stem.forward_t(x_ncthw, pass);
        let second = STEM_POOL.forward(&self.second.forward_t(&stem, pass));
        let features = self.blocks.iter().fold(second, |x, branches| {
            let parts: Vec<Tensor> = branches.iter().map(|branch| branch.forward_t(&x, pass)).collect();
            Tensor::cat(&parts, 1)
        });
        self.head.forward_t(&features, pass)
    }

    fn trace(&self, clip: FeatureShape) -> Vec<LayerCost> {
        let mut costs = Vec::new();
        let stem = self.stem.trace(clip, &mut costs);
        let second = STEM_POOL.output(self.second.trace(stem, &mut costs));
        self.blocks.iter().fold(second, |input, branches| {
            let shapes: Vec<FeatureShape> = branches.iter().map(|branch| branch.trace(input, &mut costs)).collect();
            FeatureShape { channels: shapes.iter().map(|shape| shape.channels).sum(), ..shapes[0] }
        });
        self.head.trace(&mut costs);
        costs
    }
}
