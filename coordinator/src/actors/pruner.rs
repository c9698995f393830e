//! Reads checkpoints back, and deletes those that the journal says are dropped; one after the other, beside the run.

use std::collections::BTreeSet;

use checkpoint::{Place, prune, reader::inspect};
use cluster::{
    event::{Condition, Event},
    ids::RunName,
    report::Commit,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use runtime::exit::one_line;

use super::run::RunMsg;

/// What the pruner is told.
#[derive(Debug)]
pub enum PrunerMsg {
    /// Compare every byte of a checkpoint with what was written; the run gets `Verified`.
    Verify(Commit, ActorRef<RunMsg>),
    /// Delete what is left of these; they are dropped.
    Delete(Vec<String>),
}

/// What it needs.
#[derive(Debug, Clone)]
pub struct PrunerArgs {
    /// Where the checkpoints are.
    pub place: Place,
    /// Whose.
    pub run: RunName,
    /// Those that were dropped before this process began: whoever did it may not have come to their end.
    pub dropped: BTreeSet<String>,
}

/// The actor.
#[derive(Default)]
pub struct PrunerActor;

impl Actor for PrunerActor {
    type Msg = PrunerMsg;
    type State = PrunerArgs;
    type Arguments = PrunerArgs;

    async fn pre_start(&self, _: ActorRef<PrunerMsg>, args: PrunerArgs) -> Result<PrunerArgs, ActorProcessingErr> {
        Ok(args)
    }

    // Not in `pre_start`: nobody waits for it.
    async fn post_start(&self, _: ActorRef<PrunerMsg>, state: &mut PrunerArgs) -> Result<(), ActorProcessingErr> {
        match prune::sweep(&state.place, &state.run, &std::mem::take(&mut state.dropped)).await {
            Ok(0) => {}
            Ok(objects) => tracing::info!("{objects} objects of dropped checkpoints were left, and are deleted"),
            Err(error) => left_over(error),
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<PrunerMsg>,
        message: PrunerMsg,
        state: &mut PrunerArgs,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PrunerMsg::Verify(commit, run) => {
                let found = condition(&state.place, &commit).await;
                // Without a run there is nobody left to tell: the process is ending.
                let _ = run.cast(RunMsg::Happened(Event::Verified { prefix: commit.prefix, found }));
            }
            PrunerMsg::Delete(prefixes) => {
                for prefix in prefixes {
                    if let Err(error) = prune::delete(&state.place, &state.run, &prefix).await {
                        left_over(error);
                    }
                }
            }
        }
        Ok(())
    }
}

async fn condition(place: &Place, commit: &Commit) -> Condition {
    match inspect(place, commit).await {
        Ok(damages) if damages.is_empty() => Condition::Whole,
        Ok(damages) => Condition::Damaged(damages.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        Err(error) => Condition::Unknown(one_line(&error.into())),
    }
}

/// Objects that cost room and nothing else.
fn left_over(error: prune::PruneError) {
    tracing::warn!(
        "{}; the next start of this run, or `coordinator checkpoints prune`, tries again",
        one_line(&error.into())
    );
}
