//! Clips as they come from a loader, and as the network wants them.

use bytes::Bytes;
use tch::{Device, Kind, Tensor};

use models::{Pixels, gpu};

use crate::TrainError;

/// Clips of one lane (or of a held-out chunk), cropped, in bytes, with their labels.
#[derive(Debug, Clone)]
pub struct ClipBatch {
    /// Colours from 0 to 255 in the order clips, frames, rows, columns, channels.
    pub pixels_nthwc: Bytes,
    /// Sizes of those five axes.
    pub shape: [usize; 5],
    /// Class of every clip.
    pub labels: Vec<i64>,
}

impl ClipBatch {
    /// Number of clips.
    pub fn clips(&self) -> usize {
        self.shape[0]
    }

    /// What is wrong with the batch for a network of `classes` classes, if anything.
    pub(crate) fn problem(&self, classes: i64) -> Option<String> {
        let [n, .., channels] = self.shape;
        let bytes = self.shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        if self.shape.contains(&0) || channels != 3 {
            return Some(format!(
                "its shape is {:?}; it needs clips, frames, rows, columns and 3 channels",
                self.shape
            ));
        }
        if bytes != Some(self.pixels_nthwc.len()) {
            return Some(format!("shape {:?} does not match its {} bytes", self.shape, self.pixels_nthwc.len()));
        }
        if self.labels.len() != n {
            return Some(format!("{n} clips, but {} labels", self.labels.len()));
        }
        wrong_label(&self.labels, classes)
    }
}

fn wrong_label(labels: &[i64], classes: i64) -> Option<String> {
    let wrong = labels.iter().find(|label| !(0..classes).contains(*label))?;
    Some(format!("label {wrong}, but the network has classes 0 to {}", classes - 1))
}

/// A batch whose bytes lie on the device already.
#[derive(Debug)]
pub struct StagedBatch {
    bytes_nthwc: Tensor,
    labels_n: Tensor,
    shape: [usize; 5],
    labels: Vec<i64>,
}

impl StagedBatch {
    /// Brings a batch to `device`, from any thread: the next step's while another step is computed.
    ///
    /// # Errors
    /// [`TrainError::Batch`] if its sizes and its bytes don't fit each other.
    pub fn new(batch: &ClipBatch, device: Device) -> Result<Self, TrainError> {
        if let Some(problem) = batch.problem(i64::MAX) {
            return Err(TrainError::Batch { place: "a batch on its way to the device".into(), problem });
        }
        let size = batch.shape.map(|size| size as i64);
        let bytes_nthwc = gpu::stage(&Tensor::from_data_size(&batch.pixels_nthwc, &size, Kind::Uint8), device);
        let labels_n = gpu::stage(&Tensor::from_slice(&batch.labels), device);
        Ok(Self { bytes_nthwc, labels_n, shape: batch.shape, labels: batch.labels.clone() })
    }
}

/// What a step asks a lane's batch before it takes it.
pub(crate) trait LaneBatch {
    /// Number of clips.
    fn clips(&self) -> usize;

    /// What is wrong with it for a network of `classes` classes, if anything.
    fn problem(&self, classes: i64) -> Option<String>;
}

impl LaneBatch for ClipBatch {
    fn clips(&self) -> usize {
        self.shape[0]
    }

    fn problem(&self, classes: i64) -> Option<String> {
        Self::problem(self, classes)
    }
}

impl LaneBatch for StagedBatch {
    fn clips(&self) -> usize {
        self.shape[0]
    }

    fn problem(&self, classes: i64) -> Option<String> {
        wrong_label(&self.labels, classes)
    }
}

/// Brings batches to the device: bytes to normalised floats, there.
#[derive(Debug)]
pub(crate) struct Normalise {
    scale_c111: Tensor,
    shift_c111: Tensor,
    device: Device,
}

impl Normalise {
    pub(crate) fn new(pixels: &Pixels, device: Device) -> Self {
        let channel = |value: fn(f32, f32) -> f32| {
            let values: Vec<f32> = pixels.mean.iter().zip(pixels.std).map(|(mean, std)| value(*mean, std)).collect();
            Tensor::from_slice(&values).view([3, 1, 1, 1]).to_device(device)
        };
        Self { scale_c111: channel(|_, std| 1.0 / (255.0 * std)), shift_c111: channel(|mean, std| -mean / std), device }
    }

    /// `(x / 255 − mean) / std`, and the labels. The batch has no [`ClipBatch::problem`].
    pub(crate) fn to_device(&self, batch: &ClipBatch) -> (Tensor, Tensor) {
        let size = batch.shape.map(|size| size as i64);
        let bytes_nthwc = gpu::upload(&Tensor::from_data_size(&batch.pixels_nthwc, &size, Kind::Uint8), self.device);
        (self.normalised(&bytes_nthwc), gpu::upload(&Tensor::from_slice(&batch.labels), self.device))
    }

    /// The same of what lies on the device already.
    pub(crate) fn staged(&self, batch: &StagedBatch) -> (Tensor, Tensor) {
        gpu::adopt(&batch.bytes_nthwc);
        gpu::adopt(&batch.labels_n);
        (self.normalised(&batch.bytes_nthwc), batch.labels_n.shallow_clone())
    }

    fn normalised(&self, bytes_nthwc: &Tensor) -> Tensor {
        // The axes move while an element is one byte, not four.
        let bytes_ncthw = bytes_nthwc.permute([0, 4, 1, 2, 3]).contiguous();
        let mut x_ncthw = bytes_ncthw.to_kind(Kind::Float);
        x_ncthw.g_mul_(&self.scale_c111).g_add_(&self.shift_c111)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(shape: [usize; 5], labels: &[i64]) -> ClipBatch {
        let bytes: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| (i * 7 % 256) as u8).collect();
        ClipBatch { pixels_nthwc: bytes.into(), shape, labels: labels.to_vec() }
    }

    #[test]
    fn bytes_become_normalised_floats_by_channel() {
        let pixels = Pixels { mean: [0.1, 0.2, 0.3], std: [0.5, 0.25, 0.2] };
        let batch = batch([2, 3, 4, 5, 3], &[0, 1]);
        let (x, labels) = Normalise::new(&pixels, Device::Cpu).to_device(&batch);
        assert_eq!((x.size(), labels.size()), (vec![2, 3, 3, 4, 5], vec![2]));
        assert!(x.is_contiguous());
        for (n, c, t, h, w) in [(0, 0, 0, 0, 0), (1, 2, 2, 3, 4), (0, 1, 1, 2, 3)] {
            let at = (((n * 3 + t) * 4 + h) * 5 + w) * 3 + c;
            let expected =
                (f64::from(batch.pixels_nthwc[at]) / 255.0 - f64::from(pixels.mean[c])) / f64::from(pixels.std[c]);
            let got = x.double_value(&[n as i64, c as i64, t as i64, h as i64, w as i64]);
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let good = batch([2, 1, 2, 2, 3], &[0, 7]);
        assert_eq!(good.problem(8), None);
        assert_eq!(good.problem(7).as_deref(), Some("label 7, but the network has classes 0 to 6"));
        let of = |batch: ClipBatch| batch.problem(8).expect("it does not fit");
        assert!(of(ClipBatch { labels: vec![0], ..good.clone() }).contains("2 clips, but 1 labels"));
        assert!(of(ClipBatch { shape: [2, 1, 2, 3, 3], ..good.clone() }).contains("does not match its 24 bytes"));
        assert!(of(ClipBatch { shape: [2, 1, 2, 3, 2], ..good }).contains("3 channels"));
    }
}
