//! Local mode: starts the sibling programs, watches them, and lets none outlive this process.
//!
//! Whether a process that ended is started again is not decided here: its end is an event for the run.

mod child;

pub(crate) use child::die_with_parent;

use std::{collections::HashMap, path::PathBuf, time::Duration};

use cluster::{
    event::{ChildEnd, Event, Exit},
    ids::MemberName,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio_util::sync::CancellationToken;

use super::run::RunMsg;
use crate::config::Programs;

/// What the launcher is told.
#[derive(Debug)]
pub enum LauncherMsg {
    /// Start a process for a seat after a pause; tell the run when it ends.
    Launch(MemberName, Duration, ActorRef<RunMsg>),
    /// The pause is over.
    Start(MemberName, ActorRef<RunMsg>),
    /// A process ended.
    Ended(MemberName, ChildEnd, ActorRef<RunMsg>),
    /// Kill the process in a seat.
    Kill(MemberName),
    /// Start nothing any more; answer when every process has ended, killing them after the grace.
    Release(Duration, RpcReplyPort<()>),
    /// Kill them all.
    KillAll,
}

/// What the launcher needs.
#[derive(Debug, Clone)]
pub struct LauncherArgs {
    /// What to start.
    pub programs: Programs,
    /// Where their output goes.
    pub log_dir: PathBuf,
    /// The URL at which they find the coordinator.
    pub url: String,
}

/// The actor.
#[derive(Default)]
pub struct LauncherActor;

/// The processes that run.
pub struct LauncherState {
    args: LauncherArgs,
    /// Seats with a process; cancelling the token kills it.
    running: HashMap<MemberName, CancellationToken>,
    releasing: Option<RpcReplyPort<()>>,
}

impl Actor for LauncherActor {
    type Msg = LauncherMsg;
    type State = LauncherState;
    type Arguments = LauncherArgs;

    async fn pre_start(
        &self,
        _: ActorRef<LauncherMsg>,
        args: LauncherArgs,
    ) -> Result<LauncherState, ActorProcessingErr> {
        Ok(LauncherState { args, running: HashMap::new(), releasing: None })
    }

    async fn handle(
        &self,
        myself: ActorRef<LauncherMsg>,
        message: LauncherMsg,
        state: &mut LauncherState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LauncherMsg::Launch(seat, pause, run) => {
                myself.send_after(pause, || LauncherMsg::Start(seat, run));
            }
            LauncherMsg::Start(seat, run) if state.releasing.is_none() => state.start(seat, run, &myself),
            LauncherMsg::Start(..) => {}
            LauncherMsg::Ended(seat, end, run) => state.end(&seat, end, &run),
            LauncherMsg::Kill(seat) => {
                if let Some(token) = state.running.get(&seat) {
                    token.cancel();
                }
            }
            LauncherMsg::Release(grace, reply) => {
                myself.send_after(grace, || LauncherMsg::KillAll);
                state.releasing = Some(reply);
                state.release();
            }
            LauncherMsg::KillAll => state.running.values().for_each(CancellationToken::cancel),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<LauncherMsg>, state: &mut LauncherState) -> Result<(), ActorProcessingErr> {
        state.running.values().for_each(CancellationToken::cancel);
        Ok(())
    }
}

impl LauncherState {
    fn start(&mut self, seat: MemberName, run: ActorRef<RunMsg>, myself: &ActorRef<LauncherMsg>) {
        let log = self.args.log_dir.join(format!("{seat}.log"));
        let myself = myself.clone();
        match child::start(&self.args, &seat, &log) {
            Ok(child) => {
                let token = CancellationToken::new();
                self.running.insert(seat.clone(), token.clone());
                tokio::spawn(async move {
                    let end = child.watch(token).await;
                    let _ = myself.cast(LauncherMsg::Ended(seat, end, run));
                });
            }
            Err(error) => {
                let end = ChildEnd {
                    how: Exit::NotStarted(error.to_string()),
                    last_line: None,
                    log: log.display().to_string(),
                };
                let _ = myself.cast(LauncherMsg::Ended(seat, end, run));
            }
        }
    }

    fn end(&mut self, seat: &MemberName, end: ChildEnd, run: &ActorRef<RunMsg>) {
        tracing::debug!("{seat} {end}");
        self.running.remove(seat);
        let _ = run.cast(RunMsg::Happened(Event::ChildEnded { child: seat.clone(), end }));
        self.release();
    }

    /// Answers a release once nothing runs.
    fn release(&mut self) {
        if self.running.is_empty()
            && let Some(reply) = self.releasing.take()
        {
            let _ = reply.send(());
        }
    }
}

#[cfg(test)]
mod tests;
