//! A question to an actor, with a deadline and an error that names whom it waited for.

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, MessagingErr, RpcReplyPort};

/// Why an actor gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It was alive but slower than the deadline.
    #[error("{whom} did not answer within {deadline:?}")]
    Late {
        /// The actor.
        whom: String,
        /// What it was given.
        deadline: Duration,
    },
    /// It has stopped, or dropped the question.
    #[error("{whom} has stopped")]
    Gone {
        /// The actor.
        whom: String,
    },
}

/// Sends the message that `build` makes around a reply port and waits for the reply.
pub async fn ask<M, R, F>(actor: &ActorRef<M>, whom: &str, deadline: Duration, build: F) -> Result<R, AskError>
where
    M: Message,
    R: Send + 'static,
    F: FnOnce(RpcReplyPort<R>) -> M,
{
    let gone = || AskError::Gone { whom: whom.to_owned() };
    match actor.call(build, Some(deadline)).await {
        Ok(CallResult::Success(reply)) => Ok(reply),
        Ok(CallResult::Timeout) => Err(AskError::Late { whom: whom.to_owned(), deadline }),
        Ok(CallResult::SenderError) | Err(MessagingErr::ChannelClosed | MessagingErr::SendErr(_)) => Err(gone()),
        Err(MessagingErr::InvalidActorType) => Err(gone()),
    }
}
