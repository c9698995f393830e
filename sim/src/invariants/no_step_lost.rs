//! I9: while a worker lives that holds the run's state, no step is lost: the next generation starts there or further on.

use std::time::Duration;

use cluster::command::{Command, Order, Start};

use super::Invariant;
use crate::facts::Fact;

/// Compares where a generation starts with what those at hand hold.
pub struct NoStepLost;

impl Invariant for NoStepLost {
    fn name(&self) -> &'static str {
        "no_step_lost"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        let Fact::Decided { commands, holders, .. } = fact else { return Ok(()) };
        let seat = commands.iter().find_map(|command| match command {
            Command::Order(_, Order::Sit(seat)) => Some(seat),
            _ => None,
        });
        let Some(seat) = seat else { return Ok(()) };
        let (number, start) = (seat.assembly.generation, &seat.assembly.start);
        if let Some((member, step)) = holders.iter().find(|(_, step)| *step > start.step()) {
            return Err(format!("generation {number} starts at step {}, but {member} holds step {step}", start.step()));
        }
        if let Start::Survivor { rank, step } = start {
            let source = seat.assembly.workers.get(*rank as usize);
            let held = holders.iter().find(|(member, _)| Some(member) == source);
            if let Some((member, held)) = held.filter(|(_, held)| held != step) {
                return Err(format!("generation {number} starts at step {step} of {member}, which holds step {held}"));
            }
        }
        Ok(())
    }
}
