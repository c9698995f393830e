//! What a user writes to say which network: one tagged document, validated before a network is made.

use nn::{Axes, DynamicConfig, FeatureShape, GateConfig, HeadConfig};
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::i3d::I3dConfig;
use crate::inception::InceptionConfig;
use crate::r2plus1d::R2plus1dConfig;
use crate::x3d::X3dConfig;

/// A network, by its `backbone`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "backbone", rename_all = "lowercase")]
#[non_exhaustive]
pub enum ModelConfig {
    /// R(2+1)D: residual blocks of spatial and temporal convolutions.
    R2plus1d(R2plus1dConfig),
    /// X3D: residual blocks of wide depthwise convolutions.
    X3d(X3dConfig),
    /// I3D on ResNet: bottleneck blocks, some of them with a temporal kernel.
    I3d(I3dConfig),
    /// I3D on Inception-V2: blocks of parallel branches.
    Inception(InceptionConfig),
}

/// The settings that every backbone has, beside its own in the same document.
///
/// Each backbone's config flattens this and denies unknown fields, which serde documents as unsupported; it works for a
/// flattened struct, and a test below would tell if it no longer did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct General {
    /// Classes of the head.
    pub classes: i64,
    /// Share of the head's inputs that training drops; without it the backbone's published one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Which convolutions choose.
    #[serde(default)]
    pub dynamic: Dynamic,
    /// Along what they may save.
    #[serde(default = "General::both")]
    pub axes: Axes,
    /// Options an axis: 2 or 3.
    #[serde(default = "General::two")]
    pub search_space: usize,
    /// The gates.
    #[serde(default)]
    pub gate: GateConfig,
}

/// Which convolutions choose what they compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dynamic {
    /// None: the plain backbone.
    None,
    /// Those whose kernel extends over space.
    Spatial,
    /// All but the stem, the shortcuts and the head.
    #[default]
    All,
}

/// Shape of the clips that a network is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipShape {
    /// Frames a clip.
    pub frames: i64,
    /// Rows after the crop.
    pub height: i64,
    /// Columns after the crop.
    pub width: i64,
}

impl ClipShape {
    pub(crate) fn features(self) -> FeatureShape {
        FeatureShape { channels: 3, frames: self.frames, height: self.height, width: self.width }
    }

    /// Checks its sizes against their bounds.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for the first that is out of them.
    pub fn validate(self) -> Result<(), ModelError> {
        bounded("frames", self.frames, 1..=1024, "from 1 to 1024")?;
        bounded("height", self.height, 8..=2048, "from 8 to 2048")?;
        bounded("width", self.width, 8..=2048, "from 8 to 2048")
    }
}

impl General {
    fn both() -> Axes {
        Axes::Both
    }

    fn two() -> usize {
        2
    }

    /// A plain backbone with the published dropout.
    pub(crate) fn plain(classes: i64) -> Self {
        Self {
            classes,
            dropout: None,
            dynamic: Dynamic::None,
            axes: Axes::Both,
            search_space: 2,
            gate: GateConfig::default(),
        }
    }

    /// What makes the convolutions of this kernel dynamic, if anything does; stem, shortcuts and head don't ask.
    pub(crate) fn dynamic_config(&self, [_, height, width]: [i64; 3]) -> Option<DynamicConfig> {
        let dynamic = match self.dynamic {
            Dynamic::None => false,
            Dynamic::Spatial => height > 1 || width > 1,
            Dynamic::All => true,
        };
        dynamic.then_some(DynamicConfig { axes: self.axes, search_space: self.search_space, gate: self.gate })
    }

    /// A head over `channels`, with the backbone's `published` dropout unless another is asked for.
    pub(crate) fn head(&self, channels: i64, published: f64) -> HeadConfig {
        HeadConfig { channels, classes: self.classes, dropout: self.dropout.unwrap_or(published) }
    }

    fn validate(&self) -> Result<(), ModelError> {
        bounded("classes", self.classes, 1..=1_000_000, "from 1 to 1000000")?;
        bounded("search_space", self.search_space as i64, 2..=3, "2 or 3")?;
        bounded("gate.hidden", self.gate.hidden, 1..=4096, "from 1 to 4096")?;
        let dropout = self.dropout.unwrap_or_default();
        within("dropout", dropout, (0.0..1.0).contains(&dropout), "from 0 to below 1")?;
        for (field, value) in [("gate.full_bias", self.gate.full_bias), ("gate.other_bias", self.gate.other_bias)] {
            within(field, value, value.is_finite(), "a finite number")?;
        }
        let deviation = self.gate.output_std;
        within("gate.output_std", deviation, (0.0..=10.0).contains(&deviation), "from 0 to 10")
    }
}

impl ModelConfig {
    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for the first setting that is out of its bounds.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::R2plus1d(config) => config.validate(),
            Self::X3d(config) => config.validate(),
            Self::I3d(config) => config.validate(),
            Self::Inception(config) => config.validate(),
        }?;
        self.general().validate()
    }

    /// The settings that every backbone has.
    pub fn general(&self) -> &General {
        match self {
            Self::R2plus1d(config) => &config.general,
            Self::X3d(config) => &config.general,
            Self::I3d(config) => &config.general,
            Self::Inception(config) => &config.general,
        }
    }

    /// The same, to be changed.
    pub fn general_mut(&mut self) -> &mut General {
        match self {
            Self::R2plus1d(config) => &mut config.general,
            Self::X3d(config) => &mut config.general,
            Self::I3d(config) => &mut config.general,
            Self::Inception(config) => &mut config.general,
        }
    }

    /// Number of classes of the head.
    pub fn classes(&self) -> i64 {
        self.general().classes
    }

    /// The same network with a head for other classes.
    #[must_use]
    pub fn with_classes(mut self, classes: i64) -> Self {
        self.general_mut().classes = classes;
        self
    }

    /// Which convolutions choose.
    pub fn dynamic(&self) -> Dynamic {
        self.general().dynamic
    }

    /// The same network with another choice of what is dynamic.
    #[must_use]
    pub fn with_dynamic(mut self, dynamic: Dynamic) -> Self {
        self.general_mut().dynamic = dynamic;
        self
    }
}

/// Refuses a setting that is out of its bounds.
pub(crate) fn bounded(
    field: &'static str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
    bound: &'static str,
) -> Result<(), ModelError> {
    within(field, value, range.contains(&value), bound)
}

/// Refuses a setting if it is not `good`.
pub(crate) fn within(
    field: &'static str,
    value: impl ToString,
    good: bool,
    bound: &'static str,
) -> Result<(), ModelError> {
    if good { Ok(()) } else { Err(ModelError::Setting { field, value: value.to_string(), bound }) }
}

/// The default of switches that are on.
pub(crate) fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &str) -> Result<ModelConfig, toml::de::Error> {
        toml::from_str(document)
    }

    const DEMO: &str = r#"
        backbone = "r2plus1d"
        blocks = [1, 1, 1, 1]
        widths = [16, 32, 64, 128]
        classes = 8
        dynamic = "all"
        axes = "both"
        search_space = 2
        [gate]
        hidden = 32
    "#;

    #[test]
    fn a_document_becomes_a_config_and_back() {
        let config = parse(DEMO).expect("a good document");
        let ModelConfig::R2plus1d(r2plus1d) = &config else { panic!("another backbone: {config:?}") };
        assert_eq!(r2plus1d.general.gate, GateConfig { hidden: 32, ..GateConfig::default() });
        assert_eq!(r2plus1d.stem_channels(), 11);
        config.validate().expect("within bounds");
        let written = toml::to_string(&config).expect("a config is a document");
        assert_eq!(parse(&written).expect("what was written"), config);
    }

    #[test]
    fn a_backbone_and_its_classes_are_enough_and_the_rest_is_the_published_one() {
        for (backbone, published) in [
            ("x3d", ModelConfig::X3d(X3dConfig::m(7))),
            ("i3d", ModelConfig::I3d(I3dConfig::r50(7))),
            ("inception", ModelConfig::Inception(InceptionConfig::v2(7))),
        ] {
            let config = parse(&format!("backbone = {backbone:?}\nclasses = 7")).expect("a short document");
            assert_eq!(config, published.with_dynamic(Dynamic::All));
            let written = toml::to_string(&config).expect("a config is a document");
            assert_eq!(parse(&written).expect("what was written"), config);
            let error =
                parse(&format!("backbone = {backbone:?}\nclasses = 7\nmidplanes = \"shared\"")).expect_err("not its");
            assert!(error.to_string().contains("midplanes"), "{error}");
            let error = parse(&format!("backbone = {backbone:?}")).expect_err("no classes").to_string();
            assert!(error.contains("classes"), "{error}");
        }
    }

    #[test]
    fn unknown_settings_are_refused_by_name() {
        for (line, word) in [("depth = 3\nbackbone", "depth"), ("axis = 1\nbackbone", "axis")] {
            let error = parse(&DEMO.replacen("backbone", line, 1)).expect_err("an unknown setting").to_string();
            assert!(error.contains(word), "{error}");
        }
        let error = parse(&DEMO.replace("hidden", "hiden")).expect_err("an unknown gate setting").to_string();
        assert!(error.contains("hiden"), "{error}");
        let error = parse(&DEMO.replace("r2plus1d", "r3d")).expect_err("an unknown backbone").to_string();
        assert!(error.contains("r3d"), "{error}");
    }

    #[test]
    fn settings_out_of_bounds_name_field_value_and_bound() {
        let cases = [
            ("search_space = 2", "search_space = 4", "model setting `search_space` is 4: it must be 2 or 3"),
            ("classes = 8", "classes = 0", "model setting `classes` is 0: it must be from 1 to 1000000"),
            ("hidden = 32", "hidden = 0", "model setting `gate.hidden` is 0: it must be from 1 to 4096"),
            ("classes = 8", "classes = 8\ndropout = 1", "model setting `dropout` is 1: it must be from 0 to below 1"),
            ("hidden = 32", "full_bias = inf", "model setting `gate.full_bias` is inf: it must be a finite number"),
        ];
        for (from, to, expected) in cases {
            let config = parse(&DEMO.replace(from, to)).expect("of the right types");
            assert_eq!(config.validate().expect_err("out of bounds").to_string(), expected);
        }
    }
}
