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

    /// The policies that fill a budget: options are opened from the most frequently live one on, and an option that
    /// would cost too much stays closed while later ones are still tried. Once for each kind of weight.
    pub fn filled(&self, budget: f64, cost: impl Fn(&Gates) -> f64) -> Vec<Gates> {
        let mut order: Vec<Place> = self.places();
        order.sort_by_key(|place| std::cmp::Reverse(self.habit(*place).live));
        let fill = |over_all: bool| {
            let mut gates = self.fixed(u32::MAX, over_all);
            for place in order.iter().filter(|place| self.habit(**place).live > 0) {
                let weight = self.weight(self.habit(*place), over_all);
                let before = std::mem::replace(slot(&mut gates, *place), weight);
                if cost(&gates) > budget {
                    *slot(&mut gates, *place) = before;
                }
            }
            gates
        };
        [false, true].map(fill).to_vec()
    }

    fn fixed(&self, least: u32, over_all: bool) -> Gates {
        let axis = |habits: &Vec<Habit>| {
            // An axis is never dead: its most frequent option stays.
            let most = habits.iter().map(|habit| habit.live).max().unwrap_or_default();
            let weigh = |habit: &Habit| {
                let is_live = habit.live > 0 && (habit.live >= least || habit.live == most);
                if is_live { self.weight(habit, over_all) } else { 0.0 }
            };
            habits.iter().map(weigh).collect()
        };
        self.layers.iter().map(|[time, channel]| GateRow { time: axis(time), channel: axis(channel) }).collect()
    }

    fn weight(&self, habit: &Habit, over_all: bool) -> f32 {
        habit.sum / if over_all { self.clips } else { habit.live } as f32
    }

    fn places(&self) -> Vec<Place> {
        let layers = self.layers.iter().enumerate();
        let axes =
            layers.flat_map(|(layer, axes)| axes.iter().enumerate().map(move |(axis, h)| (layer, axis, h.len())));
        axes.flat_map(|(layer, axis, options)| (0..options).map(move |option| Place { layer, axis, option })).collect()
    }

    fn habit(&self, place: Place) -> &Habit {
        &self.layers[place.layer][place.axis][place.option]
    }
}

/// One option of one axis (0: frames, 1: channels) of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    layer: usize,
    axis: usize,
    option: usize,
}

fn slot(gates: &mut Gates, place: Place) -> &mut f32 {
    let row = &mut gates[place.layer];
    let weights = if place.axis == 0 { &mut row.time } else { &mut row.channel };
    &mut weights[place.option]
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
    fn a_budget_is_filled_with_the_most_frequent_options_that_fit() {
        // Full frames cost 4, full channels 2, half options 1 each.
        let cost = |gates: &Gates| {
            let of = |weights: &[f32], costs: [f64; 2]| {
                weights.iter().zip(costs).filter(|(weight, _)| **weight > 0.0).map(|(_, cost)| cost).sum::<f64>()
            };
            of(&gates[0].time, [4.0, 1.0]) + of(&gates[0].channel, [2.0, 1.0])
        };
        let live = |budget: f64| {
            let gates = &habits().filled(budget, cost)[0][0];
            [gates.time[0], gates.time[1], gates.channel[0], gates.channel[1]].map(|weight| weight > 0.0)
        };
        // The most frequent option of each axis is always there.
        assert_eq!(live(3.0), [false, true, true, false]);
        assert_eq!(live(4.0), [false, true, true, true]);
        assert_eq!(live(7.5), [false, true, true, true]);
        assert_eq!(live(8.0), [true, true, true, true]);
    }

    #[test]
    fn the_dearest_affordable_candidates_are_tried() {
        let one = |cost: f64| (gates([1.0, 0.0], [1.0, 0.0]), cost);
        let costs = |candidates: Vec<(Gates, f64)>| candidates.into_iter().map(|(_, cost)| cost).collect::<Vec<_>>();
        assert_eq!(costs(affordable(vec![one(1.0), one(4.0), one(2.0), one(3.0)], 3.0, 2)), [3.0, 2.0]);
        assert_eq!(costs(affordable(vec![one(5.0), one(4.0)], 3.0, 2)), [4.0]);
    }
}
