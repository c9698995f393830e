//! The two controls that a policy is judged by, as far as they are arithmetic: which clip's gates another clip gets, and
//! which fixed policies are tried.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::device::measure::{GateRow, Gates};

/// A permutation of `0..n` in which nobody keeps its own place: one cycle through all (Sattolo).
pub fn cycle(n: usize, seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, random.random_range(0..last));
    }
    order
}

/// How often each option is live over many clips, and its mean weight where it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Habits {
    clips: u32,
    layers: Vec<[Vec<Habit>; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Habit {
    live: u32,
    sum: f32,
}

impl Habits {
    /// Counts one more clip.
    pub fn add(&mut self, gates: &Gates) {
        self.clips += 1;
        if self.layers.is_empty() {
            let none = |weights: &[f32]| vec![Habit::default(); weights.len()];
            self.layers = gates.iter().map(|row| [none(&row.time), none(&row.channel)]).collect();
        }
        for (layer, row) in self.layers.iter_mut().zip(gates) {
            for (habits, weights) in layer.iter_mut().zip([&row.time, &row.channel]) {
                for (habit, weight) in habits.iter_mut().zip(weights).filter(|(_, weight)| **weight > 0.0) {
                    habit.live += 1;
                    habit.sum += weight;
                }
            }
        }
    }

    /// The policies that fix every option to live where it is live in at least a share `q` of the clips, for every `q`
    /// that makes a difference. From most to least computed.
    ///
    /// Each comes twice: a live option weighs its mean over the clips where it is live, or over all clips.
    pub fn candidates(&self) -> Vec<Gates> {
        let all = self.layers.iter().flatten().flatten();
        let mut counts: Vec<u32> = all.map(|habit| habit.live).filter(|live| *live > 0).collect();
        counts.sort_unstable();
        counts.dedup();
        let mut candidates: Vec<Gates> = Vec::new();
        for least in counts {
            for over_all in [false, true] {
                let gates = self.fixed(least, over_all);
                if !candidates.contains(&gates) {
                    candidates.push(gates);
                }
            }
        }
        candidates
    }

    fn fixed(&self, least: u32, over_all: bool) -> Gates {
        let axis = |habits: &Vec<Habit>| {
            // An axis is never dead: its most frequent option stays.
            let most = habits.iter().map(|habit| habit.live).max().unwrap_or_default();
            let weigh = |habit: &Habit| {
                let is_live = habit.live > 0 && (habit.live >= least || habit.live == most);
                let clips = if over_all { self.clips } else { habit.live };
                if is_live { habit.sum / clips as f32 } else { 0.0 }
            };
            habits.iter().map(weigh).collect()
        };
        self.layers.iter().map(|[time, channel]| GateRow { time: axis(time), channel: axis(channel) }).collect()
    }
}

/// The most expensive affordable candidates, at most `most` of them; the cheapest one if none is affordable.
pub fn affordable(mut candidates: Vec<(Gates, f64)>, budget: f64, most: usize) -> Vec<(Gates, f64)> {
    candidates.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let cheapest = candidates.last().cloned();
    candidates.retain(|(_, cost)| *cost <= budget);
    candidates.truncate(most);
    if candidates.is_empty() { cheapest.into_iter().collect() } else { candidates }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates(time: [f32; 2], channel: [f32; 2]) -> Gates {
        vec![GateRow { time: time.to_vec(), channel: channel.to_vec() }]
    }

    fn habits() -> Habits {
        let mut habits = Habits::default();
        // Full frames in one of four clips, half frames always; full channels in three of four, half in two.
        habits.add(&gates([0.8, 0.5], [0.9, 0.0]));
        habits.add(&gates([0.0, 0.5], [0.9, 0.2]));
        habits.add(&gates([0.0, 0.5], [0.6, 0.4]));
        habits.add(&gates([0.0, 0.5], [0.0, 0.0]));
        habits
    }

    #[test]
    fn nobody_keeps_its_own_gates() {
        for n in 2..60 {
            let mut order = cycle(n, 7);
            assert!(order.iter().enumerate().all(|(at, from)| at != *from));
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_permutation_is_the_seeds() {
        assert_eq!(cycle(20, 7), cycle(20, 7));
        assert_ne!(cycle(20, 7), cycle(20, 8));
    }

    #[test]
    fn thresholds_close_options_one_by_one() {
        let live = |gates: &Gates| {
            let live = |weights: &[f32]| weights.iter().map(|w| u8::from(*w > 0.0)).collect::<Vec<_>>();
            (live(&gates[0].time), live(&gates[0].channel))
        };
        let mut seen: Vec<_> = habits().candidates().iter().map(live).collect();
        seen.dedup();
        let expected = [([1, 1], [1, 1]), ([0, 1], [1, 1]), ([0, 1], [1, 0])];
        assert_eq!(seen, expected.map(|(time, channel)| (time.to_vec(), channel.to_vec())));
    }

    #[test]
    fn a_fixed_weight_is_the_mean_where_live_or_over_all() {
        let all = habits().candidates();
        assert_eq!(all[0][0].time, [0.8, 0.5]);
        assert_eq!(all[1][0].time, [0.2, 0.5]);
        assert!((all[0][0].channel[1] - 0.3).abs() < 1e-6 && (all[1][0].channel[1] - 0.15).abs() < 1e-6);
    }

    #[test]
    fn the_dearest_affordable_candidates_are_tried() {
        let one = |cost: f64| (gates([1.0, 0.0], [1.0, 0.0]), cost);
        let costs = |candidates: Vec<(Gates, f64)>| candidates.into_iter().map(|(_, cost)| cost).collect::<Vec<_>>();
        assert_eq!(costs(affordable(vec![one(1.0), one(4.0), one(2.0), one(3.0)], 3.0, 2)), [3.0, 2.0]);
        assert_eq!(costs(affordable(vec![one(5.0), one(4.0)], 3.0, 2)), [4.0]);
    }
}
