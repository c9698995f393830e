//! The published networks: their names, how their clips are cut and normalised, and how their weights are told apart.

use super::import::Tensors;
use super::{Card, Pixels, View};
use crate::r2plus1d::midplanes;
use crate::{Dynamic, I3dConfig, InceptionConfig, Midplanes, ModelConfig, ModelError, R2plus1dConfig, X3dConfig};

/// A published network.
struct Family {
    name: &'static str,
    model: fn(i64) -> ModelConfig,
    view: View,
    pixels: Pixels,
}

/// What torchvision's and ig65m's networks were trained on.
const KINETICS: Pixels = Pixels { mean: [0.43216, 0.394_666, 0.37645], std: [0.22803, 0.22145, 0.216_989] };
/// PySlowFast's and PyTorchVideo's.
const GREY: Pixels = Pixels { mean: [0.45; 3], std: [0.225; 3] };

/// Frames and their distance, then the short side at test and the native crop.
const fn view(frames: u32, stride: u32, [short_side, crop]: [u32; 2]) -> View {
    View { frames, stride, short_side, crop }
}

/// 16 frames at 15 a second.
const R2PLUS1D: View = view(16, 2, [128, 112]);
const X3D_M: View = view(16, 5, [256, 224]);
const X3D_L: View = view(16, 5, [356, 312]);
const I3D: View = view(8, 8, [256, 224]);

const fn family(name: &'static str, model: fn(i64) -> ModelConfig, view: View, pixels: Pixels) -> Family {
    Family { name, model, view, pixels }
}

/// Where two have the same weights, the first is what they are taken for.
static FAMILIES: [Family; 9] = [
    family("r2plus1d_18", |k| r2plus1d([2; 4], Midplanes::Shared, k), R2PLUS1D, KINETICS),
    family("r2plus1d_34", |k| r2plus1d([3, 4, 6, 3], Midplanes::PerConv, k), R2PLUS1D, KINETICS),
    family("r2plus1d_18_per_conv", |k| r2plus1d([2; 4], Midplanes::PerConv, k), R2PLUS1D, KINETICS),
    family("r2plus1d_34_shared", |k| r2plus1d([3, 4, 6, 3], Midplanes::Shared, k), R2PLUS1D, KINETICS),
    family("x3d_m", |k| ModelConfig::X3d(X3dConfig::m(k)), X3D_M, GREY),
    family("x3d_s", |k| ModelConfig::X3d(X3dConfig::m(k)), view(13, 6, [182, 160]), GREY),
    family("x3d_l", |k| ModelConfig::X3d(X3dConfig::l(k)), X3D_L, GREY),
    family("i3d_r50", |k| ModelConfig::I3d(I3dConfig::r50(k)), I3D, GREY),
    family("inception_v2", |k| ModelConfig::Inception(InceptionConfig::v2(k)), I3D, GREY),
];

fn r2plus1d(blocks: [i64; 4], midplanes: Midplanes, classes: i64) -> ModelConfig {
    ModelConfig::R2plus1d(R2plus1dConfig { blocks, midplanes, ..R2plus1dConfig::r18(classes) })
}

impl Card {
    /// The card of a published network, plain, without names of classes.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn published(name: &str, classes: i64) -> Result<Self, ModelError> {
        let family = FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| ModelError::NoSuchNetwork {
            name: name.to_owned(),
            known: FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", "),
        })?;
        let Family { model, view, pixels, .. } = family;
        Ok(Self { model: model(classes), view: *view, pixels: *pixels, classes: Vec::new() })
    }
}

/// The published network of this name, as far as the file may differ from it: in its classes, and in a norm that
/// PySlowFast's X3D has.
pub(super) fn named(name: &str, tensors: &Tensors<'_>) -> Result<Card, ModelError> {
    let card = Card::published(name, 1)?;
    let classes = size(tensors, &format!("{}weight", head(&card.model)), 0).unwrap_or(1);
    let mut model = card.model.with_classes(classes);
    if let ModelConfig::X3d(config) = &mut model {
        config.first_shortcut_norm = tensors.contains_key("blocks.1.res_blocks.0.branch1_norm.weight");
    }
    Ok(Card { model, ..card })
}

/// The network that these tensors are the weights of.
pub(super) fn recognise(tensors: &Tensors<'_>) -> Result<Card, ModelError> {
    if let Some(card) = recognise_r2plus1d(tensors) {
        return Ok(card);
    }
    let has = |name: &str| tensors.contains_key(name);
    let name = if has("blocks.0.conv.conv_t.weight") {
        // The deeper one has five blocks where the other has three.
        if has("blocks.1.res_blocks.4.branch2.conv_a.weight") { "x3d_l" } else { "x3d_m" }
    } else if has("blocks.0.conv.weight") && has("blocks.6.proj.weight") {
        "i3d_r50"
    } else if has("conv1_7x7_s2.weight") {
        "inception_v2"
    } else {
        let some: Vec<&str> = tensors.keys().take(3).map(String::as_str).collect();
        return Err(ModelError::Unrecognised { names: format!("{}, … ({})", some.join(", "), tensors.len()) });
    };
    named(name, tensors)
}

/// Of any depth and width: both are told by the names and shapes.
fn recognise_r2plus1d(tensors: &Tensors<'_>) -> Option<Card> {
    let (mut blocks, mut widths) = ([0; 4], [0; 4]);
    for stage in 0..4 {
        let name = |block: i64, conv: &str| format!("layer{}.{block}.{conv}.weight", stage + 1);
        blocks[stage] = (0..64).take_while(|block| tensors.contains_key(&name(*block, "conv1.0.0"))).count() as i64;
        widths[stage] = size(tensors, &name(0, "conv2.0.3"), 0)?;
    }
    // Only where a stage begins do the layouts differ; in a narrow network not even everywhere there.
    let begins_with = |middle: &dyn Fn(usize) -> i64| {
        (1..4).all(|stage| size(tensors, &format!("layer{}.0.conv2.0.0.weight", stage + 1), 0) == Some(middle(stage)))
    };
    let is_shared = begins_with(&|stage| midplanes(widths[stage - 1], widths[stage]));
    let is_per_conv = !is_shared && begins_with(&|stage| midplanes(widths[stage], widths[stage]));
    let midplanes = if is_per_conv { Midplanes::PerConv } else { Midplanes::Shared };
    let config = R2plus1dConfig { blocks, widths, midplanes, ..R2plus1dConfig::r18(size(tensors, "fc.weight", 0)?) };
    let stem = size(tensors, "stem.0.weight", 0).filter(|stem| *stem != config.stem_channels());
    let model = ModelConfig::R2plus1d(R2plus1dConfig { stem, ..config });
    Some(Card { model, view: R2PLUS1D, pixels: KINETICS, classes: Vec::new() })
}

/// Size of an axis of a tensor, if it is there.
fn size(tensors: &Tensors<'_>, name: &str, axis: usize) -> Option<i64> {
    // Above what a network may have it is refused later, so what does not fit may as well be the most.
    Some(i64::try_from(*tensors.get(name)?.shape().get(axis)?).unwrap_or(i64::MAX))
}

/// What the names of the head begin with.
pub(super) fn head(model: &ModelConfig) -> &'static str {
    match model {
        ModelConfig::R2plus1d(_) => "fc.",
        ModelConfig::X3d(_) => "blocks.5.proj.",
        ModelConfig::I3d(_) => "blocks.6.proj.",
        ModelConfig::Inception(_) => "last_linear.",
    }
}

/// The network in a few words.
pub(super) fn describe(model: &ModelConfig) -> String {
    let classes = model.classes();
    let mut plain = model.clone().with_dynamic(Dynamic::None);
    let mut more = "";
    if let ModelConfig::X3d(config) = &mut plain
        && std::mem::take(&mut config.first_shortcut_norm)
    {
        more = ", with PySlowFast's norm on its first shortcut";
    }
    match FAMILIES.iter().find(|family| (family.model)(classes) == plain) {
        Some(family) => format!("{}{more}, {classes} classes", family.name),
        None => format!("a network of its own shape, {classes} classes"),
    }
}
