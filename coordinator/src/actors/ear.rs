//! For tests: stands in for the run and passes on what it hears.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::run::RunMsg;

/// What was heard.
pub type Heard = mpsc::UnboundedReceiver<RunMsg>;

/// The actor.
struct Ear;

impl Actor for Ear {
    type Msg = RunMsg;
    type State = mpsc::UnboundedSender<RunMsg>;
    type Arguments = Self::State;

    async fn pre_start(&self, _: ActorRef<RunMsg>, heard: Self::State) -> Result<Self::State, ActorProcessingErr> {
        Ok(heard)
    }

    async fn handle(
        &self,
        _: ActorRef<RunMsg>,
        message: RunMsg,
        heard: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A test that has what it wants hangs up.
        let _ = heard.send(message);
        Ok(())
    }
}

/// An ear and what it hears.
pub async fn listen() -> (ActorRef<RunMsg>, Heard) {
    let (tell, heard) = mpsc::unbounded_channel();
    let (ear, _) = Actor::spawn(None, Ear, tell).await.expect("starts");
    (ear, heard)
}
