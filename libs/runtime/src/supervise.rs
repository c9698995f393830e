//! Supervision as data: what to build, and what its end means.
//!
//! ractor reports the end of a child and, left alone, stops the parent at *any* child's end. Here the parent keeps a
//! [`Children`] and passes every supervision event to [`Children::on`], which restarts what the policy restarts and
//! says when to give up. A process gives up by exiting non-zero: its own supervisor (the launcher, Kubernetes) takes
//! over. Two levels, not five.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What the end of a child means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing to anybody else: a session that ends with its connection.
    Forget,
    /// A failure restarts it, at most `times` within `window`; a normal end is fine.
    Restart {
        /// How many restarts.
        times: u32,
        /// In which time.
        window: Duration,
    },
    /// A failure ends the parent; a normal end is fine.
    Escalate,
    /// Any end ends the parent: the process is pointless without it.
    Essential,
}

/// An actor that is being started.
pub type Starting = Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>>;

/// Starts the actor below the given supervisor.
pub type Build = Box<dyn FnMut(ActorCell) -> Starting + Send>;

/// One child: its name for messages, how to build it, what its end means.
pub struct ChildSpec {
    /// For messages; unique below one parent.
    pub name: String,
    /// What its end means.
    pub policy: Policy,
    /// Called once at the start and once for each restart.
    pub build: Build,
}

impl ChildSpec {
    /// A child that is the actor `A`; `args` makes its arguments anew for each start.
    pub fn new<A, F>(name: &str, policy: Policy, mut args: F) -> Self
    where
        A: Actor + Default,
        F: FnMut() -> A::Arguments + Send + 'static,
    {
        let build: Build = Box::new(move |parent| {
            let arguments = args();
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, A::default(), arguments, parent).await?;
                Ok(actor.get_cell())
            })
        });
        Self { name: name.to_owned(), policy, build }
    }
}

/// What a supervision event came to.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// The child was built anew; whoever held the old reference needs this one.
    Restarted {
        /// Which child.
        name: String,
        /// The new actor.
        actor: ActorCell,
    },
    /// The parent must end.
    GiveUp(GaveUp),
}

/// Why a tree of actors ended.
#[derive(Debug, thiserror::Error)]
#[error("{child} ended: {reason}")]
pub struct GaveUp {
    /// The child whose end it was.
    pub child: String,
    /// In its own words.
    pub reason: String,
}

struct Child {
    spec: ChildSpec,
    restarts: VecDeque<Instant>,
}

/// The children of one actor. Lives in the actor's state.
#[derive(Default)]
pub struct Children {
    alive: HashMap<ActorId, Child>,
}

impl Children {
    /// Starts a child below `parent`.
    pub async fn start(&mut self, mut spec: ChildSpec, parent: ActorCell) -> Result<ActorCell, GaveUp> {
        let built = (spec.build)(parent).await;
        let actor = built.map_err(|error| GaveUp { child: spec.name.clone(), reason: startup_text(error) })?;
        self.alive.insert(actor.get_id(), Child { spec, restarts: VecDeque::new() });
        Ok(actor)
    }

    /// Call it with every event of `handle_supervisor_evt`.
    pub async fn on(&mut self, event: SupervisionEvent, parent: ActorCell) -> Verdict {
        let (actor, failed, reason) = match event {
            SupervisionEvent::ActorFailed(actor, error) => (actor, true, flatten(&error.to_string())),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, false, reason.unwrap_or_else(|| "it stopped".to_owned()))
            }
            _ => return Verdict::Fine,
        };
        let Some(child) = self.alive.remove(&actor.get_id()) else { return Verdict::Fine };
        let give_up = |child: Child, reason| Verdict::GiveUp(GaveUp { child: child.spec.name, reason });
        match (child.spec.policy, failed) {
            (Policy::Forget, _) | (Policy::Escalate | Policy::Restart { .. }, false) => Verdict::Fine,
            (Policy::Escalate, true) | (Policy::Essential, _) => give_up(child, reason),
            (Policy::Restart { times, window }, true) => self.restart(child, times, window, (reason, parent)).await,
        }
    }

    async fn restart(&mut self, mut child: Child, times: u32, window: Duration, why: (String, ActorCell)) -> Verdict {
        let (reason, parent) = why;
        let now = Instant::now();
        child.restarts.retain(|at| now.duration_since(*at) < window);
        if child.restarts.len() >= times as usize {
            let reason = format!("{reason} (restarted {times} times within {window:?})");
            return Verdict::GiveUp(GaveUp { child: child.spec.name, reason });
        }
        child.restarts.push_back(now);
        tracing::warn!("{} failed and is restarted: {reason}", child.spec.name);
        match (child.spec.build)(parent).await {
            Ok(actor) => {
                let name = child.spec.name.clone();
                self.alive.insert(actor.get_id(), child);
                Verdict::Restarted { name, actor }
            }
            Err(error) => Verdict::GiveUp(GaveUp { child: child.spec.name, reason: startup_text(error) }),
        }
    }

    /// How many live.
    pub fn len(&self) -> usize {
        self.alive.len()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }
}

/// Runs `children` in this order until `stop` is cancelled (`Ok`) or a policy gives up. All are stopped then, last
/// started first stopped, and have run their `post_stop` when this returns.
pub async fn run(children: Vec<ChildSpec>, stop: CancellationToken) -> Result<(), GaveUp> {
    let (end, ended) = oneshot::channel();
    let started = Actor::spawn(None, Supervisor, (children, end)).await;
    let (supervisor, task) = started.map_err(|error| match error {
        SpawnErr::StartupFailed(inner) => match inner.downcast::<GaveUp>() {
            Ok(gave_up) => *gave_up,
            Err(other) => GaveUp { child: "the supervisor".to_owned(), reason: flatten(&other.to_string()) },
        },
        other => GaveUp { child: "the supervisor".to_owned(), reason: other.to_string() },
    })?;
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        verdict = ended => verdict.map_or(Ok(()), Err),
    };
    supervisor.stop(None);
    // The task only fails if it was aborted; nobody holds its handle but us.
    let _ = task.await;
    outcome
}

/// The actor behind [`run`].
struct Supervisor;

struct SupervisorState {
    children: Children,
    started: Vec<ActorCell>,
    end: Option<oneshot::Sender<GaveUp>>,
}

impl Actor for Supervisor {
    type Msg = ();
    type State = SupervisorState;
    type Arguments = (Vec<ChildSpec>, oneshot::Sender<GaveUp>);

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (specs, end): Self::Arguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut state = SupervisorState { children: Children::default(), started: Vec::new(), end: Some(end) };
        for spec in specs {
            state.started.push(state.children.start(spec, myself.get_cell()).await?);
        }
        Ok(state)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<()>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match state.children.on(event, myself.get_cell()).await {
            Verdict::Fine => {}
            Verdict::Restarted { actor, .. } => state.started.push(actor),
            Verdict::GiveUp(why) => {
                if let Some(end) = state.end.take() {
                    // `run` waits for it as long as it lives.
                    let _ = end.send(why);
                }
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<()>, state: &mut SupervisorState) -> Result<(), ActorProcessingErr> {
        for actor in state.started.drain(..).rev() {
            // An error means that it has stopped already.
            let _ = actor.stop_and_wait(None, Some(STOP)).await;
        }
        Ok(())
    }
}

/// How long one child may take to stop.
const STOP: Duration = Duration::from_secs(5);

fn startup_text(error: SpawnErr) -> String {
    match error {
        SpawnErr::StartupFailed(inner) => flatten(&inner.to_string()),
        other => other.to_string(),
    }
}

fn flatten(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
