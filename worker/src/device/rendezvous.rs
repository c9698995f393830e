//! The meeting point of a generation's group: the coordinator's key-value store, as blocking calls from the device's
//! thread.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use cluster::limits::Limits;
use collective::{Store, StoreError};
use proto::connect::within;
use proto::coordinator::rendezvous_client::RendezvousClient;
use proto::coordinator::{AddRequest, CheckRequest, GetRequest, SetRequest};
use proto::status;
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// A [`Store`] behind the `Rendezvous` service.
#[derive(Debug)]
pub(super) struct RendezvousStore {
    pub(super) client: RendezvousClient<Channel>,
    pub(super) runtime: Handle,
    pub(super) generation: u64,
    pub(super) limits: Limits,
}

impl RendezvousStore {
    /// Waits on the device's thread, which is no thread of the runtime.
    fn wait<T>(
        &self,
        attempt: String,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        let answer = self.runtime.block_on(call).map(Response::into_inner);
        answer.map_err(|status| format!("can't {attempt} at the coordinator: {}", status::describe(&status)).into())
    }
}

impl Store for RendezvousStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let value = Bytes::copy_from_slice(value);
        let request = SetRequest { generation: self.generation, key: key.to_owned(), value };
        let mut client = self.client.clone();
        let call = client.set(within(request, self.limits.patience));
        self.wait(format!("set the key {key}"), call).map(|_| ())
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        // A peer that still loads its checkpoint is no dead peer: the group's own limit is for its collectives.
        let timeout = timeout.max(self.limits.rendezvous);
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = GetRequest { generation: self.generation, key: key.to_owned(), timeout_ms };
        let mut client = self.client.clone();
        let call = client.get(within(request, timeout + self.limits.patience));
        self.wait(format!("get the key {key}"), call).map(|reply| reply.value.to_vec())
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        let request = AddRequest { generation: self.generation, key: key.to_owned(), amount };
        let mut client = self.client.clone();
        let call = client.add(within(request, self.limits.patience));
        self.wait(format!("add to the key {key}"), call).map(|reply| reply.sum)
    }

    fn check(&self, key: &str) -> Result<bool, StoreError> {
        let request = CheckRequest { generation: self.generation, keys: vec![key.to_owned()] };
        let mut client = self.client.clone();
        let call = client.check(within(request, self.limits.patience));
        self.wait(format!("check the key {key}"), call).map(|reply| reply.all_there)
    }
}
