//! Where random numbers come from: every stream of the system is derived from the run's seed, a purpose and numbers.
//!
//! Nothing in vared draws from a shared generator, so no stream depends on who drew before.

/// Derives the key of one random stream. Equal arguments give equal keys on every machine, for ever: the derivation is
/// part of the checkpoint format (a resumed run must see the same clips), so it must not change.
///
/// ```
/// use cluster::seed::derive;
/// assert_eq!(derive(1, "order", &[3]), derive(1, "order", &[3]));
/// assert_ne!(derive(1, "order", &[3]), derive(1, "order", &[4]));
/// assert_ne!(derive(1, "order", &[3]), derive(1, "reserve", &[3]));
/// ```
pub fn derive(seed: u64, purpose: &str, numbers: &[u64]) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("vared 1 random stream");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&(purpose.len() as u64).to_le_bytes());
    hasher.update(purpose.as_bytes());
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Mixes the bits of `x` (the finaliser of SplitMix64, a bijection).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The derivation is part of the checkpoint format: these values were written down once and must stay.
    #[test]
    fn the_derivation_never_changes() {
        assert_eq!([derive(0, "", &[]), derive(1, "order", &[0]), derive(1, "order", &[1])], GOLDEN);
    }

    const GOLDEN: [u64; 3] = [4_989_659_120_471_397_430, 13_549_029_597_737_521_899, 9_786_975_991_374_514_344];

    #[test]
    fn a_purpose_and_a_number_do_not_run_into_each_other() {
        assert_ne!(derive(1, "a", &[u64::from(b'b')]), derive(1, "ab", &[]));
    }
}
