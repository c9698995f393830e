//! Lost numbers: where in the network a step that can't be applied lost the first of them.

use tch::{Kind, Tensor};

use super::Trainer;
use crate::TrainError;

/// What a lane lost, in one number that survives the sum over lanes (the others add 0 to its place): 0 if its loss is finite, else
/// 1 + the first place in the batch norms' statistics that is not, or 1 + their length if all of those are.
///
/// Batch norms stand all along the network, and whatever is lost in front of one is lost in its statistics: so they say where it
/// began, at no cost, on every worker alike.
pub(super) fn flag(statistics: &Tensor, loss: &Tensor) -> Tensor {
    let end = Tensor::ones([1], (Kind::Bool, statistics.device()));
    let bad = Tensor::cat(&[statistics.isfinite().logical_not(), end], 0);
    // The first of the largest values.
    let first = bad.to_kind(Kind::Int).argmax(0, false);
    let lost = loss.isfinite().logical_not();
    ((first + 1) * lost).to_kind(Kind::Float).view(1)
}

impl Trainer {
    /// Refuses a step whose loss or gradient is not finite, with the lanes and the layer in which that began.
    pub(super) fn check_finite(&self, flags: &[f32], (gradient, norm): (&Tensor, f64)) -> Result<(), TrainError> {
        let lanes = (0_u32..).zip(flags).filter(|(_, flag)| **flag > 0.0);
        let lost: Vec<u32> = lanes.map(|(lane, _)| lane).collect();
        let what = match lost.as_slice() {
            [] if norm.is_finite() => return Ok(()),
            [] => format!("the gradient is not finite, though the loss is: {}", self.lost_gradient(gradient)),
            lanes @ [first, ..] => {
                let place = self.lost_activation(flags[*first as usize] as i64 - 1);
                format!("the loss is not finite in lanes {lanes:?} of {}: in lane {first}, {place}", self.config.lanes)
            }
        };
        Err(TrainError::NotFinite { step: self.step, lanes: lost, what })
    }

    fn lost_activation(&self, at: i64) -> String {
        match self.network.params().norm_at(at) {
            Some(norm) => format!("what the batch norm {norm} was given is the first that is not finite"),
            None => {
                "all that the batch norms were given is finite, so it is lost in the head or in the loss".to_owned()
            }
        }
    }

    /// Backward the numbers pass the layers from the last to the first, so it began in the last that lost its gradient.
    fn lost_gradient(&self, gradient: &Tensor) -> String {
        let is_lost = |range: &std::ops::Range<i64>| {
            let part = gradient.narrow(0, range.start, range.end - range.start);
            part.isfinite().all().int64_value(&[]) == 0
        };
        let lost = self.params.entries.iter().filter(|entry| is_lost(&entry.range));
        match lost.max_by_key(|entry| entry.made) {
            Some(entry) => format!("on the way back, that of {} is the first", entry.name),
            None => "every element is, but their squares do not fit a 32-bit number".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use models::ClipShape;
    use tch::Device;

    use super::*;
    use crate::{OptimConfig, Pixels, TrainConfig};

    fn trainer() -> Trainer {
        let stage = "name = \"accuracy\"\nepochs = 1\nlr = 0.1";
        let model =
            "backbone = \"r2plus1d\"\nblocks = [1, 1, 1, 1]\nwidths = [4, 4, 4, 4]\nclasses = 3\ngate.hidden = 4";
        let config = TrainConfig {
            model: toml::from_str(model).expect("a good document"),
            clip: ClipShape { frames: 4, height: 8, width: 8 },
            optim: OptimConfig::default(),
            stages: vec![toml::from_str(stage).expect("a good document")],
            pixels: Pixels { mean: [0.4; 3], std: [0.2; 3] },
            seed: 3,
            lanes: 2,
            batch_clips: 4,
            threads: 1,
            stage_start_steps: vec![0],
            total_steps: 2,
        };
        Trainer::new(config, Device::Cpu).expect("a good configuration")
    }

    fn refused(trainer: &Trainer, flags: &[f32], gradient: &Tensor) -> String {
        let norm = gradient.norm().double_value(&[]);
        trainer.check_finite(flags, (gradient, norm)).expect_err("something is lost").to_string()
    }

    #[test]
    fn a_flag_is_the_first_lost_place() {
        let flag =
            |values: &[f32], loss: f32| flag(&Tensor::from_slice(values), &Tensor::from(loss)).double_value(&[0]);
        assert_eq!(flag(&[1.0, f32::NAN, f32::INFINITY], f32::NAN), 2.0);
        assert_eq!(flag(&[1.0, 2.0, 3.0], f32::INFINITY), 4.0);
        assert_eq!(flag(&[1.0, f32::NAN, 3.0], 1.0), 0.0, "a step whose loss is good is good");
    }

    #[test]
    fn a_lost_gradient_is_named_by_the_last_layer_that_lost_it() {
        let trainer = trainer();
        let gradient = Tensor::ones([trainer.params.len()], (Kind::Float, Device::Cpu));
        assert!(trainer.check_finite(&[0.0, 0.0], (&gradient, 1.0)).is_ok());
        for name in ["stem.0.weight", "layer1.0.conv1.0.0.weight"] {
            let entry = trainer.params.entries.iter().find(|entry| entry.name == name).expect("a weight");
            let _ = gradient.narrow(0, entry.range.start, 1).fill_(f64::NAN);
        }
        let text = refused(&trainer, &[0.0, 0.0], &gradient);
        assert!(text.contains("step 0: the gradient is not finite, though the loss is"), "{text}");
        assert!(text.contains("that of layer1.0.conv1.0.0.weight is the first"), "{text}");
        let huge = Tensor::full([trainer.params.len()], 1e30, (Kind::Float, Device::Cpu));
        assert!(refused(&trainer, &[0.0, 0.0], &huge).contains("their squares do not fit a 32-bit number"));
    }

    #[test]
    fn a_lost_loss_is_named_by_lane_and_norm() {
        let trainer = trainer();
        let gradient = Tensor::ones([trainer.params.len()], (Kind::Float, Device::Cpu));
        let text = refused(&trainer, &[0.0, 1.0], &gradient);
        assert!(
            text.contains("in lanes [1] of 2: in lane 1, what the batch norm stem.1 was given is the first"),
            "{text}"
        );
        let end = trainer.network.params().norm_layout().len as f32;
        assert!(refused(&trainer, &[end + 1.0, 0.0], &gradient).contains("lost in the head or in the loss"));
    }
}
