//! A keyed pseudo-random permutation of `0..n` that needs no memory: a Feistel network with cycle walking.
//!
//! The network permutes the smallest domain of `4^k ≥ n`; whoever lands outside `0..n` walks on along its cycle until
//! it is inside. The domain is less than four times `n`, so a walk takes fewer than four rounds on average.

use crate::seed::mix;

const ROUNDS: u64 = 8;

/// A permutation of `0..n`, chosen by `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permutation {
    n: u64,
    key: u64,
    half_bits: u32,
}

impl Permutation {
    /// The permutation of `0..n` that belongs to `key`.
    ///
    /// # Panics
    /// If `n` is 0 or above 2^62: there is nothing to permute, or the domain does not fit.
    pub fn new(n: u64, key: u64) -> Self {
        assert!((1..=1 << 62).contains(&n), "a permutation of {n} elements");
        let bits = u64::BITS - (n - 1).leading_zeros();
        Self { n, key, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where `index` goes.
    ///
    /// # Panics
    /// If `index` is not below `n`.
    pub fn at(&self, index: u64) -> u64 {
        assert!(index < self.n, "index {index} of a permutation of {} elements", self.n);
        let mut x = self.once(index);
        while x >= self.n {
            x = self.once(x);
        }
        x
    }

    /// One pass through the network: a permutation of the whole domain.
    fn once(&self, x: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for round in 0..ROUNDS {
            let scramble = mix(right ^ mix(self.key.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
            (left, right) = (right, left ^ (scramble & mask));
        }
        (left << self.half_bits) | right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_permutation(n: u64, key: u64) -> bool {
        let permutation = Permutation::new(n, key);
        let mut images: Vec<u64> = (0..n).map(|i| permutation.at(i)).collect();
        images.sort_unstable();
        images.into_iter().eq(0..n)
    }

    #[test]
    fn every_small_size_is_permuted() {
        for n in 1..=520 {
            assert!(is_permutation(n, 7 * n), "n = {n}");
        }
    }

    #[test]
    fn the_longest_walk_stays_short() {
        // Just above a power of four the domain is largest compared with n: the worst case for walking.
        let permutation = Permutation::new((1 << 16) + 1, 99);
        let longest = (0..=1 << 16)
            .map(|i| {
                let mut passes = 1;
                let mut x = permutation.once(i);
                while x >= permutation.n {
                    x = permutation.once(x);
                    passes += 1;
                }
                passes
            })
            .max();
        assert!(longest < Some(80), "{longest:?} passes");
    }

    #[test]
    fn neighbours_are_torn_apart() {
        // A uniformly random permutation has one fixed point and two preserved neighbourhoods on average.
        let permutation = Permutation::new(10_000, 5);
        let fixed = (0..10_000).filter(|&i| permutation.at(i) == i).count();
        let kept = (1..10_000).filter(|&i| permutation.at(i).abs_diff(permutation.at(i - 1)) == 1).count();
        assert!(fixed < 10 && kept < 15, "{fixed} fixed points, {kept} neighbours kept");
    }

    proptest! {
        #[test]
        fn any_size_and_key_is_a_permutation(n in 1_u64..5_000, key: u64) {
            prop_assert!(is_permutation(n, key));
        }

        #[test]
        fn huge_sizes_stay_inside(n in 1_u64..=1 << 62, key: u64, at: u64) {
            prop_assert!(Permutation::new(n, key).at(at % n) < n);
        }

        #[test]
        fn keys_matter(n in 100_u64..1_000, key: u64) {
            let (a, b) = (Permutation::new(n, key), Permutation::new(n, key.wrapping_add(1)));
            prop_assert!((0..n).any(|i| a.at(i) != b.at(i)));
        }
    }
}
