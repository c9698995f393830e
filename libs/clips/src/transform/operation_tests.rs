//! Every operation against the Python Imaging Library's own result: tests/golden/pil_operations.py.

use serde::Deserialize;

use super::*;

const SIDE: usize = 12;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    operation: String,
    value: f64,
    pixels: String,
}

fn pixels() -> Vec<u8> {
    let value = |at: usize| {
        let (x, y, c) = (at / 3 % SIDE, at / 3 / SIDE, at % 3);
        (40 + (7 * x * x + 13 * y + 3 * x * y + 50 * c) % 173) as u8
    };
    (0..SIDE * SIDE * 3).map(value).collect()
}

fn operation(name: &str, value: f64) -> Operation {
    match name {
        "auto_contrast" => Operation::AutoContrast,
        "equalize" => Operation::Equalize,
        "invert" => Operation::Invert,
        "rotate" => Operation::Rotate(value.to_radians()),
        "posterize" => Operation::Posterize(value as u32),
        "solarize" => Operation::Solarize(value as u32),
        "solarize_add" => Operation::SolarizeAdd(value as u32),
        "colour" => Operation::Colour(value as f32),
        "contrast" => Operation::Contrast(value as f32),
        "brightness" => Operation::Brightness(value as f32),
        "sharpness" => Operation::Sharpness(value as f32),
        "shear_x" => Operation::ShearX(value),
        "shear_y" => Operation::ShearY(value),
        "translate_x" => Operation::TranslateX(value),
        "translate_y" => Operation::TranslateY(value),
        other => panic!("the golden file has an operation {other}"),
    }
}

fn applied(operation: Operation, mut pixels: Vec<u8>) -> Vec<u8> {
    let frame = Frame { pixels: &mut pixels, side: SIDE, mean: [115, 100, 90] };
    operation.prepare(SIDE).apply(frame);
    pixels
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_operation_gives_the_bytes_of_its_definition() {
    let golden = include_str!("../../tests/golden/pil_operations.json");
    let Golden { cases } = serde_json::from_str(golden).expect("JSON");
    let mut names: Vec<&str> = cases.iter().map(|case| case.operation.as_str()).collect();
    names.dedup();
    assert_eq!(names.len(), 15);
    for Case { operation: name, value, pixels: expected } in &cases {
        assert_eq!(hex(&applied(operation(name, *value), pixels())), *expected, "{name} {value}");
    }
}

#[test]
fn a_flat_frame_has_nothing_to_stretch() {
    for operation in [Operation::AutoContrast, Operation::Equalize, Operation::Sharpness(1.9)] {
        assert_eq!(applied(operation, vec![77; SIDE * SIDE * 3]), vec![77; SIDE * SIDE * 3], "{operation:?}");
    }
}

/// timm's `rand-m9-mstd0.5-inc1` at magnitude 9, by its own formulas.
#[test]
fn levels_mean_what_timm_means() {
    let new = |index: u32, sign| Operation::new((f64::from(index) + 0.5) / 15.0, 0.9, sign);
    assert_eq!(new(3, -1.0), Operation::Rotate(-27.0_f64.to_radians()));
    assert_eq!(
        (new(4, 1.0), new(5, 1.0), new(6, 1.0)),
        (Operation::Posterize(1), Operation::Solarize(26), Operation::SolarizeAdd(99))
    );
    assert_eq!((new(7, -1.0), new(10, 1.0)), (Operation::Colour(0.19), Operation::Sharpness(1.81)));
    assert_eq!((new(11, 1.0), new(14, -1.0)), (Operation::ShearX(0.9 * 0.3), Operation::TranslateY(-0.9 * 0.45)));
    let all: Vec<Operation> = (0..15).map(|index| new(index, 1.0)).collect();
    assert!(all.iter().enumerate().all(|(i, one)| all[..i].iter().all(|other| one != other)));
    assert_eq!(Operation::new(0.999_999, 1.0, 1.0), Operation::TranslateY(0.45));
    assert_eq!(Operation::new(4.5 / 15.0, 1.0, 1.0), Operation::Posterize(1), "never black");
}
