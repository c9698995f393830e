//! The averaged weights: a second network that follows the first.

use models::Network;

use super::FlatParams;
use crate::{TrainConfig, TrainError};

/// An exponential moving average of weights and running statistics.
///
/// After the `t`-th step `average ← d · average + (1 − d) · live` with `d = min(decay, (1 + t) / (10 + t))`: the first steps
/// count more than `decay` would let them, so that an average of a short run is not its random start.
#[derive(Debug)]
pub(crate) struct Average {
    network: Network,
    params: FlatParams,
    decay: f64,
}

impl Average {
    /// A follower of a network that has not moved yet; nothing if the recipe wants none.
    pub(crate) fn new(config: &TrainConfig, device: tch::Device) -> Result<Option<Self>, TrainError> {
        let decay = config.optim.ema_decay;
        if decay == 0.0 {
            return Ok(None);
        }
        let network = Network::build(&config.model, config.clip, config.seed, device).map_err(TrainError::Model)?;
        let params = FlatParams::take(&network);
        Ok(Some(Self { network, params, decay }))
    }

    /// Follows the live network, which has done `steps` steps.
    pub(crate) fn follow(&mut self, live: (&Network, &FlatParams), steps: u64) {
        let warm = (1.0 + steps as f64) / (10.0 + steps as f64);
        let new = 1.0 - self.decay.min(warm);
        let _ = tch::no_grad(|| self.params.values.lerp_(&live.1.values, new));
        self.network.apply_norm_statistics(&live.0.params().running_statistics(), new);
    }

    /// The network with the averaged weights.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Its trained parameters.
    pub(crate) fn params(&self) -> &FlatParams {
        &self.params
    }
}
