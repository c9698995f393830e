//! Parameters and buffers of a network: named, with a role, sorted by name.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;

use tch::{Device, Kind, Tensor};

use crate::Init;

/// What a named tensor is to the optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Convolution and linear weights: trained, with weight decay.
    Weight,
    /// Norm scales and shifts and biases: trained, without weight decay.
    NormOrBias,
    /// Everything in a gate: trained at a rate of its own, without weight decay.
    Gate,
    /// Kernels of the cheap linear operations: trained.
    Cheap,
    /// Running statistics: not trained, saved.
    Buffer,
}

/// A tensor of the network with its name and role. The tensor shares its storage with the layer that uses it.
#[derive(Debug)]
pub struct Param {
    /// Key in checkpoints; those of the backbone are the published ones.
    pub name: String,
    /// The value itself.
    pub tensor: Tensor,
    /// How it is trained.
    pub role: Role,
    /// Place in the order in which layers were made, which is the one in which clips pass them.
    pub made: usize,
}

/// Buffers of one batch norm.
#[derive(Debug)]
pub(crate) struct NormBuffers {
    /// Full name of the norm.
    pub(crate) path: String,
    pub(crate) running_mean: Tensor,
    pub(crate) running_var: Tensor,
    pub(crate) batches_tracked: Tensor,
    /// Statistics of the last training batch; never saved.
    pub(crate) batch_mean: Tensor,
    pub(crate) batch_var: Tensor,
}

impl NormBuffers {
    pub(crate) fn share(&self) -> Self {
        Self {
            path: self.path.clone(),
            running_mean: self.running_mean.shallow_clone(),
            running_var: self.running_var.shallow_clone(),
            batches_tracked: self.batches_tracked.shallow_clone(),
            batch_mean: self.batch_mean.shallow_clone(),
            batch_var: self.batch_var.shallow_clone(),
        }
    }
}

/// Collects parameters while layers are made; [`ParamsBuilder::finish`] freezes the set.
#[derive(Debug)]
pub struct ParamsBuilder {
    device: Device,
    kind: Kind,
    seed: u64,
    params: RefCell<BTreeMap<String, (Tensor, Role, usize)>>,
    norms: RefCell<Vec<NormBuffers>>,
}

impl ParamsBuilder {
    /// An empty set; parameters will live on `device` with element type `kind`.
    pub fn new(seed: u64, kind: Kind, device: Device) -> Self {
        Self { device, kind, seed, params: RefCell::default(), norms: RefCell::default() }
    }

    /// The scope without a prefix.
    pub fn root(&self) -> Scope<'_> {
        Scope { builder: self, path: String::new(), role: None }
    }

    /// The finished set.
    pub fn finish(self) -> Params {
        let params = self.params.into_inner();
        Params {
            params: params.into_iter().map(|(name, (tensor, role, made))| Param { name, tensor, role, made }).collect(),
            norms: self.norms.into_inner(),
        }
    }

    fn insert(&self, name: String, tensor: &Tensor, role: Role) {
        let mut params = self.params.borrow_mut();
        let made = params.len();
        let before = params.insert(name.clone(), (tensor.shallow_clone(), role, made));
        assert!(before.is_none(), "two parameters named {name:?}");
    }
}

/// A place in the tree of names where a layer registers what it owns.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    builder: &'a ParamsBuilder,
    path: String,
    role: Option<Role>,
}

impl Scope<'_> {
    /// The scope `name` below this one; `name` may hold dots.
    pub fn sub(&self, name: impl Display) -> Self {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Self { builder: self.builder, path, role: self.role }
    }

    /// Names of what the dynamic network adds, apart from the published ones: `vared.<path>`. Trained as `role`.
    pub fn aside(&self, role: Role) -> Self {
        Self { builder: self.builder, path: format!("vared.{}", self.path), role: Some(role) }
    }

    /// Full name of this place.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registers a trained parameter.
    ///
    /// # Panics
    /// If the name is taken: two layers were given one scope.
    pub fn param(&self, name: &str, role: Role, shape: &[i64], init: Init) -> Tensor {
        let name = self.sub(name).path;
        let builder = self.builder;
        let value = init.tensor((builder.seed, &name), shape, builder.kind, builder.device);
        let value = value.set_requires_grad(true);
        builder.insert(name, &value, self.role.unwrap_or(role));
        value
    }

    /// Registers the buffers of a batch norm over `channels`, with their published names.
    pub(crate) fn norm_buffers(&self, channels: i64) -> NormBuffers {
        let options = (self.builder.kind, self.builder.device);
        let buffers = NormBuffers {
            path: self.path.clone(),
            running_mean: Tensor::zeros([channels], options),
            running_var: Tensor::ones([channels], options),
            batches_tracked: Tensor::zeros([0_i64; 0], (Kind::Int64, self.builder.device)),
            batch_mean: Tensor::zeros([channels], options),
            batch_var: Tensor::ones([channels], options),
        };
        let saved = [
            ("running_mean", &buffers.running_mean),
            ("running_var", &buffers.running_var),
            ("num_batches_tracked", &buffers.batches_tracked),
        ];
        for (name, tensor) in saved {
            self.builder.insert(self.sub(name).path, tensor, Role::Buffer);
        }
        self.builder.norms.borrow_mut().push(buffers.share());
        buffers
    }
}

/// All named tensors of a network, sorted by name, and the statistics of its batch norms.
#[derive(Debug)]
pub struct Params {
    params: Vec<Param>,
    norms: Vec<NormBuffers>,
}

/// Length of the flat vector of batch-norm statistics, in the order in which the layers were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormStatistics {
    /// Number of batch norms.
    pub norms: usize,
    /// Means and variances together.
    pub len: i64,
}

impl Params {
    /// Everything, sorted by name.
    pub fn all(&self) -> &[Param] {
        &self.params
    }

    /// Trained parameters with this role, sorted by name.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(move |param| param.role == role)
    }

    /// Trained parameters, sorted by name.
    pub fn trained(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| param.role != Role::Buffer)
    }

    /// Size of [`Params::norm_statistics`].
    pub fn norm_layout(&self) -> NormStatistics {
        let len = self.norms.iter().map(|norm| 2 * norm.batch_mean.numel() as i64).sum();
        NormStatistics { norms: self.norms.len(), len }
    }

    /// Mean and unbiased variance of the last batch that went through in training, of every batch norm: one flat copy
    /// `[mean of the first norm, variance of the first norm, mean of the second, …]`.
    pub fn norm_statistics(&self) -> Tensor {
        let parts: Vec<&Tensor> = self.norms.iter().flat_map(|norm| [&norm.batch_mean, &norm.batch_var]).collect();
        tch::no_grad(|| Tensor::cat(&parts, 0))
    }

    /// Which norm the element `at` of [`Params::norm_statistics`] belongs to, by its full name. Norms lie in the order in which
    /// the layers were made, which is the one in which clips pass them.
    pub fn norm_at(&self, at: i64) -> Option<&str> {
        let mut end = 0;
        let found = self.norms.iter().find(|norm| {
            end += 2 * norm.batch_mean.numel() as i64;
            at < end
        });
        found.map(|norm| norm.path.as_str())
    }

    /// Running mean and variance of every batch norm, laid out as [`Params::norm_statistics`].
    pub fn running_statistics(&self) -> Tensor {
        let parts: Vec<&Tensor> = self.norms.iter().flat_map(|norm| [&norm.running_mean, &norm.running_var]).collect();
        tch::no_grad(|| Tensor::cat(&parts, 0))
    }

    /// Moves the running statistics: `running ← (1 − momentum) · running + momentum · statistics`, and counts one batch.
    ///
    /// # Panics
    /// If `statistics` is not as long as [`Params::norm_layout`] says.
    pub fn apply_norm_statistics(&self, statistics: &Tensor, momentum: f64) {
        assert_eq!(statistics.size(), [self.norm_layout().len], "length of the batch-norm statistics");
        tch::no_grad(|| {
            let mut at = 0;
            for norm in &self.norms {
                for running in [&norm.running_mean, &norm.running_var] {
                    let len = running.numel() as i64;
                    // Weight 1 for `lerp` is `momentum`: both factors are applied in one kernel.
                    let _ = running.shallow_clone().lerp_(&statistics.narrow(0, at, len), momentum);
                    at += len;
                }
                let _ = norm.batches_tracked.shallow_clone().g_add_scalar_(1);
            }
        });
    }

    /// First and second moment of what the last training batch gave to every batch norm, in double precision:
    /// `[mean, unbiased variance + mean²]`, laid out as [`Params::norm_statistics`]. Unlike variances, moments of several
    /// batches may be averaged without losing how far the batches lie apart.
    pub fn norm_moments(&self) -> Tensor {
        let moments = self.norms.iter().flat_map(|norm| {
            let mean = norm.batch_mean.to_kind(Kind::Double);
            let square = norm.batch_var.to_kind(Kind::Double) + mean.square();
            [mean, square]
        });
        tch::no_grad(|| Tensor::cat(&moments.collect::<Vec<_>>(), 0))
    }

    /// Puts what [`Params::norm_moments`] says in place of the running statistics; counts no batch.
    ///
    /// # Panics
    /// If `moments` is not as long as [`Params::norm_layout`] says.
    pub fn set_running_moments(&self, moments: &Tensor) {
        assert_eq!(moments.size(), [self.norm_layout().len], "length of the batch-norm moments");
        tch::no_grad(|| {
            let mut at = 0;
            for norm in &self.norms {
                let len = norm.running_mean.numel() as i64;
                let (mean, square) = (moments.narrow(0, at, len), moments.narrow(0, at + len, len));
                norm.running_mean.shallow_clone().copy_(&mean);
                norm.running_var.shallow_clone().copy_(&(square - mean.square()).clamp_min(0.0));
                at += 2 * len;
            }
        });
    }
}
