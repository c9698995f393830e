//! Precise batch norm: running statistics estimated anew under weights that stand still.
//!
//! Running statistics are averages over steps in which the weights moved. Before an evaluation they may be replaced by those of
//! many batches under the weights as they are: mean and variance over all lanes of all those batches. They do not depend on the
//! statistics that were there, so to refresh twice is to refresh once.

use models::Pass;
use tch::{Device, Tensor};

use super::Trainer;
use crate::TrainError;
use crate::batch::ClipBatch;
use crate::lanes::TreeSum;

/// Moments of this worker's lanes so far.
#[derive(Debug)]
pub(super) struct Refresh {
    /// Sum over the batches, lane by lane: a lane's sum does not depend on who else stands beside it.
    lanes: Vec<Tensor>,
    batches: u64,
}

impl Trainer {
    /// Lets one more batch pass the network, for its statistics alone: one part for each of this worker's lanes.
    ///
    /// # Errors
    /// [`TrainError::Batch`] if a lane's clips don't fit.
    pub fn refresh_batch(&mut self, lane_batches: &[ClipBatch]) -> Result<(), TrainError> {
        self.check_batches("refresh_batch", lane_batches)?;
        let (policy, precision) = (self.training_policy(), self.config.optim.precision);
        let moments = lane_batches.iter().map(|batch| {
            tch::no_grad(|| {
                let (x_ncthw, _) = self.normalise.to_device(batch);
                let network = self.judged_network();
                let _ = network.forward_pass(&x_ncthw, Pass { precision, ..Pass::new(true, &policy) });
                network.params().norm_moments()
            })
        });
        let moments: Vec<Tensor> = moments.collect();
        match &mut self.refresh {
            None => self.refresh = Some(Refresh { lanes: moments, batches: 1 }),
            Some(Refresh { lanes, batches }) => {
                lanes.iter_mut().zip(&moments).for_each(|(sum, new)| drop(sum.g_add_(new)));
                *batches += 1;
            }
        }
        Ok(())
    }

    /// Replaces the running statistics of the network that is evaluated by those of all batches since the last step. All members
    /// call this together, after equally many batches.
    ///
    /// # Errors
    /// [`TrainError::Order`] before any batch, [`TrainError::NotFinite`] if statistics are lost (nothing changes then),
    /// [`TrainError::Collective`] if a member does not answer.
    pub fn finish_refresh(&mut self) -> Result<(), TrainError> {
        let Some(Refresh { lanes, batches }) = self.refresh.take() else {
            return Err(TrainError::Order { call: "finish_refresh", problem: "came before any batch".into() });
        };
        let mut sum = TreeSum::new(self.config.lanes);
        self.lanes.clone().zip(lanes).for_each(|(lane, moments)| sum.push(lane, moments));
        let mut sum = self.over_all(sum)?;
        let moments = tch::no_grad(|| sum.g_div_scalar_(f64::from(self.config.lanes) * batches as f64));
        let lost = moments.isfinite().logical_not().nonzero().to_device(Device::Cpu);
        if lost.numel() > 0 {
            let params = self.judged_network().params();
            let norm = params.norm_at(lost.int64_value(&[0, 0])).unwrap_or_default();
            let what = format!("over {batches} batches the statistics of the batch norm {norm} are not finite");
            return Err(TrainError::NotFinite { step: self.step, lanes: Vec::new(), what });
        }
        self.judged_network().params().set_running_moments(&moments);
        Ok(())
    }
}
