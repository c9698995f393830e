//! Weights that others trained, as a network of ours: found out which it is, checked whole, then filled.

use std::collections::{BTreeMap, BTreeSet};

use nn::Param;
use tch::{Device, Kind, Tensor};
use tensorfile::{Element, Format, TensorFile};

use super::families;
use super::names::{self, Writer};
use super::{ADDED, Card, check_names, check_shape};
use crate::network::Network;
use crate::{Dynamic, ModelConfig, ModelError, View};

/// Seed of what a file does not hold: a head for other classes, gates, cheap kernels.
const SEED: u64 = 1;

/// How weights are to be imported.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The network by the name of a published one; without it, it is found out.
    pub model: Option<String>,
    /// Its classes, if they are to be other than the file's, or named.
    pub classes: Option<Classes>,
    /// The head starts anew.
    pub new_head: bool,
    /// Gates and cheap kernels are added, fresh.
    pub dynamic: bool,
    /// How a test clip is cut, where other than published.
    pub view: ViewChange,
}

/// What of a [`View`] is other than published.
#[derive(Debug, Clone, Copy, Default)]
pub struct ViewChange {
    /// Frames a clip.
    pub frames: Option<u32>,
    /// Distance between two of them.
    pub stride: Option<u32>,
    /// Short side that a frame is scaled to.
    pub short_side: Option<u32>,
    /// Side of the square crop.
    pub crop: Option<u32>,
}

impl ViewChange {
    fn of(self, view: View) -> View {
        View {
            frames: self.frames.unwrap_or(view.frames),
            stride: self.stride.unwrap_or(view.stride),
            short_side: self.short_side.unwrap_or(view.short_side),
            crop: self.crop.unwrap_or(view.crop),
        }
    }
}

/// The classes that a network is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classes {
    /// So many, without names.
    Number(i64),
    /// These, by label.
    Named(Vec<String>),
}

/// What became of a file.
#[derive(Debug)]
pub struct Imported {
    /// The network, filled.
    pub network: Network,
    /// What a file of its weights says about itself.
    pub card: Card,
    /// What was found and done, a sentence each.
    pub notes: Vec<String>,
}

impl Import {
    /// Reads a `.pth`, a `.pyth` or a safetensors file.
    ///
    /// # Errors
    /// If the file can't be read, is of no known network, or does not fit the one that is asked for.
    pub fn read(&self, bytes: &[u8]) -> Result<Imported, ModelError> {
        let file = tensorfile::read(bytes)?;
        let format = file.format;
        let widened = widened(&file);
        let (writer, tensors) = names::published(file.tensors)?;
        let mut card = match (Card::of(bytes), &self.model) {
            (Ok(card), None) => card,
            (_, Some(name)) => families::named(name, &tensors)?,
            _ => families::recognise(&tensors)?,
        };
        let mut notes = vec![format!(
            "{} tensors of {}, {} names: {}",
            tensors.len(),
            match format {
                Format::Torch => "torch.save",
                Format::LegacyTorch => "torch.save (before 1.6)",
                Format::Safetensors => "safetensors",
            },
            match writer {
                Writer::Published => "published",
                Writer::PySlowFast => "PySlowFast's",
            },
            families::describe(&card.model)
        )];
        notes.extend(widened);
        notes.extend(self.settle_classes(&mut card)?);
        if self.dynamic && card.model.dynamic() == Dynamic::None {
            card.model = card.model.with_dynamic(Dynamic::All);
        }
        card.view = self.view.of(card.view);
        card.validate()?;
        let network = Network::build(&card.model, card.view.clip(), SEED, Device::Cpu)?;
        notes.extend(self.fill(&network, &tensors, &card.model)?);
        Ok(Imported { network, card, notes })
    }

    /// Classes and their names as asked for.
    fn settle_classes(&self, card: &mut Card) -> Result<Option<String>, ModelError> {
        let found = card.model.classes();
        let wanted = match &self.classes {
            None => found,
            Some(Classes::Number(number)) => *number,
            Some(Classes::Named(names)) => names.len() as i64,
        };
        if wanted != found && !self.new_head {
            return Err(ModelError::Head { found, wanted });
        }
        if let Some(Classes::Named(names)) = &self.classes {
            card.classes.clone_from(names);
        } else if wanted != found {
            card.classes.clear();
        }
        card.model = card.model.clone().with_classes(wanted);
        Ok(self.new_head.then(|| format!("the head starts anew, for {wanted} classes (the file's is for {found})")))
    }

    /// Fills the network with what the file has of it, and says what starts anew.
    fn fill(&self, network: &Network, tensors: &Tensors<'_>, model: &ModelConfig) -> Result<Vec<String>, ModelError> {
        let head = families::head(model);
        let has_added = tensors.keys().any(|name| name.starts_with(ADDED));
        let is_fresh = |name: &str| {
            (self.new_head && name.starts_with(head))
                || (name.starts_with(ADDED) && !has_added)
                // Files of old PyTorch count no batches, and nothing here reads the count.
                || (name.ends_with(".num_batches_tracked") && !tensors.contains_key(name))
        };
        let params = network.params().all().iter().filter(|param| !is_fresh(&param.name)).collect::<Vec<_>>();
        let found: BTreeSet<&str> =
            tensors.keys().map(String::as_str).filter(|name| !(self.new_head && name.starts_with(head))).collect();
        check_names(&params, &found)?;
        for param in &params {
            check_shape(param, tensors[&param.name].shape())?;
        }
        tch::no_grad(|| params.iter().try_for_each(|param| copy(param, &tensors[&param.name])))?;
        let added = network.params().all().iter().filter(|param| param.name.starts_with(ADDED)).count();
        Ok(if added > 0 && !has_added {
            vec![format!(
                "{added} tensors of gates and cheap kernels start anew: until they are trained, use --policy full"
            )]
        } else {
            Vec::new()
        })
    }
}

/// A file's tensors by published name.
pub(crate) type Tensors<'a> = BTreeMap<String, tensorfile::Tensor<'a>>;

fn widened(file: &TensorFile<'_>) -> Option<String> {
    let count = |element| file.tensors.values().filter(|tensor| tensor.element() == element).count();
    let kinds = [(Element::F16, "half"), (Element::BF16, "bfloat16"), (Element::F64, "double")];
    let told: Vec<String> = kinds
        .into_iter()
        .filter_map(|(element, name)| Some((count(element), name)).filter(|(count, _)| *count > 0))
        .map(|(count, name)| format!("{count} of {name} precision"))
        .collect();
    (!told.is_empty()).then(|| format!("{} become single precision", told.join(", ")))
}

fn copy(param: &Param, tensor: &tensorfile::Tensor<'_>) -> Result<(), ModelError> {
    let value = match param.tensor.kind() {
        Kind::Int64 => tensor.integers().map(|values| Tensor::from_slice(&values)),
        _ => tensor.floats().map(|values| Tensor::from_slice(&values)),
    };
    let value = value.ok_or_else(|| ModelError::ElementType {
        name: param.name.clone(),
        found: format!("{:?}", tensor.element()),
        expected: format!("{:?}", param.tensor.kind()),
    })?;
    param.tensor.shallow_clone().copy_(&value.reshape(param.tensor.size()));
    Ok(())
}
