//! Weights go out and come back; what does not fit is refused whole.

use std::collections::HashMap;

use models::{Card, Mode, ModelConfig, Network, Pixels, Policy, R2plus1dConfig, View};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::{build, clip, clips, small};

fn seeded(config: &ModelConfig, seed: u64) -> Network {
    crate::seeded(config, clip(8, 32), seed)
}

fn card(model: ModelConfig) -> Card {
    Card {
        model,
        view: View { frames: 8, stride: 2, short_side: 36, crop: 32 },
        pixels: Pixels { mean: [0.45; 3], std: [0.225; 3] },
        classes: ["run", "jump", "sit", "stand", "fall \"down\""].map(str::to_owned).to_vec(),
    }
}

/// The file `bytes` after a change to its tensors.
fn changed(bytes: &[u8], change: impl FnOnce(&mut HashMap<String, TensorView<'_>>)) -> Vec<u8> {
    let file = SafeTensors::deserialize(bytes).expect("a good file");
    let mut tensors: HashMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    change(&mut tensors);
    safetensors::serialize(tensors, None).expect("a good file")
}

#[test]
fn weights_come_back_bit_for_bit() {
    let config = small(|_| ());
    let (from, to) = (seeded(&config, 1), seeded(&config, 2));
    let _ = from.forward(&clips([4, 3, 8, 32, 32]), Mode { train: true }, &Policy::Soft);
    from.apply_norm_statistics(&from.norm_statistics(), 0.1);
    let bytes = from.to_safetensors().expect("host memory");
    to.load_safetensors(&bytes).expect("the same network");
    assert!(bytes == to.to_safetensors().expect("host memory"));
    let tracked = SafeTensors::deserialize(&bytes).expect("a good file");
    let tracked = tracked.tensor("layer1.0.conv1.0.1.num_batches_tracked").expect("a published name");
    assert_eq!((tracked.shape(), tracked.data()), (&[][..], &1_i64.to_le_bytes()[..]));
}

#[test]
fn a_backbone_goes_into_its_dynamic_network_and_out_again() {
    let plain = seeded(&small(|config| config.general.dynamic = models::Dynamic::None), 1);
    let dynamic = seeded(&small(|_| ()), 2);
    let card = card(small(|_| ()));
    let bytes = plain.to_safetensors_with(&card.plain()).expect("host memory");
    dynamic.load_backbone_safetensors(&bytes).expect("the same backbone");
    assert!(bytes == dynamic.backbone_to_safetensors_with(&card).expect("host memory"));
}

#[test]
fn missing_and_unexpected_names_are_both_told_and_nothing_is_overwritten() {
    let network = seeded(&small(|_| ()), 1);
    let before = network.to_safetensors().expect("host memory");
    let other = seeded(&small(|_| ()), 2).to_safetensors().expect("host memory");
    let renamed = changed(&other, |tensors| {
        let bias = tensors.remove("fc.bias").expect("a head has a bias");
        tensors.insert("head.bias".into(), bias);
    });
    let error = network.load_safetensors(&renamed).expect_err("other names").to_string();
    assert!(error.contains("missing 1: fc.bias") && error.contains("unexpected 1: head.bias"), "{error}");
    assert!(before == network.to_safetensors().expect("host memory"));
    // A plain backbone lacks the gates: many names, few shown.
    let plain = seeded(&small(|config| config.general.dynamic = models::Dynamic::None), 1)
        .to_safetensors()
        .expect("host memory");
    let error = network.load_safetensors(&plain).expect_err("no gates").to_string();
    assert!(error.contains("vared.layer1.0.conv1.0.0.cheap") && error.contains(" more"), "{error}");
}

#[test]
fn another_layout_is_told_by_its_shapes_and_nothing_is_overwritten() {
    let per_conv = ModelConfig::R2plus1d(R2plus1dConfig {
        midplanes: models::Midplanes::PerConv,
        blocks: [1; 4],
        ..R2plus1dConfig::r18(5)
    });
    let shared = ModelConfig::R2plus1d(R2plus1dConfig { blocks: [1; 4], ..R2plus1dConfig::r18(5) });
    let bytes = seeded(&per_conv, 1).to_safetensors().expect("host memory");
    let network = seeded(&shared, 2);
    let before = network.to_safetensors().expect("host memory");
    let error = network.load_safetensors(&bytes).expect_err("another layout").to_string();
    assert!(error.contains("layer2.0.conv2.0.0.weight has shape [288, 128, 1, 3, 3]"), "{error}");
    assert!(error.contains("needs [230, 128, 1, 3, 3]") && error.contains("midplanes"), "{error}");
    assert!(before == network.to_safetensors().expect("host memory"));
}

#[test]
fn another_element_type_is_refused() {
    let network = seeded(&small(|_| ()), 1);
    let bytes = network.to_safetensors().expect("host memory");
    static ZEROS: [u8; 5 * 8] = [0; 5 * 8];
    let double = changed(&bytes, |tensors| {
        let view = TensorView::new(safetensors::Dtype::F64, vec![5], &ZEROS).expect("five doubles");
        tensors.insert("fc.bias".into(), view);
    });
    let error = network.load_safetensors(&double).expect_err("doubles").to_string();
    assert!(error.contains("fc.bias holds F64, the network needs F32"), "{error}");
}

#[test]
fn a_damaged_file_is_refused() {
    let network = seeded(&small(|_| ()), 1);
    let bytes = network.to_safetensors().expect("host memory");
    for damaged in [&bytes[..bytes.len() - 1], &bytes[..20], b"PK\x03\x04 not this"] {
        let error = network.load_safetensors(damaged).expect_err("damaged").to_string();
        assert!(error.starts_with("reading weights as safetensors"), "{error}");
    }
}

#[test]
fn the_order_of_names_is_sorted_and_stable() {
    let network = build(&small(|_| ()), clip(8, 32));
    let names: Vec<&str> = network.params().all().iter().map(|param| param.name.as_str()).collect();
    assert!(names.is_sorted());
    assert_eq!(names.len(), names.iter().collect::<std::collections::BTreeSet<_>>().len());
}

#[test]
fn a_card_says_all_that_is_needed_to_use_the_weights() {
    let card = card(small(|config| config.general.search_space = 3));
    let network = seeded(&card.model, 1);
    let bytes = network.to_safetensors_with(&card).expect("host memory");
    let read = Card::of(&bytes).expect("a card");
    assert_eq!(read, card);
    let again = Network::build(&read.model, read.view.clip(), 2, tch::Device::Cpu).expect("a good card");
    again.load_safetensors(&bytes).expect("the same network");
    assert!(bytes == again.to_safetensors_with(&read).expect("host memory"), "a file is the same, byte for byte");
}

#[test]
fn a_missing_or_impossible_card_is_told() {
    let network = seeded(&small(|_| ()), 1);
    let none = Card::of(&network.to_safetensors().expect("host memory")).expect_err("no card").to_string();
    assert!(none.contains("no card") && none.contains("worker import"), "{none}");
    let good = card(small(|_| ()));
    let spoilt = [
        (Card { classes: vec!["one".to_owned()], ..good.clone() }, "1 class names, but the network has 5"),
        (Card { pixels: Pixels { mean: [0.0; 3], std: [0.0; 3] }, ..good.clone() }, "deviation [0.0, 0.0, 0.0]"),
        (Card { view: View { crop: 40, ..good.view }, ..good.clone() }, "`short_side` is 36"),
        (Card { view: View { frames: 0, ..good.view }, ..good.clone() }, "`frames` is 0"),
    ];
    for (card, told) in spoilt {
        let error = Card::of(&network.to_safetensors_with(&card).expect("host memory")).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
    let newer = safetensors::serialize(
        Vec::<(String, TensorView<'_>)>::new(),
        Some(HashMap::from([("vared".to_owned(), r#"{"modell": 1}"#.to_owned())])),
    );
    let error = Card::of(&newer.expect("an empty file")).expect_err("another card").to_string();
    assert!(error.contains("unknown field `modell`"), "{error}");
}
