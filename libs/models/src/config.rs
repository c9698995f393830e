//! What a user writes to say which network: one tagged document, validated before a network is made.

use nn::{Axes, DynamicConfig, FeatureShape, GateConfig};
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// A network, by its `backbone`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "backbone", rename_all = "lowercase")]
#[non_exhaustive]
pub enum ModelConfig {
    /// R(2+1)D: residual blocks of spatial and temporal convolutions.
    R2plus1d(R2plus1dConfig),
}

/// Which convolutions choose what they compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dynamic {
    /// None: the plain backbone.
    None,
    /// The spatial ones.
    Spatial,
    /// All but the stem, the shortcuts and the head.
    #[default]
    All,
}

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

    pub(crate) fn validate(self) -> Result<(), ModelError> {
        bounded("frames", self.frames, 1..=1024, "from 1 to 1024")?;
        bounded("height", self.height, 8..=2048, "from 8 to 2048")?;
        bounded("width", self.width, 8..=2048, "from 8 to 2048")
    }
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
    /// Classes of the head.
    pub classes: i64,
    /// Residual branches start at zero (γ of their last norm), so that training begins near the identity.
    #[serde(default = "yes")]
    pub zero_gamma: bool,
    /// Which convolutions choose.
    #[serde(default)]
    pub dynamic: Dynamic,
    /// Along what they may save.
    #[serde(default = "R2plus1dConfig::both")]
    pub axes: Axes,
    /// Options an axis: 2 or 3.
    #[serde(default = "R2plus1dConfig::two_options")]
    pub search_space: usize,
    /// The gates.
    #[serde(default)]
    pub gate: GateConfig,
}

fn yes() -> bool {
    true
}

impl R2plus1dConfig {
    fn published_widths() -> [i64; 4] {
        [64, 128, 256, 512]
    }

    fn both() -> Axes {
        Axes::Both
    }

    fn two() -> i64 {
        2
    }

    fn two_options() -> usize {
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
            classes,
            zero_gamma: false,
            dynamic: Dynamic::None,
            axes: Axes::Both,
            search_space: 2,
            gate: GateConfig::default(),
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
    pub(crate) fn eps(&self) -> f64 {
        match self.midplanes {
            Midplanes::Shared => 1e-5,
            Midplanes::PerConv => 1e-3,
        }
    }

    /// Settings of the dynamic convolutions, if there are any.
    pub(crate) fn dynamic_config(&self) -> Option<DynamicConfig> {
        let config = DynamicConfig { axes: self.axes, search_space: self.search_space, gate: self.gate };
        (self.dynamic != Dynamic::None).then_some(config)
    }

    fn validate(&self) -> Result<(), ModelError> {
        for blocks in self.blocks {
            bounded("blocks", blocks, 1..=64, "from 1 to 64 in each of the four stages")?;
        }
        for width in self.widths {
            bounded("widths", width, 1..=4096, "from 1 to 4096 in each of the four stages")?;
        }
        bounded("stem", self.stem_channels(), 1..=4096, "from 1 to 4096")?;
        bounded("stem_stride", self.stem_stride, 1..=8, "from 1 to 8")?;
        validate_dynamic(self.classes, self.search_space, &self.gate)
    }
}

impl ModelConfig {
    /// Checks every setting against its bounds.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for the first setting that is out of its bounds.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            ModelConfig::R2plus1d(config) => config.validate(),
        }
    }

    /// Number of classes of the head.
    pub fn classes(&self) -> i64 {
        match self {
            ModelConfig::R2plus1d(config) => config.classes,
        }
    }

    /// Which convolutions choose.
    pub fn dynamic(&self) -> Dynamic {
        match self {
            ModelConfig::R2plus1d(config) => config.dynamic,
        }
    }
}

/// Settings that every backbone has.
fn validate_dynamic(classes: i64, search_space: usize, gate: &GateConfig) -> Result<(), ModelError> {
    bounded("classes", classes, 1..=1_000_000, "from 1 to 1000000")?;
    bounded("search_space", search_space as i64, 2..=3, "2 or 3")?;
    bounded("gate.hidden", gate.hidden, 1..=4096, "from 1 to 4096")?;
    let finite = "a finite number";
    for (field, value) in [("gate.full_bias", gate.full_bias), ("gate.other_bias", gate.other_bias)] {
        if !value.is_finite() {
            return Err(ModelError::Setting { field, value: value.to_string(), bound: finite });
        }
    }
    if !(0.0..=10.0).contains(&gate.output_std) {
        let value = gate.output_std.to_string();
        return Err(ModelError::Setting { field: "gate.output_std", value, bound: "from 0 to 10" });
    }
    Ok(())
}

fn bounded(
    field: &'static str,
    value: i64,
    range: std::ops::RangeInclusive<i64>,
    bound: &'static str,
) -> Result<(), ModelError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ModelError::Setting { field, value: value.to_string(), bound })
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
        let ModelConfig::R2plus1d(r2plus1d) = &config;
        assert_eq!(r2plus1d.gate, GateConfig { hidden: 32, ..GateConfig::default() });
        assert_eq!(r2plus1d.stem_channels(), 11);
        config.validate().expect("within bounds");
        let written = toml::to_string(&config).expect("a config is a document");
        assert_eq!(parse(&written).expect("what was written"), config);
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
            ("hidden = 32", "full_bias = inf", "model setting `gate.full_bias` is inf: it must be a finite number"),
        ];
        for (from, to, expected) in cases {
            let config = parse(&DEMO.replace(from, to)).expect("of the right types");
            assert_eq!(config.validate().expect_err("out of bounds").to_string(), expected);
        }
    }
}
