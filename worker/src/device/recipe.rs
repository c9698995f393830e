//! The recipe's sections about network and training, and what a trainer makes of them.

use std::path::PathBuf;

use cluster::recipe::{Recipe, explain};
use models::{Card, ClipShape, ModelConfig, View};
use serde::Deserialize;
use train::{OptimConfig, Pixels, Stage, TrainConfig};

use crate::compute::DataFacts;
use crate::error::WorkerError;

/// What this process reads of the recipe.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sections {
    pub(super) model: ModelConfig,
    #[serde(default)]
    pub(super) optim: OptimConfig,
    stages: Vec<Stage>,
    data: DataSection,
    init: Option<InitSection>,
}

/// Where the run starts, if not at its seed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct InitSection {
    weights: PathBuf,
}

/// The loader owns the section and refuses what nobody knows; here only what the device needs is read.
#[derive(Debug, Clone, Deserialize)]
struct DataSection {
    frames: u32,
    stride: u32,
    /// Training draws between the two; a test clip has the first.
    short_side: [u32; 2],
    crop: u32,
    mean: [f32; 3],
    std: [f32; 3],
}

impl Sections {
    /// Reads and checks them.
    pub(super) fn parse(text: &str) -> Result<Self, WorkerError> {
        let sections: Self = toml::from_str(text).map_err(|error| refused(explain(text, &error)))?;
        sections.model.validate().map_err(refused)?;
        Ok(sections)
    }

    /// The weights that the run starts from, if it names any.
    pub(super) fn start(&self) -> Result<Option<Vec<u8>>, WorkerError> {
        let Some(InitSection { weights }) = &self.init else { return Ok(None) };
        let bytes = std::fs::read(weights)
            .map_err(|error| refused(format!("init.weights: can't read {}: {error}", weights.display())))?;
        let pixels = Card::of(&bytes).map(|card| card.pixels);
        if let Ok(pixels) = pixels.as_ref()
            && *pixels != self.pixels()
        {
            tracing::warn!(
                "{} was trained on other pixels than data.mean and data.std say: {pixels:?}",
                weights.display()
            );
        }
        Ok(Some(bytes))
    }

    /// How a test clip is cut from a video.
    fn view(&self) -> View {
        let DataSection { frames, stride, short_side: [short_side, _], crop, .. } = self.data;
        View { frames, stride, short_side, crop }
    }

    /// What a file with the run's weights says about itself.
    pub(super) fn card(&self, classes: Vec<String>) -> Card {
        Card { model: self.model.clone(), view: self.view(), pixels: self.pixels(), classes }
    }

    /// Shape of the clips that the network is made for.
    pub(super) fn clip(&self) -> ClipShape {
        self.view().clip()
    }

    /// Normalisation of their pixels.
    pub(super) fn pixels(&self) -> Pixels {
        Pixels { mean: self.data.mean, std: self.data.std }
    }

    /// Everything that a trainer needs to know.
    pub(super) fn train_config(&self, recipe: &Recipe, data: &DataFacts) -> Result<TrainConfig, WorkerError> {
        let (classes, found) = (self.model.classes(), data.classes.len());
        if usize::try_from(classes) != Ok(found) {
            return Err(refused(format!("model.classes is {classes}, but the data set has {found} classes")));
        }
        let plan = recipe.plan(data.train_clips).map_err(refused)?;
        let starts = recipe.stages().iter().scan(0, |epochs, stage| {
            let start = plan.stage_start_step(*epochs);
            *epochs += stage.epochs;
            Some(start)
        });
        let run = recipe.run();
        Ok(TrainConfig {
            model: self.model.clone(),
            clip: self.clip(),
            optim: self.optim.clone(),
            stages: self.stages.clone(),
            pixels: self.pixels(),
            seed: run.seed,
            lanes: run.lanes,
            batch_clips: run.batch_clips,
            threads: run.threads,
            stage_start_steps: starts.collect(),
            total_steps: plan.total_steps(recipe.epochs()),
        })
    }
}

fn refused(what: impl std::fmt::Display) -> WorkerError {
    WorkerError::Configuration(format!("the recipe is refused: {what}"))
}

#[cfg(test)]
mod tests {
    use models::Network;

    use super::*;

    /// Classes of a data set, by the first part of a recipe's name.
    fn classes(name: &str) -> usize {
        let sets = [("demo", 8), ("mini-kinetics-", 200), ("kinetics400-", 400), ("moments-", 339)];
        let set = sets.into_iter().find(|(set, _)| name.starts_with(set));
        set.unwrap_or_else(|| panic!("the recipe {name} is of no known data set")).1
    }

    #[test]
    fn the_recipe_of_the_guide_can_be_trained() {
        let guide = include_str!("../../../docs/recipe.md");
        let (_, rest) = guide.split_once("```toml\n").expect("it shows a recipe");
        let (text, _) = rest.split_once("```").expect("the recipe ends");
        let recipe = Recipe::parse(text, &[]).expect("as the guide says");
        let classes = vec![String::new(); 200];
        let data = DataFacts { train_clips: 80_000, val_clips: 5_000, digest: String::new(), classes };
        let config = Sections::parse(text).expect("as the guide says").train_config(&recipe, &data);
        let config = config.expect("as many classes as the model");
        config.validate().expect("as the guide says");
        // What the guide calls the defaults are the defaults.
        let guide = OptimConfig { weight_decay: 5e-4, momentum: None, nesterov: None, ..config.optim };
        assert_eq!(guide, OptimConfig::default());
    }

    #[test]
    fn every_recipe_of_ours_can_be_trained_and_its_network_is_built() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes");
        let mut built: Vec<ModelConfig> = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a file").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("text");
            let recipe = Recipe::parse(&text, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
            let sections = Sections::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let data = DataFacts {
                train_clips: 200_000,
                val_clips: 10_000,
                digest: String::new(),
                classes: vec![String::new(); classes(&name)],
            };
            let config = sections.train_config(&recipe, &data).unwrap_or_else(|error| panic!("{name}: {error}"));
            config.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            if !built.contains(&config.model) {
                Network::build(&config.model, config.clip, 1, tch::Device::Cpu)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                built.push(config.model);
            }
        }
        assert_eq!(built.len(), 13, "the demo's, and four backbones for three numbers of classes");
    }
}
