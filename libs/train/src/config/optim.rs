//! The section `[optim]`: by which rule parameters move, and the constants of the loss.

use models::gpu::Precision;
use serde::{Deserialize, Serialize};

use super::{setting, within};
use crate::TrainError;

/// The section `[optim]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimConfig {
    /// The rule by which parameters move. Each has settings of its own: `[optim]` holds them beside it.
    pub kind: OptimKind,
    /// SGD and LARS: share of the last update that the next one keeps. 0.9 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// SGD and LARS: look ahead along the momentum. Yes if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// AdamW: share of the old in the averages of the gradient and of its square. `[0.9, 0.999]` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    /// AdamW: added to the root of the averaged square. 1e-8 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// LARS: length of a tensor's update, at rate 1, as a share of the tensor's own length. 0.001 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<f64>,
    /// Decay of convolution and linear weights. Norms, biases, cheap kernels and gates have none.
    pub weight_decay: f64,
    /// Decay of the gates' own weights.
    pub gate_weight_decay: f64,
    /// Learning rate of the gates as a multiple of the network's; a stage may set its own.
    pub gate_lr_scale: f64,
    /// Longest gradient, over all parameters; a longer one is scaled down to it. 0: any.
    pub clip_norm: f64,
    /// Largest element of a gradient, either sign; a larger one is cut down to it. 0: any.
    pub clip_value: f64,
    /// Share of the old in the averaged weights, which are then evaluated and kept beside the others. 0: no average.
    pub ema_decay: f64,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Clips mixed with each other.
    pub mix: MixConfig,
    /// Weight of a new batch's statistics in the running ones.
    pub norm_momentum: f64,
    /// γ: exponent of a clip's share in the efficiency loss.
    pub gamma: f64,
    /// How the efficiency loss reaches the gates.
    pub share_gradient: ShareGradient,
    /// μ: only clips that are classified correctly count in the efficiency loss.
    pub correct_only: bool,
    /// In what kind of number features are kept: `fp32`, or `bf16`, which is made for GPUs. What is learned is in single precision
    /// always.
    pub precision: Precision,
    /// On a GPU: products of single precision round their factors to TF32.
    pub tf32: bool,
}

impl Default for OptimConfig {
    fn default() -> Self {
        Self {
            kind: OptimKind::Sgd,
            momentum: None,
            nesterov: None,
            betas: None,
            eps: None,
            trust: None,
            weight_decay: 5e-4,
            gate_weight_decay: 0.0,
            gate_lr_scale: 0.1,
            clip_norm: 0.0,
            clip_value: 0.0,
            ema_decay: 0.0,
            label_smoothing: 0.0,
            mix: MixConfig::default(),
            norm_momentum: 0.1,
            gamma: 1.0,
            share_gradient: ShareGradient::StraightThrough,
            correct_only: true,
            precision: Precision::Fp32,
            tf32: false,
        }
    }
}

/// `optim.kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam with decoupled decay (Loshchilov & Hutter, 2019).
    AdamW,
    /// SGD whose rate follows each tensor's own length (You et al., 2017).
    Lars,
}

impl OptimKind {
    /// As a recipe and a checkpoint call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::AdamW => "adamw",
            Self::Lars => "lars",
        }
    }
}

/// A rule with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    Sgd(Momentum),
    AdamW { betas: [f64; 2], eps: f64 },
    Lars { momentum: Momentum, trust: f64 },
}

/// How SGD keeps its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Momentum {
    pub(crate) momentum: f64,
    pub(crate) nesterov: bool,
}

/// How the efficiency loss reaches the gates: how the share `r/R` of a layer depends on its gate's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareGradient {
    /// The factor of the largest live option; backward, as if "live" were the weight itself.
    StraightThrough,
    /// The mean of the options' factors, weighted by `v`: smooth, and no longer what is computed.
    WeightedMean,
}

/// The section `[optim.mix]`: mixup (Zhang et al., 2018) and cutmix (Yun et al., 2019), drawn once a lane and step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixConfig {
    /// α of mixup: clips are blended by a share from Beta(α, α). 0: no mixup.
    pub mixup: f64,
    /// α of cutmix: a box of each clip is taken from another, its area from Beta(α, α). 0: no cutmix.
    pub cutmix: f64,
    /// How often a lane is mixed at all.
    pub probability: f64,
    /// With both: how often it is by cutmix.
    pub cutmix_share: f64,
}

impl Default for MixConfig {
    fn default() -> Self {
        Self { mixup: 0.0, cutmix: 0.0, probability: 1.0, cutmix_share: 0.5 }
    }
}

impl MixConfig {
    /// True if there is anything to draw.
    pub fn is_on(&self) -> bool {
        self.probability > 0.0 && (self.mixup > 0.0 || self.cutmix > 0.0)
    }

    fn validate(&self) -> Result<(), TrainError> {
        // Smaller α mix nothing in practice, and their draws leave what a float can hold.
        for (field, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if alpha != 0.0 && !(0.05..=4.0).contains(&alpha) {
                return Err(setting(format!("optim.mix.{field}"), alpha, "0 (off) or from 0.05 to 4"));
            }
        }
        within("optim.mix.probability", self.probability, (0.0, 1.0))?;
        within("optim.mix.cutmix_share", self.cutmix_share, (0.0, 1.0))
    }
}

impl OptimConfig {
    /// The rule with its settings.
    ///
    /// # Errors
    /// [`TrainError::Setting`] for a setting that is out of its bounds, or that belongs to another kind.
    pub(crate) fn rule(&self) -> Result<Rule, TrainError> {
        let momentum = || {
            let momentum = Momentum { momentum: self.momentum.unwrap_or(0.9), nesterov: self.nesterov.unwrap_or(true) };
            within("optim.momentum", momentum.momentum, (0.0, 0.9999))?;
            if momentum.nesterov && momentum.momentum == 0.0 {
                return Err(setting("optim.momentum", 0, "above 0 with optim.nesterov = true"));
            }
            Ok(momentum)
        };
        self.refuse_foreign()?;
        match self.kind {
            OptimKind::Sgd => Ok(Rule::Sgd(momentum()?)),
            OptimKind::AdamW => {
                let (betas, eps) = (self.betas.unwrap_or([0.9, 0.999]), self.eps.unwrap_or(1e-8));
                betas.into_iter().try_for_each(|beta| within("optim.betas", beta, (0.0, 0.99999)))?;
                within("optim.eps", eps, (1e-16, 1.0))?;
                Ok(Rule::AdamW { betas, eps })
            }
            OptimKind::Lars => {
                let trust = self.trust.unwrap_or(0.001);
                within("optim.trust", trust, (1e-6, 1.0))?;
                Ok(Rule::Lars { momentum: momentum()?, trust })
            }
        }
    }

    fn refuse_foreign(&self) -> Result<(), TrainError> {
        let by_momentum = self.kind != OptimKind::AdamW;
        let fields = [
            ("momentum", self.momentum.is_some(), by_momentum),
            ("nesterov", self.nesterov.is_some(), by_momentum),
            ("betas", self.betas.is_some(), self.kind == OptimKind::AdamW),
            ("eps", self.eps.is_some(), self.kind == OptimKind::AdamW),
            ("trust", self.trust.is_some(), self.kind == OptimKind::Lars),
        ];
        match fields.into_iter().find(|(_, is_given, is_own)| *is_given && !is_own) {
            None => Ok(()),
            Some((field, ..)) => {
                let bound = format!("left out with optim.kind = \"{}\", which has no such setting", self.kind.name());
                Err(setting(format!("optim.{field}"), "given", bound))
            }
        }
    }

    pub(super) fn validate(&self) -> Result<(), TrainError> {
        self.rule()?;
        let settings = [
            ("weight_decay", self.weight_decay, (0.0, 1.0)),
            ("gate_weight_decay", self.gate_weight_decay, (0.0, 1.0)),
            ("gate_lr_scale", self.gate_lr_scale, (0.0, 100.0)),
            ("clip_norm", self.clip_norm, (0.0, 1e6)),
            ("clip_value", self.clip_value, (0.0, 1e6)),
            ("ema_decay", self.ema_decay, (0.0, 0.999_999)),
            ("label_smoothing", self.label_smoothing, (0.0, 0.9)),
            ("norm_momentum", self.norm_momentum, (1e-6, 1.0)),
            ("gamma", self.gamma, (0.1, 10.0)),
        ];
        settings.into_iter().try_for_each(|(field, value, range)| within(&format!("optim.{field}"), value, range))?;
        if self.clip_norm > 0.0 && self.clip_value > 0.0 {
            return Err(setting("optim.clip_value", self.clip_value, "0 with optim.clip_norm: clip by one of the two"));
        }
        self.mix.validate()
    }
}
