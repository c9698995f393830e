//! The run: hears what happens, asks `cluster` what to do, does it.

use std::collections::HashMap;

use cluster::{
    command::{Command, Order},
    event::{Event, Loss, Role},
    ids::Member,
    limits::Limits,
    run::Run,
};
use futures::stream::BoxStream;
use proto::{
    coordinator::{FromMember, Welcome},
    status::Refusal,
};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::{sync::oneshot, time::Instant};
use tonic::Status;

use super::{
    keeper::Record,
    launcher::LauncherMsg,
    pruner::PrunerMsg,
    rendezvous::RendezvousMsg,
    session::{Outbox, SessionActor, SessionArgs, SessionMsg},
};
use crate::dashboard::Dashboard;

/// What the run hears.
pub enum RunMsg {
    /// Something happened.
    Happened(Event),
    /// A member opened a stream and said hello.
    Admit(Box<Admission>),
    /// A session is at its end.
    SessionOver(ActorId, Loss),
}

/// A member that wants in.
pub struct Admission {
    /// Who.
    pub member: Member,
    /// What for.
    pub role: Role,
    /// What comes from it.
    pub inbox: BoxStream<'static, Result<FromMember, Status>>,
    /// What goes to it.
    pub outbox: Outbox,
    /// Whether it is taken in.
    pub reply: RpcReplyPort<Result<(), Refusal>>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit code for the process.
    pub code: u8,
    /// Why, in one sentence.
    pub sentence: String,
    /// The run in figures, some lines.
    pub summary: String,
    /// All steps are done.
    pub is_finished: bool,
}

/// What the run needs.
pub struct RunArgs {
    /// The decisions.
    pub run: Run,
    /// What a new member is told.
    pub welcome: Welcome,
    /// Every time limit.
    pub limits: Limits,
    /// Who executes.
    pub peers: Peers,
    /// Who watches.
    pub dashboard: Dashboard,
    /// Hears of the end.
    pub ended: oneshot::Sender<Ended>,
}

/// The actors that execute the run's commands.
pub struct Peers {
    /// Writes the run record.
    pub keeper: ActorRef<Record>,
    /// Reads checkpoints back, and deletes those that are dropped.
    pub pruner: ActorRef<PrunerMsg>,
    /// Holds the collectives' keys.
    pub rendezvous: ActorRef<RendezvousMsg>,
    /// Starts processes; `None` where others do.
    pub launcher: Option<ActorRef<LauncherMsg>>,
}

/// The actor.
pub struct RunActor;

/// The decisions and what their execution needs.
pub struct RunState {
    args: RunArgs,
    started_at: Instant,
    sessions: HashMap<Member, ActorRef<SessionMsg>>,
    /// The member whose `Joined` is being decided.
    admitting: Option<RpcReplyPort<Result<(), Refusal>>>,
    ended: Option<oneshot::Sender<Ended>>,
}

impl Actor for RunActor {
    type Msg = RunMsg;
    type State = RunState;
    type Arguments = RunArgs;

    async fn pre_start(&self, myself: ActorRef<RunMsg>, mut args: RunArgs) -> Result<RunState, ActorProcessingErr> {
        // A failure settles within half a beat: ticks come often enough to see that.
        myself.send_interval(args.limits.settle / 2, || RunMsg::Happened(Event::Tick));
        myself.cast(RunMsg::Happened(Event::Started))?;
        let (unheard, _) = oneshot::channel();
        let ended = Some(std::mem::replace(&mut args.ended, unheard));
        Ok(RunState { args, started_at: Instant::now(), sessions: HashMap::new(), admitting: None, ended })
    }

    async fn handle(
        &self,
        myself: ActorRef<RunMsg>,
        message: RunMsg,
        state: &mut RunState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RunMsg::Happened(event) => state.decide(event, &myself),
            RunMsg::Admit(admission) => state.admit(*admission, &myself).await?,
            RunMsg::SessionOver(session, loss) => state.lose(session, loss, &myself),
        }
        Ok(())
    }

    /// Sessions are linked to the run: one that failed is a broken stream, nothing more. Supervision events overtake
    /// messages, so this one queues behind what the session has said before it ended.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RunMsg>,
        event: SupervisionEvent,
        _: &mut RunState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(session, _) | SupervisionEvent::ActorTerminated(session, _, _) = event {
            myself.cast(RunMsg::SessionOver(session.get_id(), Loss::Broken))?;
        }
        Ok(())
    }
}

impl RunState {
    fn decide(&mut self, event: Event, myself: &ActorRef<RunMsg>) {
        if !matches!(event, Event::Tick) {
            tracing::debug!("event: {event:?}");
        }
        for command in self.args.run.on(event, self.started_at.elapsed()) {
            tracing::debug!("command: {command}");
            self.execute(command, myself);
        }
    }

    /// Does one thing. A peer that is gone takes the process with it, so its errors are not handled here.
    fn execute(&mut self, command: Command, myself: &ActorRef<RunMsg>) {
        let peers = &self.args.peers;
        match command {
            Command::Welcome(member) => self.welcome(&member),
            Command::Refuse(member, reason) => self.refuse(&member, reason),
            Command::Record(entry) => drop(peers.keeper.cast(Record { entry, answer: myself.clone() })),
            Command::OpenRendezvous(generation) => drop(peers.rendezvous.cast(RendezvousMsg::Open(generation))),
            Command::CloseRendezvous { generation, reason } => {
                let _ = peers.rendezvous.cast(RendezvousMsg::Close(generation, reason));
            }
            Command::Verify(commit) => drop(peers.pruner.cast(PrunerMsg::Verify(commit, myself.clone()))),
            Command::Delete(prefixes) => drop(peers.pruner.cast(PrunerMsg::Delete(prefixes))),
            Command::Order(member, order) => self.order(&member, order),
            Command::Launch { child, after } => {
                if let Some(launcher) = &peers.launcher {
                    let _ = launcher.cast(LauncherMsg::Launch(child, after, myself.clone()));
                }
            }
            Command::Kill(child) => {
                if let Some(launcher) = &peers.launcher {
                    let _ = launcher.cast(LauncherMsg::Kill(child));
                }
            }
            Command::Tell(notice) => self.args.dashboard.hear(&notice),
            Command::End { code, sentence } => {
                let summary = self.args.dashboard.close();
                let is_finished = self.args.run.ledger().finished().is_some();
                if let Some(ended) = self.ended.take() {
                    let _ = ended.send(Ended { code, sentence, summary, is_finished });
                }
            }
        }
    }

    async fn admit(&mut self, admission: Admission, myself: &ActorRef<RunMsg>) -> Result<(), ActorProcessingErr> {
        let Admission { member, role, inbox, outbox, reply } = admission;
        let args = SessionArgs { member: member.clone(), inbox, outbox, run: myself.clone(), limits: self.args.limits };
        let (session, _) = Actor::spawn_linked(None, SessionActor, args, myself.get_cell()).await?;
        // The same process may come back on a new stream before the old one is known to be broken.
        if let Some(old) = self.sessions.insert(member.clone(), session) {
            let _ = old.cast(SessionMsg::Replaced);
        }
        self.admitting = Some(reply);
        self.decide(Event::Joined { member, role }, myself);
        Ok(())
    }

    fn welcome(&mut self, member: &Member) {
        if let Some(session) = self.sessions.get(member) {
            let _ = session.cast(SessionMsg::Welcome(Box::new(self.args.welcome.clone())));
        }
        if let Some(reply) = self.admitting.take() {
            let _ = reply.send(Ok(()));
        }
    }

    fn refuse(&mut self, member: &Member, reason: String) {
        if let Some(session) = self.sessions.remove(member) {
            let _ = session.cast(SessionMsg::Replaced);
        }
        if let Some(reply) = self.admitting.take() {
            let _ = reply.send(Err(Refusal::Stale(reason)));
        }
    }

    fn order(&mut self, member: &Member, order: Order) {
        if let Some(session) = self.sessions.get(member) {
            let _ = session.cast(SessionMsg::Order(order));
        }
    }

    /// A session ended. One that was replaced is no longer in the table, and no news.
    fn lose(&mut self, session: ActorId, loss: Loss, myself: &ActorRef<RunMsg>) {
        let owner = self.sessions.iter().find(|(_, known)| known.get_id() == session);
        let Some(member) = owner.map(|(member, _)| member.clone()) else { return };
        self.sessions.remove(&member);
        self.decide(Event::Lost { member, loss }, myself);
    }
}
