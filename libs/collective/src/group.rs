//! A group of workers and what it can do together.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tch::{Device, Tensor};

use crate::error::{Error, Fate};
use crate::ffi::{Nccl, Place, RemoteAborter, RemoteGroup};
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
/// A group computes where it lives: a Gloo group on the CPU, an NCCL group on its GPU. Tensors of other devices travel there
/// and back.
///
/// `Send`, so that it can live on the thread that owns the device; one thread uses it at a time.
#[derive(Debug)]
pub struct Group {
    member: Member,
    home: Device,
    peers: Option<RemoteGroup>,
    aborted: Arc<AtomicBool>,
}

/// Ends the work of a [`Group`] from any thread.
#[derive(Debug, Clone)]
pub struct Aborter {
    member: Member,
    peers: RemoteAborter,
    aborted: Arc<AtomicBool>,
}

impl Aborter {
    /// From now on every operation of the group fails at once, with [`Error::is_aborted`]. One that is under way in an NCCL
    /// group ends now, too; Gloo can't end it, there it runs until it succeeds, or until [`Member::timeout`]. Once the group
    /// is dropped this does nothing.
    ///
    /// # Errors
    /// If NCCL can't give the connections up in time. The group fails nevertheless.
    pub fn abort(&self) -> Result<(), Error> {
        self.aborted.store(true, Ordering::SeqCst);
        let aborted = self.peers.abort();
        aborted.map_err(|cause| self.member.failed("abort the group".to_owned(), Fate::of(&cause), cause))
    }
}

impl Group {
    /// Forms a group on the CPU with the members that meet in `store`. Returns when all are connected.
    ///
    /// A world of one touches neither the store nor the network.
    ///
    /// # Errors
    /// If `member` makes no sense, or the others are not there in time.
    pub fn gloo(store: Arc<dyn Store>, member: Member) -> Result<Self, Error> {
        let place = member.checked()?;
        if member.world == 1 {
            return Ok(Self::of(member, Device::Cpu, None));
        }
        let peers =
            RemoteGroup::gloo(store, &place).map_err(|cause| member.unformed(member.address.to_string(), cause))?;
        Ok(Self::of(member, Device::Cpu, Some(peers)))
    }

    /// Forms a group on the CUDA device number `gpu` with the members that meet in `store`, each with a GPU of its own.
    /// Returns when all are connected. A world of one has a real NCCL communicator, too.
    ///
    /// `member.address` counts where it names a network interface; otherwise NCCL chooses one by itself.
    ///
    /// # Errors
    /// As [`Group::gloo`]; and if there is no such device, or CUDA, NCCL or our own shared object can't be loaded or are
    /// of versions that don't fit.
    pub fn nccl(store: Arc<dyn Store>, member: Member, gpu: usize) -> Result<Self, Error> {
        let unfit = |cause: String| Error::Cuda { gpu, cause };
        let mut place = member.checked()?;
        place.gpu = i32::try_from(gpu).map_err(|_| unfit("there is no such device".to_owned()))?;
        let nccl = Nccl::load().and_then(|nccl| one_version(nccl.versions).map(|()| nccl)).map_err(unfit)?;
        let peers =
            RemoteGroup::nccl(nccl, store, &place).map_err(|cause| member.unformed(format!("cuda:{gpu}"), cause))?;
        Ok(Self::of(member, Device::Cuda(gpu), Some(peers)))
    }

    fn of(member: Member, home: Device, peers: Option<RemoteGroup>) -> Self {
        Self { member, home, peers, aborted: Arc::default() }
    }

    /// What ends the work of this group from another thread.
    pub fn aborter(&self) -> Aborter {
        let peers = self.peers.as_ref().map(RemoteGroup::aborter).unwrap_or_default();
        Aborter { member: self.member.clone(), peers, aborted: Arc::clone(&self.aborted) }
    }

    /// The device that this group computes on.
    pub fn device(&self) -> Device {
        self.home
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
        let home = self.home;
        let sum = |peers: &mut RemoteGroup| in_place(tensor, home, |here| peers.all_reduce_sum(here));
        self.run(sum, || format!("sum {:?} over the workers", tensor.size())).map(drop)
    }

    /// Replaces the contiguous `tensor` by that of rank `root`.
    pub fn broadcast(&mut self, tensor: &Tensor, root: u32) -> Result<(), Error> {
        let home = self.home;
        let root_rank = self.member.known_rank(root)?;
        let send = |peers: &mut RemoteGroup| in_place(tensor, home, |here| peers.broadcast(here, root_rank));
        self.run(send, || format!("broadcast {:?} from rank {root}", tensor.size())).map(drop)
    }

    /// Every member's `tensor`, stacked by rank along a new first axis. All must have one shape and kind.
    pub fn all_gather(&mut self, tensor: &Tensor) -> Result<Tensor, Error> {
        let (home, world) = (self.home, i64::from(self.member.world));
        let gather = |peers: &mut RemoteGroup| {
            let own = moved(&tensor.contiguous().unsqueeze(0), home)?;
            let mut size = own.size();
            size[0] = world;
            let all = own.expand(&size, false).contiguous();
            peers.all_gather(&all, &own)?;
            moved(&all, tensor.device())
        };
        let all = self.run(gather, || format!("gather {:?} from the workers", tensor.size()))?;
        Ok(all.unwrap_or_else(|| tensor.contiguous().unsqueeze(0).copy()))
    }

    /// Sends row `r` of the contiguous `tensor`, `[world, …]`, to rank `r`; gives what each rank has sent here, by rank.
    pub fn all_to_all(&mut self, tensor: &Tensor) -> Result<Tensor, Error> {
        let (home, world) = (self.home, self.member.world);
        let exchange = |peers: &mut RemoteGroup| {
            if tensor.size().first() != Some(&i64::from(world)) {
                return Err(format!("the tensor {:?} has no row for each of {world} workers", tensor.size()));
            }
            whole(tensor)?;
            let sent = moved(tensor, home)?;
            let received = sent.zeros_like();
            peers.all_to_all(&received, &sent)?;
            moved(&received, tensor.device())
        };
        let received = self.run(exchange, || format!("exchange {:?} between the workers", tensor.size()))?;
        Ok(received.unwrap_or_else(|| tensor.copy()))
    }

    /// Returns when every member has called it.
    pub fn barrier(&mut self) -> Result<(), Error> {
        self.run(RemoteGroup::barrier, || "barrier of the workers".to_owned()).map(drop)
    }

    /// What `call` gives; nothing, if there are no peers to make it with.
    fn run<T>(
        &mut self,
        call: impl FnOnce(&mut RemoteGroup) -> Result<T, String>,
        operation: impl FnOnce() -> String,
    ) -> Result<Option<T>, Error> {
        let is_aborted = || self.aborted.load(Ordering::SeqCst);
        let outcome = match &mut self.peers {
            _ if is_aborted() => Err("nothing more is started".to_owned()),
            Some(peers) => call(peers).map(Some),
            None => Ok(None),
        };
        judged(outcome, is_aborted()).map_err(|(fate, cause)| self.member.failed(operation(), fate, cause))
    }
}

/// What became of an operation. NCCL lets one that is aborted end as if it had succeeded.
fn judged<T>(outcome: Result<T, String>, is_aborted: bool) -> Result<T, (Fate, String)> {
    match outcome {
        Ok(_) if is_aborted => Err((Fate::Aborted, "it was under way".to_owned())),
        Err(cause) if is_aborted => Err((Fate::Aborted, cause)),
        outcome => outcome.map_err(|cause| (Fate::of(&cause), cause)),
    }
}

/// Runs `operation` on the whole of `tensor` where its group lives.
fn in_place(
    tensor: &Tensor,
    home: Device,
    operation: impl FnOnce(&Tensor) -> Result<(), String>,
) -> Result<(), String> {
    whole(tensor)?;
    let here = moved(tensor, home)?;
    operation(&here)?;
    if tensor.device() == home {
        return Ok(());
    }
    tch::no_grad(|| tensor.shallow_clone().f_copy_(&here).map(drop).map_err(|error| error.to_string()))
}

/// `tensor` on `device`: itself, if it is there.
fn moved(tensor: &Tensor, device: Device) -> Result<Tensor, String> {
    tensor.f_to_device(device).map_err(|error| error.to_string())
}

/// Gloo takes a strided view without complaint and works on the memory under it.
fn whole(tensor: &Tensor) -> Result<(), String> {
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(format!("the tensor is a strided view ({:?} by {:?}); make it contiguous", tensor.size(), tensor.stride()))
}

/// c10d takes NCCL's structures by its headers, so the library must be of their version; its last number is for repairs.
fn one_version((compiled, loaded): (i32, i32)) -> Result<(), String> {
    // NCCL's own code: 2.28.9 is 22809.
    let spell = |code: i32| format!("{}.{}.{}", code / 10_000, code / 100 % 100, code % 100);
    if compiled / 100 == loaded / 100 {
        return Ok(());
    }
    Err(format!(
        "NCCL {} is loaded, but libvared_nccl.so was compiled with {}; build it against the libtorch that is used \
         (`cargo xtask cuda`)",
        spell(loaded),
        spell(compiled)
    ))
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
        Ok(Place { rank: self.known_rank(self.rank)?, world, timeout: self.timeout, address, by_interface, gpu: 0 })
    }

    fn unformed(&self, address: String, cause: String) -> Error {
        Error::Form { rank: self.rank, world: self.world, address, timeout: self.timeout, cause }
    }

    fn failed(&self, operation: String, fate: Fate, cause: String) -> Error {
        Error::Operation { operation, rank: self.rank, world: self.world, timeout: self.timeout, fate, cause }
    }

    fn known_rank(&self, rank: u32) -> Result<i32, Error> {
        i32::try_from(rank).ok().filter(|_| rank < self.world).ok_or_else(|| Error::Member {
            field: "rank",
            value: rank.to_string(),
            bound: "below the number of workers",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ended_after_an_abort_has_succeeded() {
        assert_eq!(judged(Ok(1), true), Err((Fate::Aborted, "it was under way".to_owned())));
        assert_eq!(judged::<()>(Err("timed out".to_owned()), true), Err((Fate::Aborted, "timed out".to_owned())));
        assert_eq!(judged::<()>(Err("timed out".to_owned()), false), Err((Fate::PeerSilent, "timed out".to_owned())));
        assert_eq!(judged(Ok(1), false), Ok(1));
    }

    #[test]
    fn a_repaired_nccl_fits_and_another_version_does_not() {
        assert_eq!(one_version((22_809, 22_809)), Ok(()));
        assert_eq!(one_version((22_809, 22_812)), Ok(()));
        let error = one_version((22_809, 23_001)).expect_err("another version");
        assert!(
            error.starts_with("NCCL 2.30.1 is loaded, but libvared_nccl.so was compiled with 2.28.9; build"),
            "{error}"
        );
        assert!(one_version((22_809, 0)).is_err());
    }
}
