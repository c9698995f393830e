//! Weights of others become networks.

use std::collections::BTreeMap;

use models::{
    Card, Classes, Dynamic, Import, Imported, Midplanes, Mode, ModelConfig, Network, Policy, R2plus1dConfig,
    ViewChange, X3dConfig,
};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tch::{Device, Kind, Tensor};

use crate::published::fill;
use crate::{build, clip, clips, relative_error, seeded, small};

/// What `golden/tiny.py` makes: a legacy checkpoint of half precision with a wrapper and a prefix.
const TINY: &[u8] = include_bytes!("../golden/tiny_r2plus1d.pth");

fn read(bytes: &[u8], wanted: &Import) -> Imported {
    tch::set_num_threads(1);
    wanted.read(bytes).expect("it fits")
}

fn refusal(bytes: &[u8], wanted: &Import) -> String {
    wanted.read(bytes).expect_err("it does not fit").to_string()
}

/// A small plain network as others know it: published names, nothing of ours in the file.
fn plain(midplanes: Midplanes) -> (ModelConfig, Network) {
    let config = small(|config| {
        config.midplanes = midplanes;
        *config = R2plus1dConfig { blocks: [1, 2, 1, 1], widths: config.widths, midplanes, ..R2plus1dConfig::r18(5) };
    });
    let network = seeded(&config, clip(16, 32), 7);
    (config, network)
}

fn bytes(network: &Network) -> Vec<u8> {
    network.to_safetensors().expect("host memory")
}

/// The file under other names.
fn renamed(file: &[u8], name: impl Fn(&str) -> String) -> Vec<u8> {
    let file = SafeTensors::deserialize(file).expect("a good file");
    let tensors: BTreeMap<String, TensorView<'_>> =
        file.tensors().into_iter().map(|(old, tensor)| (name(&old), tensor)).collect();
    safetensors::serialize(tensors, None).expect("a good file")
}

fn logits(network: &Network, policy: &Policy) -> Tensor {
    let clips = clips([2, 3, 8, 32, 32]);
    tch::no_grad(|| network.forward(&clips, Mode { train: false }, policy)).logits_nk
}

#[test]
fn a_checkpoint_that_torch_saved_is_recognised_and_filled() {
    let imported = read(TINY, &Import::default());
    let expected = R2plus1dConfig { blocks: [1; 4], widths: [2, 3, 4, 5], stem: Some(3), ..R2plus1dConfig::r18(4) };
    assert_eq!(imported.card.model, ModelConfig::R2plus1d(expected));
    let own = build(&imported.card.model, clip(16, 112));
    fill(&own);
    for (got, expected) in imported.network.params().all().iter().zip(own.params().all()) {
        let rounded = expected.tensor.to_kind(Kind::Half).to_kind(expected.tensor.kind());
        assert_eq!(got.tensor, rounded, "{}", got.name);
    }
    let notes = imported.notes.join("; ");
    assert!(notes.contains("torch.save (before 1.6)") && notes.contains("of half precision become single"), "{notes}");
}

#[test]
fn both_layouts_are_told_apart_by_their_shapes() {
    for midplanes in [Midplanes::Shared, Midplanes::PerConv] {
        let (config, network) = plain(midplanes);
        let imported = read(&bytes(&network), &Import::default());
        assert_eq!(imported.card.model, config, "{midplanes:?}");
        assert!(bytes(&imported.network) == bytes(&network));
    }
    // Asked for by name, the other layout is an error that says so.
    let (_, network) = plain(Midplanes::Shared);
    let shared = R2plus1dConfig::r18(3);
    let per_conv = R2plus1dConfig { midplanes: Midplanes::PerConv, ..shared };
    let file = bytes(&seeded(&ModelConfig::R2plus1d(per_conv), clip(4, 16), 1));
    let error = refusal(&file, &Import { model: Some("r2plus1d_18".to_owned()), ..Import::default() });
    assert!(error.contains("layer2.0.conv2.0.0.weight has shape [288, 128, 1, 3, 3]"), "{error}");
    assert!(error.contains("needs [230, 128, 1, 3, 3]; is `midplanes` the file's"), "{error}");
    let error = refusal(&bytes(&network), &Import { model: Some("r2plus1d_34".to_owned()), ..Import::default() });
    assert!(error.contains("missing") && error.contains("layer1.1.conv1.0.0.weight"), "{error}");
}

#[test]
fn wrappers_prefixes_are_taken_off() {
    let (config, network) = plain(Midplanes::Shared);
    for prefix in ["module.", "model.", "module.model."] {
        let imported = read(&renamed(&bytes(&network), |name| format!("{prefix}{name}")), &Import::default());
        assert_eq!(imported.card.model, config, "{prefix}");
        assert!(bytes(&imported.network) == bytes(&network), "{prefix}");
    }
}

#[test]
fn what_is_missing_or_unexpected_is_told_by_name() {
    let (_, network) = plain(Midplanes::Shared);
    let file = renamed(&bytes(&network), |name| name.replace("layer3.0.conv1.1.bias", "layer3.0.conv1.1.shift"));
    let error = refusal(&file, &Import::default());
    assert!(error.contains("missing 1: layer3.0.conv1.1.bias"), "{error}");
    assert!(error.contains("unexpected 1: layer3.0.conv1.1.shift"), "{error}");
    let foreign = renamed(&bytes(&network), |name| format!("backbone.{name}"));
    let error = refusal(&foreign, &Import::default());
    assert!(error.contains("no network that vared has: backbone.fc.bias"), "{error}");
    let error = refusal(&bytes(&network), &Import { model: Some("r3d_18".to_owned()), ..Import::default() });
    assert!(error.contains("no published network \"r3d_18\"; there are r2plus1d_18,"), "{error}");
}

#[test]
fn a_head_for_other_classes_starts_anew_only_if_asked() {
    let (_, network) = plain(Midplanes::Shared);
    let names = ["sit".to_owned(), "stand".to_owned()];
    let two = Import { classes: Some(Classes::Named(names.to_vec())), ..Import::default() };
    let error = refusal(&bytes(&network), &two);
    assert!(error.contains("head is for 5 classes, 2 are asked for") && error.contains("--head new"), "{error}");
    let imported = read(&bytes(&network), &Import { new_head: true, ..two });
    assert_eq!((imported.card.model.classes(), &imported.card.classes[..]), (2, &names[..]));
    assert!(
        imported.notes.iter().any(|note| note.contains("the head starts anew, for 2 classes")),
        "{:?}",
        imported.notes
    );
    for (got, old) in imported.network.params().all().iter().zip(network.params().all()) {
        let is_head = got.name.starts_with("fc.");
        assert!(is_head || got.tensor == old.tensor, "{}", got.name);
        assert!(!is_head || got.tensor.size()[0] == 2, "{}", got.name);
    }
    // Names for the classes that the file has need no new head.
    let five = (0..5).map(|class| format!("class {class}")).collect();
    let imported = read(&bytes(&network), &Import { classes: Some(Classes::Named(five)), ..Import::default() });
    assert_eq!(imported.card.classes[4], "class 4");
}

#[test]
fn gates_are_added_if_asked_and_the_backbone_is_the_same() {
    let (_, network) = plain(Midplanes::Shared);
    let view = ViewChange { frames: Some(8), stride: Some(4), short_side: Some(40), crop: Some(32) };
    let imported = read(&bytes(&network), &Import { dynamic: true, view, ..Import::default() });
    assert_eq!((imported.card.model.dynamic(), imported.card.view.frames), (Dynamic::All, 8));
    assert!(imported.notes.iter().any(|note| note.contains("start anew")), "{:?}", imported.notes);
    let error = relative_error(&logits(&imported.network, &Policy::Full), &logits(&network, &Policy::Full));
    assert!(error <= 1e-5, "{error}");
    // What was imported can be imported: the card says what it is, and the gates stay.
    let file = imported.network.to_safetensors_with(&imported.card).expect("host memory");
    let again = read(&file, &Import::default());
    assert_eq!(again.card, imported.card);
    assert!(file == again.network.to_safetensors_with(&again.card).expect("host memory"));
}

#[test]
fn half_precision_is_widened() {
    let (config, network) = plain(Midplanes::Shared);
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = (network.params().all().iter())
        .filter(|param| param.tensor.kind() == Kind::Float)
        .map(|param| {
            let half = param.tensor.detach().to_kind(Kind::BFloat16).contiguous();
            let mut data = vec![0; 2 * half.numel()];
            half.copy_data_u8(&mut data, half.numel());
            (param.name.clone(), param.tensor.size().iter().map(|size| *size as usize).collect(), data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.as_str(), TensorView::new(Dtype::BF16, shape.clone(), data).expect("two bytes an element"))
    });
    let file = safetensors::serialize(views, None).expect("a good file");
    let imported = read(&file, &Import::default());
    assert_eq!(imported.card.model, config);
    for (got, old) in imported.network.params().all().iter().zip(network.params().all()) {
        assert_eq!(got.tensor, old.tensor.to_kind(Kind::BFloat16).to_kind(old.tensor.kind()), "{}", got.name);
    }
}

/// PySlowFast's name of one of PyTorchVideo's, for X3D: the rules the other way round.
fn pyslowfast(name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in [
        ("blocks.0.conv.conv_t", "s1.pathway0_stem.conv_xy"),
        ("blocks.0.conv.conv_xy", "s1.pathway0_stem.conv"),
        ("blocks.0.norm", "s1.pathway0_stem.bn"),
        ("blocks.5.pool.pre_conv", "head.conv_5"),
        ("blocks.5.pool.pre_norm", "head.conv_5_bn"),
        ("blocks.5.pool.post_conv", "head.lin_5"),
        ("blocks.5.proj", "head.projection"),
        ("branch1_conv", "branch1"),
        ("branch1_norm", "branch1_bn"),
        ("norm_b.1.block.0", "se.fc1"),
        ("norm_b.1.block.2", "se.fc2"),
        ("norm_b.0", "b_bn"),
        ("norm_b", "b_bn"),
        ("norm_a", "a_bn"),
        ("norm_c", "c_bn"),
        ("conv_a", "a"),
        ("conv_b", "b"),
        ("conv_c", "c"),
    ] {
        if let Some(at) = name.find(from) {
            name.replace_range(at..at + from.len(), to);
            break;
        }
    }
    let stage = name.strip_prefix("blocks.").and_then(|rest| rest.split_once(".res_blocks."));
    let stage = stage.map(|(stage, rest)| (stage.parse::<u32>().expect("a number") + 1, rest.to_owned()));
    stage.map_or(name, |(stage, rest)| format!("s{stage}.pathway0_res{rest}"))
}

#[test]
fn x3d_of_pyslowfast_comes_under_its_own_names() {
    for first_shortcut_norm in [false, true] {
        let config = ModelConfig::X3d(X3dConfig { first_shortcut_norm, ..X3dConfig::m(3) });
        let network = seeded(&config, clip(4, 32), 3);
        let theirs = renamed(&bytes(&network), pyslowfast);
        let names = SafeTensors::deserialize(&theirs).expect("a good file").names().join(" ");
        assert!(!names.contains("blocks.") && names.contains("s2.pathway0_res0.branch2.a.weight"), "{names}");
        let imported = read(&theirs, &Import::default());
        assert_eq!(imported.card.model, config);
        assert!(bytes(&imported.network) == bytes(&network), "norm on the first shortcut: {first_shortcut_norm}");
        assert!(imported.notes[0].contains("PySlowFast's names: x3d_m"), "{:?}", imported.notes);
    }
}

#[test]
fn every_published_network_has_a_card_that_holds() {
    for name in ["r2plus1d_18", "r2plus1d_34", "x3d_s", "x3d_m", "x3d_l", "i3d_r50", "inception_v2"] {
        let card = Card::published(name, 400).expect("published");
        card.validate().expect("within bounds");
        assert_eq!((card.model.classes(), card.model.dynamic()), (400, Dynamic::None), "{name}");
    }
    let small_clips = Card::published("x3d_s", 10).expect("published");
    let network = Network::build(&small_clips.model, small_clips.view.clip(), 1, Device::Cpu).expect("a good card");
    assert_eq!(network.costs().backbone_macs() / 1_000_000, 1962);
}
