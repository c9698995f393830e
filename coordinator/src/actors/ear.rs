//! For tests: stands in for the run and passes on what it hears.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;

use super::run::RunMsg;

/// What was heard.
pub type Heard = mpsc::Receiver<RunMsg>;

/// The actor.
struct Ear;

impl Actor for Ear {
    type Msg = RunMsg;
    type State = mpsc::Sender<RunMsg>;
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
        let _ = heard.send(message).await;
        Ok(())
    }
}

/// An ear and what it hears.
pub(super) async fn listen() -> (ActorRef<RunMsg>, Heard) {
    let (tell, heard) = mpsc::channel(64);
    let (ear, _) = Actor::spawn(None, Ear, tell).await.expect("starts");
    (ear, heard)
}
