//! The root of the actors: starts them in order, and ends the process's work when one of them fails.
//!
//! Nothing is restarted here. The run record is in the store: a coordinator that starts anew is the restart.

use checkpoint::{Journal, Place};
use cluster::{ids::RunName, ledger::Entry, limits::Limits, run::Run};
use proto::coordinator::Welcome;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use runtime::supervise::{ChildSpec, Children, GaveUp, Policy, Verdict};
use tokio::sync::oneshot;

use super::{
    keeper::KeeperActor,
    launcher::{LauncherActor, LauncherArgs, LauncherMsg},
    pruner::{PrunerActor, PrunerArgs},
    rendezvous::{RendezvousActor, RendezvousMsg},
    run::{Ended, Peers, RunActor, RunArgs, RunMsg},
};
use crate::dashboard::Dashboard;

/// What the actors are made of.
pub struct Parts {
    /// The decisions.
    pub run: Run,
    /// Where they are recorded.
    pub journal: Journal<Entry>,
    /// Where its checkpoints are.
    pub place: Place,
    /// The run's name.
    pub name: RunName,
    /// Every time limit.
    pub limits: Limits,
    /// What a new member is told.
    pub welcome: Welcome,
    /// What is launched; `None`: others do.
    pub launch: Option<LauncherArgs>,
    /// Who watches.
    pub dashboard: Dashboard,
    /// Hears of the run's end.
    pub ended: oneshot::Sender<Ended>,
}

/// The actors that the services and the process talk to.
#[derive(Clone)]
pub struct Handles {
    /// The run.
    pub run: ActorRef<RunMsg>,
    /// The collectives' keys.
    pub rendezvous: ActorRef<RendezvousMsg>,
    /// The launched processes.
    pub launcher: Option<ActorRef<LauncherMsg>>,
}

/// What the root is told at its start.
pub struct RootArgs {
    /// What the actors are made of.
    pub parts: Parts,
    /// Gets the actors once all run.
    pub ready: oneshot::Sender<Handles>,
    /// Hears of an actor's failure.
    pub failed: oneshot::Sender<GaveUp>,
}

/// The actor.
pub struct RootActor;

/// Its children.
pub struct RootState {
    children: Children,
    failed: Option<oneshot::Sender<GaveUp>>,
}

impl Actor for RootActor {
    type Msg = ();
    type State = RootState;
    type Arguments = RootArgs;

    async fn pre_start(&self, myself: ActorRef<()>, args: RootArgs) -> Result<RootState, ActorProcessingErr> {
        let RootArgs { parts, ready, failed } = args;
        let mut state = RootState { children: Children::default(), failed: Some(failed) };
        let handles = state.start_all(parts, &myself.get_cell()).await?;
        // Nobody waits for them any more if the process is ending already.
        let _ = ready.send(handles);
        Ok(state)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        if let Verdict::GiveUp(why) = state.children.on(event, myself.get_cell()).await
            && let Some(failed) = state.failed.take()
        {
            let _ = failed.send(why);
        }
        Ok(())
    }
}

impl RootState {
    async fn start_all(&mut self, parts: Parts, myself: &ActorCell) -> Result<Handles, GaveUp> {
        let Parts { run, journal, place, name, limits, welcome, launch, dashboard, ended } = parts;
        let rendezvous = self.start("rendezvous", RendezvousActor, (), myself).await?;
        let keeper = self.start("keeper", KeeperActor, (journal, limits.patience), myself).await?;
        let dropped = run.ledger().dropped().clone();
        let pruner = self.start("pruner", PrunerActor, PrunerArgs { place, run: name, dropped }, myself).await?;
        let launcher = match launch {
            Some(args) => Some(self.start("launcher", LauncherActor, args, myself).await?),
            None => None,
        };
        let peers = Peers { keeper, pruner, rendezvous: rendezvous.clone(), launcher: launcher.clone() };
        let args = RunArgs { run, welcome, limits, peers, dashboard, ended };
        let run = self.start("run", RunActor, args, myself).await?;
        Ok(Handles { run, rendezvous, launcher })
    }

    /// Starts an actor whose failure ends the process.
    async fn start<A: Actor>(
        &mut self,
        name: &str,
        actor: A,
        arguments: A::Arguments,
        myself: &ActorCell,
    ) -> Result<ActorRef<A::Msg>, GaveUp> {
        let mut once = Some((actor, arguments));
        let spec = ChildSpec {
            name: name.to_owned(),
            policy: Policy::Escalate,
            build: Box::new(move |parent| {
                let (actor, arguments) = once.take().expect("the policy never builds an actor twice");
                Box::pin(async move {
                    let (actor, _) = Actor::spawn_linked(None, actor, arguments, parent).await?;
                    Ok(actor.get_cell())
                })
            }),
        };
        Ok(self.children.start(spec, myself.clone()).await?.into())
    }
}
