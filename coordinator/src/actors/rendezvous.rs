//! The key-value store behind one generation's collectives.
//!
//! It lives here so that no worker is special. Only the latest generation is served; whoever holds an older number is
//! refused and meets nobody.

use std::collections::HashMap;

use bytes::Bytes;
use cluster::ids::GenerationNumber;
use proto::status::Refusal;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

/// The answer to a call.
pub type Answer<T> = Result<T, Refusal>;

/// What the rendezvous is asked for.
#[derive(Debug)]
pub enum RendezvousMsg {
    /// Serve this generation from now on, with an empty store.
    Open(GenerationNumber),
    /// This generation is over, and why: nobody meets in it any more.
    Close(GenerationNumber, String),
    /// Set a key.
    Set(GenerationNumber, String, Bytes, RpcReplyPort<Answer<()>>),
    /// Answer when the key is there. The asker sets the deadline.
    Get(GenerationNumber, String, RpcReplyPort<Answer<Bytes>>),
    /// Add to the decimal number at a key.
    Add(GenerationNumber, String, i64, RpcReplyPort<Answer<i64>>),
    /// Say whether all keys are there.
    Check(GenerationNumber, Vec<String>, RpcReplyPort<Answer<bool>>),
}

/// The actor.
#[derive(Default)]
pub struct RendezvousActor;

/// One generation's keys, and who waits for which.
#[derive(Default)]
pub struct RendezvousState {
    generation: GenerationNumber,
    /// Why the generation is over, if it is.
    over: Option<String>,
    values: HashMap<String, Bytes>,
    waiting: HashMap<String, Vec<RpcReplyPort<Answer<Bytes>>>>,
}

impl Actor for RendezvousActor {
    type Msg = RendezvousMsg;
    type State = RendezvousState;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<Self::State, ActorProcessingErr> {
        Ok(RendezvousState::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // A reply port whose asker has gone is no failure of ours: its error is dropped.
        match message {
            RendezvousMsg::Open(generation) => state.open(generation),
            RendezvousMsg::Close(generation, reason) => state.close(generation, reason),
            RendezvousMsg::Set(generation, key, value, reply) => {
                let _ = reply.send(state.current(generation).map(|()| state.set(key, value)));
            }
            RendezvousMsg::Get(generation, key, reply) => state.get(generation, key, reply),
            RendezvousMsg::Add(generation, key, amount, reply) => {
                let _ = reply.send(state.current(generation).and_then(|()| state.add(key, amount)));
            }
            RendezvousMsg::Check(generation, keys, reply) => {
                let all = || keys.iter().all(|key| state.values.contains_key(key));
                let _ = reply.send(state.current(generation).map(|()| all()));
            }
        }
        Ok(())
    }
}

impl RendezvousState {
    fn open(&mut self, generation: GenerationNumber) {
        self.give_up(&format!("the current generation is {generation}"));
        *self = Self { generation, ..Self::default() };
    }

    /// Whoever waits for a key now would do so until its deadline.
    fn close(&mut self, generation: GenerationNumber, reason: String) {
        if generation == self.generation {
            self.give_up(&reason);
            self.over = Some(reason);
        }
    }

    fn give_up(&mut self, reason: &str) {
        let generation = self.generation;
        for (key, replies) in std::mem::take(&mut self.waiting) {
            for reply in replies {
                let text = format!("nobody will set the key {key} any more: generation {generation} is over: {reason}");
                let _ = reply.send(Err(Refusal::Stale(text)));
            }
        }
    }

    fn current(&self, generation: GenerationNumber) -> Answer<()> {
        let current = self.generation;
        match &self.over {
            _ if generation != current => {
                Err(Refusal::Stale(format!("generation {generation} is over; the current one is {current}")))
            }
            Some(reason) => Err(Refusal::Stale(format!("generation {generation} is over: {reason}"))),
            None => Ok(()),
        }
    }

    fn set(&mut self, key: String, value: Bytes) {
        for reply in self.waiting.remove(&key).into_iter().flatten() {
            let _ = reply.send(Ok(value.clone()));
        }
        self.values.insert(key, value);
    }

    fn get(&mut self, generation: GenerationNumber, key: String, reply: RpcReplyPort<Answer<Bytes>>) {
        let found = self.current(generation).map(|()| self.values.get(&key).cloned());
        match found {
            Ok(None) => {
                let waiting = self.waiting.entry(key).or_default();
                // Whoever gave up at its deadline is forgotten when the next one comes.
                waiting.retain(|port| !port.is_closed());
                waiting.push(reply);
            }
            Ok(Some(value)) => drop(reply.send(Ok(value))),
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    fn add(&mut self, key: String, amount: i64) -> Answer<i64> {
        let old = match self.values.get(&key) {
            None => 0,
            Some(value) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Refusal::Invalid(format!("can't add to the key {key}: its value is no number")))?,
        };
        let sum = old.wrapping_add(amount);
        self.set(key, Bytes::from(sum.to_string()));
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::ask::{AskError, ask};

    use super::*;

    const ONE: GenerationNumber = GenerationNumber(1);
    const TWO: GenerationNumber = GenerationNumber(2);
    const LONG: Duration = Duration::from_secs(60);

    async fn open() -> ActorRef<RendezvousMsg> {
        let (actor, _) = Actor::spawn(None, RendezvousActor, ()).await.expect("starts");
        actor.cast(RendezvousMsg::Open(ONE)).expect("lives");
        actor
    }

    async fn get(actor: &ActorRef<RendezvousMsg>, generation: GenerationNumber, key: &str) -> Answer<Bytes> {
        ask(actor, "it", LONG, |reply| RendezvousMsg::Get(generation, key.to_owned(), reply)).await.expect("answers")
    }

    async fn set(actor: &ActorRef<RendezvousMsg>, generation: GenerationNumber, key: &str) -> Answer<()> {
        let value = Bytes::from_static(b"v");
        ask(actor, "it", LONG, |reply| RendezvousMsg::Set(generation, key.to_owned(), value, reply))
            .await
            .expect("answers")
    }

    async fn add(actor: &ActorRef<RendezvousMsg>, key: &str, amount: i64) -> Answer<i64> {
        ask(actor, "it", LONG, |reply| RendezvousMsg::Add(ONE, key.to_owned(), amount, reply)).await.expect("answers")
    }

    #[tokio::test(start_paused = true)]
    async fn a_get_waits_for_its_set() {
        let actor = open().await;
        let (got, done) = tokio::join!(get(&actor, ONE, "k"), set(&actor, ONE, "k"));
        assert_eq!((got, done), (Ok(Bytes::from_static(b"v")), Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_get_whose_key_never_comes_ends_at_its_deadline() {
        let actor = open().await;
        let asked = ask(&actor, "it", LONG, |reply| RendezvousMsg::Get(ONE, "k".to_owned(), reply)).await;
        assert!(matches!(asked, Err(AskError::Late { .. })), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn sums_are_decimal_text() {
        let actor = open().await;
        assert_eq!((add(&actor, "n", 2).await, add(&actor, "n", -5).await), (Ok(2), Ok(-3)));
        assert_eq!(get(&actor, ONE, "n").await, Ok(Bytes::from_static(b"-3")));
        set(&actor, ONE, "text").await.expect("current");
        assert!(matches!(add(&actor, "text", 1).await, Err(Refusal::Invalid(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_generation_that_is_over_keeps_nobody_waiting() {
        let actor = open().await;
        let begun = tokio::time::Instant::now();
        let close = async { actor.cast(RendezvousMsg::Close(ONE, "worker-1 is gone".to_owned())).expect("lives") };
        let (waited, ()) = tokio::join!(get(&actor, ONE, "k"), close);
        let told = "nobody will set the key k any more: generation 1 is over: worker-1 is gone";
        assert_eq!((waited, begun.elapsed()), (Err(Refusal::Stale(told.to_owned())), Duration::ZERO));
        let over = Refusal::Stale("generation 1 is over: worker-1 is gone".to_owned());
        assert_eq!((set(&actor, ONE, "k").await, get(&actor, ONE, "k").await), (Err(over.clone()), Err(over)));
        // The next one is not over, and an older one's end is no news.
        actor.cast(RendezvousMsg::Open(TWO)).expect("lives");
        actor.cast(RendezvousMsg::Close(ONE, "late".to_owned())).expect("lives");
        assert_eq!(set(&actor, TWO, "k").await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_generation_starts_empty_and_refuses_the_old_one() {
        let actor = open().await;
        set(&actor, ONE, "k").await.expect("current");
        let waits = get(&actor, ONE, "never");
        let opens = async { actor.cast(RendezvousMsg::Open(TWO)).expect("lives") };
        let (waited, ()) = tokio::join!(waits, opens);
        assert!(matches!(waited, Err(Refusal::Stale(_))), "{waited:?}");
        assert!(matches!(set(&actor, ONE, "k").await, Err(Refusal::Stale(_))));
        let there = |keys: Vec<String>| ask(&actor, "it", LONG, |reply| RendezvousMsg::Check(TWO, keys, reply));
        assert_eq!(there(vec!["k".to_owned()]).await.expect("answers"), Ok(false));
        assert_eq!(there(Vec::new()).await.expect("answers"), Ok(true));
    }
}
