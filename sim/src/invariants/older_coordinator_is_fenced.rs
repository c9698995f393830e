//! I4, I5: once a coordinator has taken the run over, nothing that an older one does gets into the record; and the older
//! one seats nobody by an entry that is not in it.

use std::{collections::BTreeSet, time::Duration};

use cluster::{
    command::{Command, Order},
    ids::GenerationNumber,
    ledger::Entry,
};

use super::Invariant;
use crate::facts::Fact;

/// Who wrote what.
#[derive(Default)]
pub struct OlderCoordinatorIsFenced {
    owner: Option<u32>,
    generations: BTreeSet<(u32, GenerationNumber)>,
}

impl Invariant for OlderCoordinatorIsFenced {
    fn name(&self) -> &'static str {
        "older_coordinator_is_fenced"
    }

    fn hear(&mut self, fact: &Fact<'_>, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Written { by, entry: Entry::Opened { .. }, .. } => self.owner = Some(*by),
            Fact::Written { entry: Entry::Created { .. }, .. } => {}
            Fact::Written { by, number, entry } => {
                if self.owner != Some(*by) {
                    return Err(format!("p{by} wrote entry {number}, but the run is {:?}'s", self.owner));
                }
                if let Entry::Generation { number, .. } = entry {
                    self.generations.insert((*by, *number));
                }
            }
            Fact::Decided { coordinator, commands, .. } => {
                for command in *commands {
                    let Command::Order(member, Order::Sit(seat)) = command else { continue };
                    if !self.generations.contains(&(coordinator.number, seat.assembly.generation)) {
                        let number = seat.assembly.generation;
                        return Err(format!("{member} got a seat in generation {number}, which is not in the record"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
