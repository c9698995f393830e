//! Errors on the wire: one small set of reasons that both sides agree on, instead of tonic's sixteen codes.

use tonic::{Code, Status};

/// Why a call was not done, in this system's words.
///
/// A service returns it (`Refusal::into` a [`Status`]); a client gets it back from a [`Status`]. The text is the whole
/// message: what was attempted, on what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request itself is wrong; the same one will be refused again.
    #[error("{0}")]
    Invalid(String),
    /// What the request names is not there.
    #[error("{0}")]
    Missing(String),
    /// The request comes too late or too early: an older generation, a finished run, a data fault.
    #[error("{0}")]
    Stale(String),
    /// The caller holds more than its share: wait for answers, then ask again.
    #[error("{0}")]
    Busy(String),
    /// It did not happen within its deadline.
    #[error("{0}")]
    Late(String),
    /// The peer is not there (yet, or any more): dial again.
    #[error("{0}")]
    Away(String),
    /// The peer failed.
    #[error("{0}")]
    Broken(String),
}

impl Refusal {
    /// Whether the same request may succeed later, here or elsewhere.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Late(_) | Self::Away(_))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Invalid(_) => Code::InvalidArgument,
            Refusal::Missing(_) => Code::NotFound,
            Refusal::Stale(_) => Code::FailedPrecondition,
            Refusal::Busy(_) => Code::ResourceExhausted,
            Refusal::Late(_) => Code::DeadlineExceeded,
            Refusal::Away(_) => Code::Unavailable,
            Refusal::Broken(_) => Code::Internal,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let text = describe(&status);
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Self::Invalid(text),
            Code::NotFound => Self::Missing(text),
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted | Code::PermissionDenied => {
                Self::Stale(text)
            }
            Code::ResourceExhausted => Self::Busy(text),
            Code::DeadlineExceeded => Self::Late(text),
            Code::Unavailable | Code::Cancelled => Self::Away(text),
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss | Code::Unauthenticated => Self::Broken(text),
        }
    }
}

/// The status as one line for a person. tonic hides the cause of a failed connection in the chain of sources: this
/// names the last one.
pub fn describe(status: &Status) -> String {
    let message = match status.message() {
        "" => format!("{:?}", status.code()).to_lowercase(),
        text => text.to_owned(),
    };
    match root_cause(status) {
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message,
    }
}

fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        let all = [
            Refusal::Invalid,
            Refusal::Missing,
            Refusal::Stale,
            Refusal::Busy,
            Refusal::Late,
            Refusal::Away,
            Refusal::Broken,
        ];
        for make in all {
            let sent = make("clip 3 of shard 7 is broken".to_owned());
            assert_eq!(Refusal::from(Status::from(sent.clone())), sent);
        }
    }

    #[test]
    fn a_status_without_text_is_described_by_its_code() {
        assert_eq!(describe(&Status::new(Code::Unavailable, "")), "unavailable");
    }

    #[test]
    fn a_hidden_cause_is_named_once() {
        let io = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let status = Status::from_error(Box::new(io));
        let text = describe(&status);
        assert_eq!(text.matches("connection refused").count(), 1, "{text}");
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        assert!(Refusal::Away(String::new()).is_transient());
        assert!(!Refusal::Stale(String::new()).is_transient());
    }
}
