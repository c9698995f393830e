//! A group of workers and what it can do together.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use tch::Tensor;

use crate::error::{Error, Fate};
use crate::ffi::{Place, RemoteGroup};
use crate::store::Store;

/// Where a rank listens for its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A host name or IP address of this machine that the peers can reach.
    Host(String),
    /// A network interface, like `eth0`.
    Interface(String),
}

impl Address {
    /// For ranks that all run on this machine.
    pub fn local() -> Self {
        Self::Host("127.0.0.1".to_owned())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(host) => f.write_str(host),
            Self::Interface(interface) => write!(f, "interface {interface}"),
        }
    }
}

/// Who this process is in a group.
#[derive(Debug, Clone)]
pub struct Member {
    /// 0 to `world - 1`, a different one for every member.
    pub rank: u32,
    /// How many members the group has.
    pub world: u32,
    /// Bound of forming the group and of every operation in it.
    pub timeout: Duration,
    /// Where this member listens.
    pub address: Address,
}

/// A group of workers that sum and share tensors. Every member makes the same calls in the same order.
///
/// `Send`, so that it can live on the thread that owns the device; one thread uses it at a time.
#[derive(Debug)]
pub struct Group {
    member: Member,
    peers: Option<RemoteGroup>,
}

impl Group {
    /// Forms a group on CPU tensors with the members that meet in `store`. Returns when all are connected.
    ///
    /// A world of one touches neither the store nor the network.
    pub fn gloo(store: Arc<dyn Store>, member: Member) -> Result<Self, Error> {
        let place = member.checked()?;
        if member.world == 1 {
            return Ok(Self { member, peers: None });
        }
        let peers = RemoteGroup::gloo(store, &place).map_err(|cause| Error::Form {
            rank: member.rank,
            world: member.world,
            address: member.address.to_string(),
            timeout: member.timeout,
            cause,
        })?;
        Ok(Self { member, peers: Some(peers) })
    }

    /// This member's rank.
    pub fn rank(&self) -> u32 {
        self.member.rank
    }

    /// How many members the group has.
    pub fn world(&self) -> u32 {
        self.member.world
    }

    /// Replaces the contiguous `tensor` by its sum over all members; every member ends with the same bits.
    pub fn all_reduce_sum(&mut self, tensor: &Tensor) -> Result<(), Error> {
        let sum = |peers: &mut RemoteGroup| whole(tensor).and_then(|()| peers.all_reduce_sum(tensor));
        self.run(sum, || format!("sum {:?} over the workers", tensor.size()))
    }

    /// Replaces the contiguous `tensor` by that of rank `root`.
    pub fn broadcast(&mut self, tensor: &Tensor, root: u32) -> Result<(), Error> {
        let root_rank = self.member.known_rank(root)?;
        let send = |peers: &mut RemoteGroup| whole(tensor).and_then(|()| peers.broadcast(tensor, root_rank));
        self.run(send, || format!("broadcast {:?} from rank {root}", tensor.size()))
    }

    /// Every member's `tensor`, stacked by rank along a new first axis. All must have one shape and kind.
    pub fn all_gather(&mut self, tensor: &Tensor) -> Result<Tensor, Error> {
        let mut size = tensor.size();
        size.insert(0, i64::from(self.member.world));
        let own = tensor.contiguous().unsqueeze(0);
        let all = own.expand(&size, false).contiguous();
        let gather = |peers: &mut RemoteGroup| peers.all_gather(&all, &own);
        self.run(gather, || format!("gather {:?} from the workers", tensor.size()))?;
        Ok(all)
    }

    /// Sends row `r` of the contiguous `tensor`, `[world, …]`, to rank `r`; gives what each rank has sent here, by rank.
    pub fn all_to_all(&mut self, tensor: &Tensor) -> Result<Tensor, Error> {
        let received = tensor.copy();
        let rows = || match tensor.size().first() {
            Some(&rows) if rows == i64::from(self.member.world) => Ok(()),
            _ => Err(format!("the tensor {:?} has no row for each of {} workers", tensor.size(), self.member.world)),
        };
        let rows = rows();
        let send = |peers: &mut RemoteGroup| {
            rows.and_then(|()| whole(tensor)).and_then(|()| peers.all_to_all(&received, tensor))
        };
        self.run(send, || format!("exchange {:?} between the workers", tensor.size()))?;
        Ok(received)
    }

    /// Returns when every member has called it.
    pub fn barrier(&mut self) -> Result<(), Error> {
        self.run(RemoteGroup::barrier, || "barrier of the workers".to_owned())
    }

    fn run(
        &mut self,
        call: impl FnOnce(&mut RemoteGroup) -> Result<(), String>,
        operation: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let Some(peers) = &mut self.peers else { return Ok(()) };
        call(peers).map_err(|cause| Error::Operation {
            operation: operation(),
            rank: self.member.rank,
            world: self.member.world,
            timeout: self.member.timeout,
            fate: Fate::of(&cause),
            cause,
        })
    }
}

/// Gloo takes a strided view without complaint and works on the memory under it.
fn whole(tensor: &Tensor) -> Result<(), String> {
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(format!("the tensor is a strided view ({:?} by {:?}); make it contiguous", tensor.size(), tensor.stride()))
}

impl Member {
    fn checked(&self) -> Result<Place, Error> {
        let wrong =
            |field, value: &dyn std::fmt::Debug, bound| Error::Member { field, value: format!("{value:?}"), bound };
        let world = i32::try_from(self.world).ok().filter(|world| *world > 0);
        let world = world.ok_or_else(|| wrong("world", &self.world, "from 1 to 2147483647"))?;
        if self.timeout.is_zero() {
            return Err(wrong("timeout", &self.timeout, "above 0"));
        }
        let (name, by_interface) = match &self.address {
            Address::Host(name) => (name, false),
            Address::Interface(name) => (name, true),
        };
        let address = CString::new(name.as_str()).ok().filter(|name| !name.is_empty());
        let address = address.ok_or_else(|| wrong("address", name, "a name without zero bytes"))?;
        Ok(Place { rank: self.known_rank(self.rank)?, world, timeout: self.timeout, address, by_interface })
    }

    fn known_rank(&self, rank: u32) -> Result<i32, Error> {
        i32::try_from(rank).ok().filter(|_| rank < self.world).ok_or_else(|| Error::Member {
            field: "rank",
            value: rank.to_string(),
            bound: "below the number of workers",
        })
    }
}
