//! The layout of a batch: uint8, nthwc, one clip after the other.

use crate::DataConfig;

/// Clips side by side, ready for the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pixels_nthwc: Vec<u8>,
    clip_bytes: usize,
}

impl Batch {
    /// Room for `clips` clips, black.
    pub fn new(config: &DataConfig, clips: usize) -> Self {
        let clip_bytes = config.clip_bytes();
        Self { pixels_nthwc: vec![0; clips * clip_bytes], clip_bytes }
    }

    /// Puts the pixels of clip `n` into place.
    ///
    /// # Panics
    /// If there is no clip `n`, or `pixels_thwc` is not one clip.
    pub fn put(&mut self, n: usize, pixels_thwc: &[u8]) {
        self.pixels_nthwc[n * self.clip_bytes..][..self.clip_bytes].copy_from_slice(pixels_thwc);
    }

    /// The pixels and their checksum.
    pub fn finish(self) -> (Vec<u8>, u32) {
        let sum = crc32c::crc32c(&self.pixels_nthwc);
        (self.pixels_nthwc, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footage::config;

    #[test]
    fn clips_lie_one_after_the_other() {
        let config = DataConfig { short_side: [8, 8], crop: 8, ..config(1, 1) };
        let mut batch = Batch::new(&config, 2);
        batch.put(1, &vec![9; config.clip_bytes()]);
        let (pixels, sum) = batch.finish();
        assert_eq!(pixels, [vec![0; 192], vec![9; 192]].concat());
        assert_eq!(sum, crc32c::crc32c(&pixels));
    }
}
