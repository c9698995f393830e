//! `L = cross-entropy + λ · L_e`: what is minimised.
//!
//! `L_e` is the mean over the batch of `(μ · Σ_l share_l · r_l / R_l)^γ`, where `share_l = C(f_l) / Σ_k C(f_k)`, `r_l` and `R_l`
//! are the factors of the largest live option of layer `l` for that clip, and μ is 1 if the clip is classified correctly.
//!
//! Of clips that are mixed (mixup, cutmix) the cross-entropy is that of both classes, by their parts. Such a clip is classified
//! correctly if its likeliest class is that of its larger part: so μ keeps its meaning, and a step's `top1` is comparable
//! from step to step, though lower than without mixing.

use models::{DynamicLayer, Forward, LayerGates};
use tch::{Device, Kind, Reduction, Tensor};

use crate::config::{OptimConfig, ShareGradient};
use crate::mix::Targets;
use crate::optim::Rates;

/// The constants of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LossConfig {
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// γ.
    pub gamma: f64,
    /// How `r/R` depends on the gates' weights.
    pub share_gradient: ShareGradient,
    /// μ.
    pub correct_only: bool,
}

impl From<&OptimConfig> for LossConfig {
    fn from(optim: &OptimConfig) -> Self {
        Self {
            label_smoothing: optim.label_smoothing,
            gamma: optim.gamma,
            share_gradient: optim.share_gradient,
            correct_only: optim.correct_only,
        }
    }
}

/// The loss of one batch and what it is made of. `total` carries gradients, the others do not.
#[derive(Debug)]
pub(crate) struct Loss {
    /// `L`.
    pub total: Tensor,
    /// Cross-entropy, mean over the clips.
    pub cross_entropy: Tensor,
    /// `L_e`, 0 for a plain backbone.
    pub efficiency: Tensor,
    /// Share of the clips that are classified correctly; of mixed clips, as the class of their larger part.
    pub correct: Tensor,
    /// Share of the dynamic layers' multiply-adds that is computed, mean over the clips; 1 for a plain backbone.
    pub share: Tensor,
}

impl LossConfig {
    /// The loss of a soft forward pass.
    pub(crate) fn of(&self, forward: &Forward, targets: &Targets, shares: Option<&Shares>, rates: &Rates) -> Loss {
        let logits = &forward.logits_nk;
        let cross_entropy = self.cross_entropy(logits, targets);
        let correct_n = logits.detach().argmax(1, false).eq_tensor(targets.dominant_n()).to_kind(logits.kind());
        let one = || Tensor::ones([0_i64; 0], (logits.kind(), logits.device()));
        let mut loss = Loss {
            total: cross_entropy.shallow_clone(),
            cross_entropy: cross_entropy.detach(),
            efficiency: one() * 0.0,
            correct: correct_n.mean(None),
            share: one(),
        };
        let Some(shares) = shares else { return loss };
        let active = rates.lambda > 0.0;
        let computed_n = tch::no_grad(|| shares.computed(&forward.gates).2);
        loss.share = computed_n.mean(None);
        let share_n = if active { shares.of(&forward.gates, self.share_gradient) } else { computed_n };
        let efficiency = self.efficiency(share_n, &correct_n);
        loss.efficiency = efficiency.detach();
        if active {
            // Rests below the target, without asking the device for a number.
            let awake = loss.share.ge(rates.share_target).to_kind(logits.kind());
            loss.total = cross_entropy + efficiency * awake * rates.lambda;
        }
        loss
    }

    /// Linear in the target, so two classes by their parts are two cross-entropies by their parts, smoothing included.
    fn cross_entropy(&self, logits_nk: &Tensor, targets: &Targets) -> Tensor {
        let of = |labels_n: &Tensor| {
            logits_nk.cross_entropy_loss(labels_n, None::<&Tensor>, Reduction::Mean, -100, self.label_smoothing)
        };
        match &targets.mixed {
            None => of(&targets.labels_n),
            Some((others_n, share)) => of(&targets.labels_n) * *share + of(others_n) * (1.0 - share),
        }
    }

    /// μ is 0 or 1, so it may stand outside of the power, where it keeps gradients finite.
    fn efficiency(&self, share_n: Tensor, correct_n: &Tensor) -> Tensor {
        let powered = if self.gamma == 1.0 { share_n } else { share_n.pow_tensor_scalar(self.gamma) };
        let counted = if self.correct_only { powered * correct_n } else { powered };
        counted.mean(None)
    }
}

/// The dynamic layers as tables: what each option of each layer costs.
#[derive(Debug)]
pub(crate) struct Shares {
    layers: i64,
    weight_l1: Tensor,
    /// `1/R` of every temporal option, `[l, 1, o]`; 0 where a layer has fewer options than others.
    time_l1o: Tensor,
    /// `r` of every channel option, `[l, 1, o]`.
    channel_l1o: Tensor,
}

impl Shares {
    pub(crate) fn new(layers: &[DynamicLayer], kind: Kind, device: Device) -> Self {
        let table = |options: &dyn Fn(&DynamicLayer) -> Vec<f64>| {
            let rows: Vec<Vec<f64>> = layers.iter().map(options).collect();
            let most = rows.iter().map(Vec::len).max().unwrap_or(0);
            let flat: Vec<f64> =
                rows.iter().flat_map(|row| (0..most).map(|o| row.get(o).copied().unwrap_or(0.0))).collect();
            Tensor::from_slice(&flat).view([rows.len() as i64, 1, most as i64]).to_kind(kind).to_device(device)
        };
        Self {
            layers: layers.len() as i64,
            weight_l1: table(&|layer| vec![layer.share]).view([-1, 1]),
            time_l1o: table(&|layer| layer.time_factors.iter().map(|r| 1.0 / *r as f64).collect()),
            channel_l1o: table(&|layer| layer.channel_factors.clone()),
        }
    }

    /// `Σ_l share_l · r_l / R_l` of every clip, `[n]`, with gradients as `gradient` says.
    pub(crate) fn of(&self, gates: &[LayerGates], gradient: ShareGradient) -> Tensor {
        let factor = |v_lno: Tensor, factors_l1o: &Tensor| match gradient {
            ShareGradient::StraightThrough => {
                let live = v_lno.detach().gt(0.0).to_kind(v_lno.kind());
                largest_live(&(live + &v_lno - v_lno.detach()), factors_l1o)
            }
            ShareGradient::WeightedMean => {
                let weighted = (&v_lno * factors_l1o).sum_dim_intlist(&[2_i64][..], false, None);
                weighted / v_lno.sum_dim_intlist(&[2_i64][..], false, None)
            }
        };
        let time_ln = factor(self.stack(gates, |g| &g.v_time_no, &self.time_l1o), &self.time_l1o);
        let channel_ln = factor(self.stack(gates, |g| &g.v_channel_no, &self.channel_l1o), &self.channel_l1o);
        self.weigh(&(time_ln * channel_ln))
    }

    /// What is computed: `1/R` and `r` of every layer and clip `[l, n]`, and the share of every clip `[n]`.
    pub(crate) fn computed(&self, gates: &[LayerGates]) -> (Tensor, Tensor, Tensor) {
        let factor = |v_lno: Tensor, factors_l1o: &Tensor| {
            largest_live(&v_lno.detach().gt(0.0).to_kind(factors_l1o.kind()), factors_l1o)
        };
        let time_ln = factor(self.stack(gates, |g| &g.v_time_no, &self.time_l1o), &self.time_l1o);
        let channel_ln = factor(self.stack(gates, |g| &g.v_channel_no, &self.channel_l1o), &self.channel_l1o);
        let share_n = self.weigh(&(&time_ln * &channel_ln));
        (time_ln, channel_ln, share_n)
    }

    /// Mean over layers by their part of the cost: `[l, n]` to `[n]`.
    pub(crate) fn weigh(&self, of_ln: &Tensor) -> Tensor {
        (of_ln * &self.weight_l1).sum_dim_intlist(&[0_i64][..], false, None)
    }

    /// The weights of one axis of all layers, `[l, n, o]`.
    fn stack<'g>(&self, gates: &'g [LayerGates], axis: fn(&'g LayerGates) -> &'g Tensor, factors: &Tensor) -> Tensor {
        assert_eq!(gates.len() as i64, self.layers, "the gates of another network");
        let options = factors.size()[2];
        let padded = gates.iter().map(|gates| {
            let v_no = axis(gates);
            match options - v_no.size()[1] {
                0 => v_no.shallow_clone(),
                missing => v_no.constant_pad_nd([0, missing]),
            }
        });
        Tensor::stack(&padded.collect::<Vec<_>>(), 0)
    }
}

/// The factor of the first live option: `Σ_o factor_o · live_o · Π_{p<o} (1 − live_p)`, `[l, n]`.
fn largest_live(live_lno: &Tensor, factors_l1o: &Tensor) -> Tensor {
    let options = factors_l1o.size()[2];
    let mut none_before = None::<Tensor>;
    let mut sum = None::<Tensor>;
    for option in 0..options {
        let live = live_lno.select(2, option);
        let first = none_before.as_ref().map_or_else(|| live.shallow_clone(), |none| none * &live);
        let term = first * factors_l1o.select(2, option);
        sum = Some(sum.map_or_else(|| term.shallow_clone(), |sum| sum + &term));
        let dead: Tensor = 1.0 - live;
        none_before = Some(none_before.map_or_else(|| dead.shallow_clone(), |none| none * &dead));
    }
    sum.expect("an axis has an option")
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
