//! One member's stream: its events in, its orders out, its beats watched.

use std::time::Duration;

use cluster::{command::Order, event::Loss, ids::Member, limits::Limits};
use futures::{StreamExt, stream::BoxStream};
use proto::{
    coordinator::{FromMember, ToMember, Welcome, from_member::Event as FromEvent, to_member},
    status::Refusal,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tonic::Status;

use super::run::RunMsg;
use crate::parse;

/// Orders that may wait for a member to read them; one that lets more pile up is as good as gone.
pub const OUTBOX: usize = 64;

/// Where a session's messages to its member go.
pub type Outbox = mpsc::Sender<Result<ToMember, Status>>;

/// What a session hears.
#[derive(Debug)]
pub enum SessionMsg {
    /// The member is taken in: tell it about the run.
    Welcome(Box<Welcome>),
    /// Something for the member.
    Order(Order),
    /// Something from the member.
    Heard(Box<FromMember>),
    /// The stream is at its end.
    Closed,
    /// Time to look for silence.
    Look,
    /// Another stream has taken this one's place.
    Replaced,
}

/// What a session needs.
pub struct SessionArgs {
    /// Whose it is.
    pub member: Member,
    /// What comes from the member.
    pub inbox: BoxStream<'static, Result<FromMember, Status>>,
    /// What goes to it.
    pub outbox: Outbox,
    /// Who hears of its events.
    pub run: ActorRef<RunMsg>,
    /// When silence is a verdict.
    pub limits: Limits,
}

/// The actor.
pub struct SessionActor;

/// One open stream.
pub struct SessionState {
    member: Member,
    outbox: Outbox,
    run: ActorRef<RunMsg>,
    patience: Duration,
    heard_at: Instant,
    pump: JoinHandle<()>,
}

impl Actor for SessionActor {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<SessionMsg>,
        args: SessionArgs,
    ) -> Result<SessionState, ActorProcessingErr> {
        let pump = tokio::spawn(pump(args.inbox, myself.clone()));
        myself.send_interval(args.limits.beat, || SessionMsg::Look);
        Ok(SessionState {
            member: args.member,
            outbox: args.outbox,
            run: args.run,
            patience: args.limits.patience,
            heard_at: Instant::now(),
            pump,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMsg>,
        message: SessionMsg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        let end = match message {
            SessionMsg::Welcome(welcome) => state.send(to_member::Command::Welcome(*welcome)),
            SessionMsg::Order(order) => state.obey(order),
            SessionMsg::Heard(message) => state.hear(*message),
            SessionMsg::Closed => Some(state.closed()),
            SessionMsg::Look => (state.heard_at.elapsed() >= state.patience).then_some(Loss::Silent),
            SessionMsg::Replaced => {
                myself.stop(None);
                None
            }
        };
        if let Some(loss) = end {
            let _ = state.run.cast(RunMsg::SessionOver(myself.get_id(), loss));
            myself.stop(None);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<SessionMsg>, state: &mut SessionState) -> Result<(), ActorProcessingErr> {
        state.pump.abort();
        Ok(())
    }
}

impl SessionState {
    /// A stream's end after a long silence: the connection's own keep-alive noticed it just before us.
    fn closed(&self) -> Loss {
        if self.heard_at.elapsed() >= self.patience * 3 / 4 { Loss::Silent } else { Loss::Broken }
    }

    /// Sends without waiting. A member that does not read is gone.
    fn send(&self, command: to_member::Command) -> Option<Loss> {
        self.outbox.try_send(Ok(ToMember { command: Some(command) })).err().map(|_| Loss::Broken)
    }

    fn obey(&self, order: Order) -> Option<Loss> {
        self.outbox.try_send(Ok(parse::order(order))).err().map(|_| Loss::Broken)
    }

    fn hear(&mut self, message: FromMember) -> Option<Loss> {
        self.heard_at = Instant::now();
        let answer = matches!(message.event, Some(FromEvent::Beat(_)))
            .then(|| self.outbox.try_send(Ok(parse::beat())).err().map(|_| Loss::Broken))
            .flatten();
        match parse::event(&self.member, message) {
            Ok(None) => answer,
            Ok(Some(event)) => {
                let _ = self.run.cast(RunMsg::Happened(event));
                answer
            }
            Err(refusal) => Some(self.refuse(refusal)),
        }
    }

    /// The member broke the contract: it is told, and its stream ends.
    fn refuse(&self, refusal: Refusal) -> Loss {
        tracing::warn!("{} broke the contract: {refusal}", self.member);
        let _ = self.outbox.try_send(Err(refusal.into()));
        Loss::Broken
    }
}

/// Carries the member's messages into the session's mailbox, in order.
async fn pump(mut inbox: BoxStream<'static, Result<FromMember, Status>>, session: ActorRef<SessionMsg>) {
    while let Some(Ok(message)) = inbox.next().await {
        if session.cast(SessionMsg::Heard(Box::new(message))).is_err() {
            return;
        }
    }
    let _ = session.cast(SessionMsg::Closed);
}

#[cfg(test)]
mod tests {
    use cluster::event::Event;

    use proto::coordinator::{self as wire, from_member};
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::actors::ear::{self, Heard};

    /// A session with both ends of its stream in hand.
    struct Scene {
        session: ActorRef<SessionMsg>,
        up: mpsc::Sender<Result<FromMember, Status>>,
        down: mpsc::Receiver<Result<ToMember, Status>>,
        heard: Heard,
        limits: Limits,
    }

    impl Scene {
        async fn new() -> Self {
            let limits = Limits::from_patience(Duration::from_secs(10)).expect("the default works");
            let (run, heard) = ear::listen().await;
            let (up, inbox) = mpsc::channel(4);
            let (outbox, down) = mpsc::channel(4);
            let member = Member {
                name: "worker-0".parse().expect("a good name"),
                incarnation: "a".parse().expect("a good name"),
            };
            let args = SessionArgs { member, inbox: ReceiverStream::new(inbox).boxed(), outbox, run, limits };
            let (session, _) = Actor::spawn(None, SessionActor, args).await.expect("starts");
            Self { session, up, down, heard, limits }
        }

        async fn say(&self, event: from_member::Event) {
            self.up.send(Ok(FromMember { event: Some(event) })).await.expect("the session reads");
        }

        async fn beat(&mut self) -> Option<to_member::Command> {
            self.say(from_member::Event::Beat(wire::Beat {})).await;
            self.down.recv().await.expect("an answer").expect("no refusal").command
        }

        /// How the session ended.
        async fn loss(&mut self) -> Loss {
            match self.heard.recv().await.expect("the ear lives") {
                RunMsg::SessionOver(session, loss) if session == self.session.get_id() => loss,
                RunMsg::Happened(event) => panic!("heard {event:?}"),
                _ => panic!("heard something else"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_is_given_up_after_patience() {
        let mut scene = Scene::new().await;
        let begun = Instant::now();
        assert_eq!(scene.loss().await, Loss::Silent);
        assert!(begun.elapsed() >= scene.limits.patience, "{:?}", begun.elapsed());
        assert!(begun.elapsed() <= scene.limits.patience + scene.limits.beat, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn beats_are_answered_and_keep_a_member_alive() {
        let mut scene = Scene::new().await;
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::advance(scene.limits.patience * 9 / 10).await;
            assert_eq!(scene.beat().await, Some(to_member::Command::Beat(wire::Beat {})));
        }
        assert_eq!(scene.loss().await, Loss::Silent);
        assert!(begun.elapsed() >= scene.limits.patience * 36 / 10, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_stream_is_a_loss_at_once() {
        let mut scene = Scene::new().await;
        (scene.up, _) = mpsc::channel(1);
        assert_eq!(scene.loss().await, Loss::Broken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_keep_alive_cuts_is_silence() {
        let mut scene = Scene::new().await;
        tokio::time::advance(scene.limits.patience * 9 / 10).await;
        scene.up.send(Err(Status::unavailable("keep-alive timed out"))).await.expect("the session reads");
        assert_eq!(scene.loss().await, Loss::Silent);
    }

    #[tokio::test(start_paused = true)]
    async fn events_reach_the_run_in_order() {
        let mut scene = Scene::new().await;
        for step in 1..=3 {
            scene.say(from_member::Event::Leaving(wire::Leaving { step })).await;
        }
        for expected in 1..=3 {
            match scene.heard.recv().await {
                Some(RunMsg::Happened(Event::Leaving { step, .. })) => assert_eq!(step, expected),
                _ => panic!("something else than `leaving` {expected}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_reads_nothing_is_gone() {
        let mut scene = Scene::new().await;
        for _ in 0..5 {
            scene.session.cast(SessionMsg::Order(Order::Drain)).expect("lives");
        }
        assert_eq!(scene.loss().await, Loss::Broken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_hello_is_refused_and_ends_the_stream() {
        let mut scene = Scene::new().await;
        scene.say(from_member::Event::Hello(wire::Hello::default())).await;
        let refusal = scene.down.recv().await.expect("an answer").expect_err("a refusal");
        assert_eq!(refusal.code(), tonic::Code::InvalidArgument);
        assert_eq!(scene.loss().await, Loss::Broken);
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_session_says_nothing() {
        let mut scene = Scene::new().await;
        scene.session.cast(SessionMsg::Replaced).expect("lives");
        // Its outbox closes, so the old stream ends.
        assert!(scene.down.recv().await.is_none());
        assert!(scene.heard.try_recv().is_err());
    }
}
