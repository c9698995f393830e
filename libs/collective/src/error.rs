//! What can go wrong in a group.

use std::time::Duration;

/// A failed attempt to form a group or to run one operation in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The description of the member makes no sense.
    #[error("collective group: {field} is {value}, but must be {bound}")]
    Member {
        /// The field that is wrong.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        bound: &'static str,
    },
    /// What NCCL needs could not be loaded, or is of another version.
    #[error("form a group on cuda:{gpu}: {cause}")]
    Cuda {
        /// The number of the device.
        gpu: usize,
        /// What was looked for, where, and what to do.
        cause: String,
    },
    /// The ranks did not find each other.
    #[error("form a group as rank {rank} of {world} at {address} within {timeout:?}: {cause}")]
    Form {
        /// This member's rank.
        rank: u32,
        /// How many ranks the group was to have.
        world: u32,
        /// Where this rank listens or, with NCCL, its device.
        address: String,
        /// The bound of the attempt.
        timeout: Duration,
        /// What c10d, gloo, NCCL or the store said.
        cause: String,
    },
    /// An operation failed: a peer is gone, silent, or called something else.
    #[error("{operation} as rank {rank} of {world} ({fate}; timeout {timeout:?}): {cause}")]
    Operation {
        /// The operation, with the shape of its tensor.
        operation: String,
        /// This member's rank.
        rank: u32,
        /// How many ranks the group has.
        world: u32,
        /// The bound of the operation.
        timeout: Duration,
        /// What that means for the peers.
        fate: Fate,
        /// What c10d, gloo or NCCL said.
        cause: String,
    },
}

impl Error {
    /// Whether a peer kept silent until the timeout (as against a broken connection or a wrong call).
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Operation { fate: Fate::PeerSilent, .. })
    }

    /// Whether [`crate::Aborter::abort`] ended the operation.
    pub fn is_aborted(&self) -> bool {
        matches!(self, Self::Operation { fate: Fate::Aborted, .. })
    }
}

/// What a failed operation says about the peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A connection broke: the peer's process is gone or has left the group.
    PeerGone,
    /// Nothing came before the timeout: the peer is stopped, cut off, or slower than the timeout.
    PeerSilent,
    /// Another thread of this process has aborted the group.
    Aborted,
    /// The call itself was refused.
    Refused,
}

impl Fate {
    /// Neither gloo nor c10d has error codes: their texts name these conditions. NCCL's own name for a lost peer is
    /// "remote process exited or there was a network error".
    pub(crate) fn of(cause: &str) -> Self {
        let is = |part: &str| cause.contains(part);
        if is("Timed out") || is("timed out") || is("timeout") {
            Self::PeerSilent
        } else if is("Connection")
            || is("connection")
            || is("Broken pipe")
            || is("Read error")
            || is("remote process exited")
        {
            Self::PeerGone
        } else {
            Self::Refused
        }
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::PeerGone => "a peer is gone",
            Self::PeerSilent => "a peer is silent",
            Self::Aborted => "the group was aborted",
            Self::Refused => "refused",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_is_read_from_what_gloo_c10d_and_nccl_say() {
        for (fate, cause) in [
            (Fate::PeerSilent, "Timed out waiting 500ms for recv operation to complete"),
            (
                Fate::PeerSilent,
                "Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType=ALLREDUCE, NumelIn=8, NumelOut=8, \
                 Timeout(ms)=500) ran for 500 milliseconds before timing out.",
            ),
            (Fate::PeerSilent, "NCCL timeout in: NCCLUtils.cpp:99"),
            (Fate::PeerGone, "Connection closed by peer [127.0.0.1]:4711"),
            (
                Fate::PeerGone,
                "NCCL error: remote process exited or there was a network error, NCCL version 2.28.9; ncclRemoteError: A \
                 call failed possibly due to a network error or a remote process exiting prematurely.",
            ),
            (Fate::Refused, "Tensors must be contiguous"),
        ] {
            assert_eq!(Fate::of(cause), fate, "{cause}");
        }
    }
}
