//! The recipe's `[data]` section.

mod augment;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use augment::{Erasing, Fill, Jitter, RandAugment};

/// What is read and what a model sees of it. Validated: a value that was read is usable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct DataConfig {
    /// Where the training clips are: a URL, or a path below the store's root.
    pub train: String,
    /// Where the held-out clips are.
    pub val: String,
    /// What is read of a clip's file.
    #[serde(default, skip_serializing_if = "Reading::is_whole")]
    pub read: Reading,
    /// Frames of a clip that the model sees.
    pub frames: u32,
    /// Distance between two of them in the source, in frames.
    pub stride: u32,
    /// Short side that a frame is scaled to before the crop, pixels: between the two in training, the first in
    /// validation.
    pub short_side: [u32; 2],
    /// How it is drawn between the two.
    #[serde(default)]
    pub jitter: Jitter,
    /// Side of the square crop, pixels.
    pub crop: u32,
    /// How often a batch of training shows each of its clips, every time in another view.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub views: u32,
    /// Whether half of the training clips are mirrored. Where left and right are labels: off, or with `mirrored`.
    #[serde(default)]
    pub flip: bool,
    /// Pairs of classes that a mirror makes of each other: the label of a mirrored clip is the other one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrored: Vec<[String; 2]>,
    /// Operations on the colours and the place of training clips, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
    /// A box that training clips lose, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erasing: Option<Erasing>,
    /// Mean of each channel on a scale of 0 to 1; the device subtracts it.
    pub mean: [f32; 3],
    /// Standard deviation of each channel; the device divides by it.
    pub std: [f32; 3],
}

/// How much of a clip's file is read, and so judged: a clip is broken if what is read of it is. It belongs to the recipe, not to
/// a loader, so that all loaders find the same clips broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// All of it: decoded frames can be kept from epoch to epoch.
    #[default]
    Whole,
    /// The groups of pictures that the view at hand needs.
    Groups,
}

impl Reading {
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

fn once() -> u32 {
    1
}

fn is_once(views: &u32) -> bool {
    *views == 1
}

impl Serialize for DataConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What serde derives under `remote`, not this function.
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for DataConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        config.check().map_err(D::Error::custom)?;
        Ok(config)
    }
}

/// Why a `[data]` section is refused. Each names the field, its value and the bound.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ConfigError {
    /// A location is missing.
    #[error("data.{field} is empty: give a URL, or a path below the store's root")]
    Location {
        /// Which of the two.
        field: &'static str,
    },
    /// A number lies outside of its range.
    #[error("data.{field} is {value}, but must be from {low} to {high}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// The least that is allowed.
        low: f64,
        /// The most that is allowed.
        high: f64,
    },
    /// The jitter range runs backwards.
    #[error("data.short_side is [{low}, {high}], but the first must not exceed the second")]
    Jitter {
        /// First number.
        low: u32,
        /// Second number.
        high: u32,
    },
    /// Classes are exchanged that no mirror shows.
    #[error("data.mirrored names classes, but data.flip is off: nothing is mirrored")]
    NothingMirrored,
    /// A class would have two mirror images, or itself.
    #[error("data.mirrored names {class:?} twice: a class has one mirror image")]
    MirroredTwice {
        /// The class.
        class: String,
    },
    /// The crop does not fit into the smallest frame.
    #[error("data.crop is {crop}, but must be at most data.short_side[0] = {short_side}")]
    Crop {
        /// The crop.
        crop: u32,
        /// The smallest short side.
        short_side: u32,
    },
}

/// Most views of one clip in a batch.
const MAX_VIEWS: u32 = 16;
/// Longest side that a frame may be scaled to, pixels.
const MAX_SIDE: u32 = 2048;

impl DataConfig {
    fn check(&self) -> Result<(), ConfigError> {
        for (field, url) in [("train", &self.train), ("val", &self.val)] {
            if url.trim().is_empty() {
                return Err(ConfigError::Location { field });
            }
        }
        range("frames", self.frames, 1, 256)?;
        range("stride", self.stride, 1, 256)?;
        range("views", self.views, 1, MAX_VIEWS)?;
        let [low, high] = self.short_side;
        range("short_side[0]", low, 8, MAX_SIDE)?;
        range("short_side[1]", high, 8, MAX_SIDE)?;
        range("crop", self.crop, 8, MAX_SIDE)?;
        if low > high {
            return Err(ConfigError::Jitter { low, high });
        }
        if self.crop > low {
            return Err(ConfigError::Crop { crop: self.crop, short_side: low });
        }
        for (mean, std) in self.mean.iter().zip(&self.std) {
            real("mean", *mean, 0.0)?;
            real("std", *std, 1e-3)?;
        }
        check_mirrored(self.flip, &self.mirrored)?;
        self.rand_augment.map_or(Ok(()), |augment| augment.validate())?;
        self.erasing.map_or(Ok(()), |erasing| erasing.validate())
    }

    /// Short side that frames are decoded at: the largest that any training view needs, so that a decoded clip serves
    /// every view of it; for validation the one that is shown.
    pub fn decoded_short_side(&self, training: bool) -> u32 {
        if training { self.short_side[1] } else { self.short_side[0] }
    }

    /// Views that a batch shows of each of its clips.
    pub fn views_of(&self, training: bool) -> u32 {
        if training { self.views } else { 1 }
    }

    /// Bytes of one view of a clip in a batch.
    pub fn clip_bytes(&self) -> usize {
        self.frames as usize * self.crop as usize * self.crop as usize * 3
    }
}

fn check_mirrored(flip: bool, pairs: &[[String; 2]]) -> Result<(), ConfigError> {
    if !flip && !pairs.is_empty() {
        return Err(ConfigError::NothingMirrored);
    }
    let mut seen = std::collections::HashSet::new();
    match pairs.iter().flatten().find(|class| !seen.insert(*class)) {
        Some(class) => Err(ConfigError::MirroredTwice { class: class.clone() }),
        None => Ok(()),
    }
}

fn range(field: &'static str, value: u32, low: u32, high: u32) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range { field, value: value.into(), low: low.into(), high: high.into() })
}

/// Checks a colour statistic, which is at most 1; NaN fails as well.
fn real(field: &'static str, value: f32, low: f32) -> Result<(), ConfigError> {
    if (low..=1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range { field, value: value.into(), low: low.into(), high: 1.0 })
}

/// Both ends are allowed; NaN is not.
fn span(field: &'static str, value: f64, low: f64, high: f64) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::Range { field, value, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &str = r#"
        train = "data/demo/train"
        val = "data/demo/val"
        frames = 8
        stride = 4
        short_side = [64, 72]
        crop = 56
        flip = false
        mean = [0.45, 0.45, 0.45]
        std = [0.225, 0.225, 0.225]
    "#;

    fn with(from: &str, to: &str) -> String {
        let text = DEMO.replace(from, to);
        assert_ne!(text, DEMO, "the test changes nothing");
        toml::from_str::<DataConfig>(&text).expect_err("must be refused").message().to_owned()
    }

    #[test]
    fn the_demo_section_parses() {
        let config: DataConfig = toml::from_str(DEMO).expect("valid");
        assert_eq!(config.clip_bytes(), 8 * 56 * 56 * 3);
        assert_eq!([true, false].map(|training| config.decoded_short_side(training)), [72, 64]);
        let twice: DataConfig = toml::from_str(&format!("views = 2\n{DEMO}")).expect("valid");
        assert_eq!([true, false].map(|training| twice.views_of(training)), [2, 1]);
    }

    #[test]
    fn each_refusal_names_field_value_and_bound() {
        assert_eq!(with("frames = 8", "frames = 0"), "data.frames is 0, but must be from 1 to 256");
        assert_eq!(with("flip = false", "views = 0"), "data.views is 0, but must be from 1 to 16");
        assert_eq!(with("stride = 4", "stride = 999"), "data.stride is 999, but must be from 1 to 256");
        assert_eq!(with("crop = 56", "crop = 65"), "data.crop is 65, but must be at most data.short_side[0] = 64");
        assert_eq!(
            with("[64, 72]", "[80, 72]"),
            "data.short_side is [80, 72], but the first must not exceed the second"
        );
        assert_eq!(
            with("\"data/demo/val\"", "\" \""),
            "data.val is empty: give a URL, or a path below the store's root"
        );
        assert!(with("0.225, 0.225, 0.225", "0.225, 0.0, 0.225").starts_with("data.std is 0, but must be from 0.001"));
        assert!(with("0.45, 0.45, 0.45", "nan, 0.45, 0.45").starts_with("data.mean is NaN"));
    }

    #[test]
    fn a_class_has_one_mirror_image_and_only_where_there_is_a_mirror() {
        let text = DEMO.replace("flip = false", "flip = true\nmirrored = [[\"left\", \"right\"], [\"in\", \"out\"]]");
        let config: DataConfig = toml::from_str(&text).expect("valid");
        assert_eq!(config.mirrored[1], ["in", "out"]);
        assert_eq!(
            with("flip = false", "mirrored = [[\"left\", \"right\"]]"),
            "data.mirrored names classes, but data.flip is off: nothing is mirrored"
        );
        for pairs in ["[[\"a\", \"a\"]]", "[[\"a\", \"b\"], [\"c\", \"a\"]]"] {
            assert_eq!(
                with("flip = false", &format!("flip = true\nmirrored = {pairs}")),
                "data.mirrored names \"a\" twice: a class has one mirror image"
            );
        }
    }

    #[test]
    fn augmentation_is_off_until_it_is_asked_for() {
        let plain: DataConfig = toml::from_str(DEMO).expect("valid");
        assert_eq!((plain.jitter, plain.rand_augment, plain.erasing), (Jitter::Uniform, None, None));
        let text = format!("{DEMO}\njitter = \"inverse_uniform\"\n[rand_augment]\n[erasing]\nfill = \"mean\"");
        let config: DataConfig = toml::from_str(&text).expect("valid");
        assert_eq!(config.rand_augment, Some(RandAugment::default()));
        assert_eq!(config.erasing, Some(Erasing { fill: Fill::Mean, ..Erasing::default() }));
        let written = toml::to_string(&config).expect("a config is a document");
        assert_eq!(toml::from_str::<DataConfig>(&written).expect("what was written"), config);
    }

    #[test]
    fn augmentation_out_of_bounds_is_refused_by_name() {
        let of = |line: &str| with("std = [", &format!("{line}\nstd = ["));
        assert_eq!(of("rand_augment.magnitude = 11"), "data.rand_augment.magnitude is 11, but must be from 0 to 10");
        assert_eq!(of("rand_augment.operations = 0"), "data.rand_augment.operations is 0, but must be from 1 to 8");
        assert_eq!(of("erasing.area = [0.5, 0.4]"), "data.erasing.area[0] is 0.5, but must be from 0.001 to 0.4");
        assert_eq!(of("erasing.aspect = nan"), "data.erasing.aspect is NaN, but must be from 0.05 to 1");
        assert!(of("rand_augment.magnitud = 9").contains("unknown field `magnitud`"));
        assert!(of("jitter = \"normal\"").contains("unknown variant `normal`"));
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        assert!(with("flip = false", "flop = false").contains("unknown field `flop`"));
    }
}
