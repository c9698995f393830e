//! The services: deadline, parse, ask the actor, map the outcome. No state, no decision.

use std::time::Duration;

use bytes::Bytes;
use cluster::ids::GenerationNumber;
use futures::StreamExt;
use proto::{
    coordinator::{
        AddReply, AddRequest, CheckReply, CheckRequest, FromMember, GetReply, GetRequest, SetReply, SetRequest,
        ToMember, coordinator_server::Coordinator, rendezvous_server::Rendezvous,
    },
    status::Refusal,
};
use ractor::{ActorRef, RpcReplyPort};
use runtime::ask::{AskError, ask};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    actors::{
        rendezvous::{Answer, RendezvousMsg},
        run::{Admission, RunMsg},
        session::OUTBOX,
    },
    parse,
};

/// Longest wait for a key that a worker may ask for.
const LONGEST_GET: Duration = Duration::from_secs(3600);

/// The service that members connect to.
pub struct CoordinatorService {
    /// Decides who is taken in.
    pub run: ActorRef<RunMsg>,
    /// How long a `Hello` may take.
    pub patience: Duration,
}

#[tonic::async_trait]
impl Coordinator for CoordinatorService {
    type ConnectStream = ReceiverStream<Result<ToMember, Status>>;

    async fn connect(&self, request: Request<Streaming<FromMember>>) -> Result<Response<Self::ConnectStream>, Status> {
        let mut inbox = request.into_inner();
        let first = timeout(self.patience, inbox.message())
            .await
            .map_err(|_| Refusal::Late(format!("no `hello` came within {:?}", self.patience)))??;
        let (member, role) = parse::hello(first)?;
        let (outbox, orders) = mpsc::channel(OUTBOX);
        let admit = |reply| RunMsg::Admit(Box::new(Admission { member, role, inbox: inbox.boxed(), outbox, reply }));
        ask(&self.run, "the run", self.patience, admit).await.map_err(away)??;
        Ok(Response::new(ReceiverStream::new(orders)))
    }
}

/// The service behind the workers' collectives.
pub struct RendezvousService {
    /// Holds the keys.
    pub rendezvous: ActorRef<RendezvousMsg>,
    /// How long an answer may take that needs no waiting.
    pub patience: Duration,
}

impl RendezvousService {
    async fn ask<T, F>(&self, build: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(RpcReplyPort<Answer<T>>) -> RendezvousMsg + Send,
    {
        Ok(ask(&self.rendezvous, "the rendezvous", self.patience, build).await.map_err(away)??)
    }
}

#[tonic::async_trait]
impl Rendezvous for RendezvousService {
    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetReply>, Status> {
        let SetRequest { generation, key, value } = request.into_inner();
        self.ask(|reply| RendezvousMsg::Set(GenerationNumber(generation), key, value, reply)).await?;
        Ok(Response::new(SetReply {}))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let GetRequest { generation, key, timeout_ms } = request.into_inner();
        let deadline = Duration::from_millis(timeout_ms).min(LONGEST_GET);
        let named = key.clone();
        let get = |reply| RendezvousMsg::Get(GenerationNumber(generation), key, reply);
        let answer: Result<Answer<Bytes>, AskError> = ask(&self.rendezvous, "the rendezvous", deadline, get).await;
        let value = answer.map_err(|error| match error {
            AskError::Late { .. } => Refusal::Late(format!("nobody set the key {named} within {deadline:?}")),
            AskError::Gone { .. } => Refusal::Away(error.to_string()),
        })??;
        Ok(Response::new(GetReply { value }))
    }

    async fn add(&self, request: Request<AddRequest>) -> Result<Response<AddReply>, Status> {
        let AddRequest { generation, key, amount } = request.into_inner();
        let sum = self.ask(|reply| RendezvousMsg::Add(GenerationNumber(generation), key, amount, reply)).await?;
        Ok(Response::new(AddReply { sum }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        let CheckRequest { generation, keys } = request.into_inner();
        let all_there = self.ask(|reply| RendezvousMsg::Check(GenerationNumber(generation), keys, reply)).await?;
        Ok(Response::new(CheckReply { all_there }))
    }
}

fn away(error: AskError) -> Refusal {
    match error {
        AskError::Late { .. } => Refusal::Late(error.to_string()),
        AskError::Gone { .. } => Refusal::Away(error.to_string()),
    }
}
