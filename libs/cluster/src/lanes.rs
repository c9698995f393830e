//! Which worker carries which lanes.

use std::ops::Range;

/// Cuts `lanes` lanes into contiguous ranges, one for each of `world` ranks; earlier ranks take the extra ones. Ranks
/// beyond the number of lanes get an empty range (the run refuses such a world before it comes to this).
///
/// ```
/// assert_eq!(cluster::lanes::assign(8, 3), [0..3, 3..6, 6..8]);
/// ```
pub fn assign(lanes: u32, world: u32) -> Vec<Range<u32>> {
    if world == 0 {
        return Vec::new();
    }
    let (each, extra) = (lanes / world, lanes % world);
    let first = |rank: u32| rank * each + rank.min(extra);
    (0..world).map(|rank| first(rank)..first(rank + 1)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_gets_nothing_of_an_empty_world() {
        assert_eq!(assign(8, 0), []);
        assert_eq!(assign(2, 3), [0..1, 1..2, 2..2]);
    }

    proptest! {
        #[test]
        fn ranges_tile_the_lanes_and_differ_by_one_at_most(lanes in 1_u32..2_000, world in 1_u32..300) {
            let ranges = assign(lanes, world);
            prop_assert_eq!(ranges.len(), world as usize);
            prop_assert!(ranges.iter().cloned().flatten().eq(0..lanes));
            let sizes: Vec<u32> = ranges.iter().map(|r| r.end - r.start).collect();
            prop_assert!(sizes.is_sorted_by(|a, b| a >= b));
            prop_assert!(sizes[0] - sizes[sizes.len() - 1] <= 1);
        }
    }
}
