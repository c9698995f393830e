//! Groups whose ranks are threads: what the operations compute, and what a caller is told when one can't.

use std::sync::Arc;
use std::time::{Duration, Instant};

use collective::{Address, Error, Group, Member, MemoryStore, Store, StoreError};
use tch::{Device, Kind, Tensor};

fn member(rank: u32, world: u32) -> Member {
    Member { rank, world, timeout: Duration::from_secs(20), address: Address::local() }
}

/// Runs `work` as every rank of a group at once; answers by rank.
fn on_every_rank<R: Send>(world: u32, work: impl Fn(Group) -> R + Sync) -> Vec<R> {
    let store = Arc::new(MemoryStore::new());
    std::thread::scope(|scope| {
        let ranks = (0..world).map(|rank| {
            let (store, work) = (Arc::clone(&store), &work);
            scope.spawn(move || work(Group::gloo(store, member(rank, world)).expect("all ranks are there")))
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.flatten(0, -1)).expect("a float tensor")
}

#[test]
fn every_rank_gets_the_sum() {
    let sums = on_every_rank(3, |mut group| {
        let tensor = Tensor::from_slice(&[1.0f32, 10.0, 100.0]) * f64::from(group.rank() + 1);
        group.all_reduce_sum(&tensor).expect("all ranks are there");
        group.barrier().expect("all ranks are there");
        floats(&tensor)
    });
    assert_eq!(sums, vec![vec![6.0, 60.0, 600.0]; 3]);
}

#[test]
fn a_sum_has_the_same_bits_on_every_rank() {
    let sums = on_every_rank(4, |mut group| {
        let tensor = (Tensor::arange(4099, (Kind::Float, Device::Cpu)) + f64::from(group.rank())).sin();
        group.all_reduce_sum(&tensor).expect("all ranks are there");
        floats(&tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>()
    });
    assert!(sums.iter().all(|sum| sum == &sums[0]));
}

#[test]
fn a_broadcast_carries_the_roots_tensor() {
    let got = on_every_rank(2, |mut group| {
        let tensor = Tensor::full([2, 2], f64::from(group.rank()), (Kind::Double, Device::Cpu));
        group.broadcast(&tensor, 1).expect("all ranks are there");
        f64::try_from(tensor.sum(Kind::Double)).expect("a number")
    });
    assert_eq!(got, [4.0, 4.0]);
}

#[test]
fn a_gather_stacks_by_rank() {
    let got = on_every_rank(3, |mut group| {
        let all = group.all_gather(&Tensor::from_slice(&[group.rank() as f32, -1.0])).expect("all ranks are there");
        (all.size(), floats(&all))
    });
    assert_eq!(got, vec![(vec![3, 2], vec![0.0, -1.0, 1.0, -1.0, 2.0, -1.0]); 3]);
}

#[test]
fn an_exchange_brings_each_rank_its_row_of_all() {
    let got = on_every_rank(3, |mut group| {
        let rows = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([3, 2]) + f64::from(10 * group.rank());
        let all = group.all_to_all(&rows).expect("all ranks are there");
        assert_eq!(floats(&rows)[0], (10 * group.rank()) as f32, "what is sent stays as it was");
        floats(&all)
    });
    assert_eq!(got[0], [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    assert_eq!(got[2], [4.0, 5.0, 14.0, 15.0, 24.0, 25.0]);
    let wrong = on_every_rank(2, |mut group| group.all_to_all(&Tensor::from_slice(&[1.0f32; 3])).map(drop));
    let error = wrong.into_iter().next().expect("two ranks").expect_err("three rows for two").to_string();
    assert!(error.contains("has no row for each of 2 workers"), "{error}");
}

/// A store that must not be asked.
struct NoStore;

impl Store for NoStore {
    fn set(&self, key: &str, _: &[u8]) -> Result<(), StoreError> {
        Err(format!("set {key}").into())
    }
    fn get(&self, key: &str, _: Duration) -> Result<Vec<u8>, StoreError> {
        Err(format!("the coordinator has no {key}").into())
    }
    fn add(&self, key: &str, _: i64) -> Result<i64, StoreError> {
        Err(format!("add {key}").into())
    }
    fn check(&self, key: &str) -> Result<bool, StoreError> {
        Err(format!("check {key}").into())
    }
}

#[test]
fn a_group_of_one_asks_nobody_and_changes_nothing() {
    let mut group = Group::gloo(Arc::new(NoStore), member(0, 1)).expect("needs no store");
    let tensor = Tensor::from_slice(&[1.5f32]);
    group.all_reduce_sum(&tensor).expect("nothing to do");
    group.broadcast(&tensor, 0).expect("nothing to do");
    group.barrier().expect("nothing to do");
    assert_eq!(floats(&tensor), [1.5]);
    assert_eq!(group.all_gather(&tensor).expect("nothing to do").size(), [1, 1]);
    assert_eq!(floats(&group.all_to_all(&tensor).expect("nothing to do")), [1.5]);
}

#[test]
fn what_the_store_says_reaches_the_caller() {
    let error = Group::gloo(Arc::new(NoStore), member(0, 2)).expect_err("the store refuses");
    assert!(matches!(error, Error::Form { rank: 0, world: 2, .. }), "{error}");
    assert!(error.to_string().contains("set "), "{error}");
}

#[test]
fn a_rank_that_never_comes_is_a_bounded_wait() {
    let started = Instant::now();
    let alone = Member { timeout: Duration::from_millis(300), ..member(0, 2) };
    let error = Group::gloo(Arc::new(MemoryStore::new()), alone).expect_err("rank 1 never comes");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(error.to_string().contains("rank 0 of 2 at 127.0.0.1"), "{error}");
    assert!(error.to_string().contains("nobody set store key"), "{error}");
}

#[test]
fn a_store_is_let_go_with_its_group() {
    let store = Arc::new(MemoryStore::new());
    let weak = Arc::downgrade(&store);
    let alone = Member { timeout: Duration::from_millis(10), ..member(0, 2) };
    Group::gloo(store, alone).expect_err("rank 1 never comes");
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_silent_peer_ends_in_the_timeout_and_says_so() {
    let store = Arc::new(MemoryStore::new());
    let (done, wait_for_done) = std::sync::mpsc::sync_channel::<()>(1);
    std::thread::scope(|scope| {
        let hasty = |rank| Member { timeout: Duration::from_millis(500), ..member(rank, 2) };
        let theirs: Arc<MemoryStore> = Arc::clone(&store);
        let silent = scope.spawn(move || {
            let group = Group::gloo(theirs, hasty(1)).expect("both ranks are there");
            wait_for_done.recv().expect("the other rank says when it has seen the timeout");
            drop(group);
        });
        let mut group = Group::gloo(store, hasty(0)).expect("both ranks are there");
        let started = Instant::now();
        let error = group.all_reduce_sum(&Tensor::from_slice(&[1.0f32; 8])).expect_err("rank 1 is silent");
        let waited = started.elapsed();
        // Leaving does not wait for the silent one.
        drop(group);
        let left = started.elapsed() - waited;
        assert!(left < Duration::from_millis(400), "{left:?}");
        done.send(()).expect("rank 1 is waiting");
        silent.join().expect("rank 1 does not panic");
        assert!(error.is_timeout(), "{error}");
        assert!(error.to_string().contains("sum [8] over the workers as rank 0 of 2 (a peer is silent"), "{error}");
        assert!(waited >= Duration::from_millis(450) && waited < Duration::from_secs(5), "{waited:?}");
    });
}

#[test]
fn a_peer_that_leaves_is_seen_at_once() {
    let outcome = on_every_rank(2, |mut group| {
        let tensor = Tensor::from_slice(&[1.0f32; 8]);
        group.all_reduce_sum(&tensor).expect("both ranks are there");
        if group.rank() == 1 {
            return None;
        }
        let started = Instant::now();
        let error = group.all_reduce_sum(&tensor).expect_err("rank 1 left");
        Some((error, started.elapsed()))
    });
    let (error, waited) = outcome[0].as_ref().expect("rank 0 tried");
    assert!(!error.is_timeout(), "{error}");
    assert!(error.to_string().contains("a peer is gone"), "{error}");
    assert!(*waited < Duration::from_secs(2), "{waited:?}");
}

#[test]
fn a_wrong_member_is_refused_with_field_value_and_bound() {
    let refused = |member| Group::gloo(Arc::new(NoStore), member).expect_err("makes no sense").to_string();
    assert_eq!(refused(member(2, 2)), "collective group: rank is 2, but must be below the number of workers");
    assert!(refused(member(0, 0)).contains("world is 0"));
    assert!(
        refused(Member { timeout: Duration::ZERO, ..member(0, 2) }).contains("timeout is 0ns, but must be above 0")
    );
    assert!(refused(Member { address: Address::Host(String::new()), ..member(0, 2) }).contains("address is \"\""));
    let nowhere = Member { address: Address::Interface("nosuch0".to_owned()), ..member(0, 2) };
    assert!(refused(nowhere).contains("interface nosuch0"));
}

#[test]
fn a_refused_operation_is_an_error_and_not_the_end() {
    let outcome = on_every_rank(2, |mut group| {
        let strided = Tensor::zeros([4, 4], (Kind::Float, Device::Cpu)).slice(1, 0, 4, 2);
        let refused = group.all_reduce_sum(&strided).is_err();
        group.barrier().map(|()| refused)
    });
    assert!(outcome.into_iter().all(|refused| refused.expect("the group still works")));
}

#[test]
fn an_aborted_group_fails_at_once_and_says_so() {
    let store = Arc::new(MemoryStore::new());
    let (done, wait_for_done) = std::sync::mpsc::sync_channel::<()>(1);
    std::thread::scope(|scope| {
        let theirs: Arc<MemoryStore> = Arc::clone(&store);
        // Rank 1 takes part in nothing: without the abort, rank 0 would wait for all of the timeout.
        let silent = scope.spawn(move || {
            let group = Group::gloo(theirs, member(1, 2)).expect("both ranks are there");
            wait_for_done.recv().expect("the other rank says when it has seen the abort");
            drop(group);
        });
        let mut group = Group::gloo(store, member(0, 2)).expect("both ranks are there");
        let aborter = group.aborter();
        scope.spawn(move || aborter.abort()).join().expect("no panic").expect("Gloo has nothing to give up");
        let started = Instant::now();
        let tensor = Tensor::from_slice(&[1.0f32; 8]);
        let error = group.all_reduce_sum(&tensor).expect_err("it is aborted");
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert!(error.is_aborted() && !error.is_timeout(), "{error}");
        assert!(
            error.to_string().contains("sum [8] over the workers as rank 0 of 2 (the group was aborted"),
            "{error}"
        );
        assert!(group.all_gather(&tensor).expect_err("it stays so").is_aborted());
        assert_eq!(floats(&tensor), [1.0; 8]);
        done.send(()).expect("rank 1 is waiting");
        silent.join().expect("rank 1 does not panic");
    });
}

#[test]
fn a_group_of_one_is_aborted_too_and_an_aborter_outlives_its_group() {
    let mut group = Group::gloo(Arc::new(NoStore), member(0, 1)).expect("needs no store");
    let aborter = group.aborter();
    group.barrier().expect("nothing to do");
    aborter.clone().abort().expect("there is nobody to leave");
    assert!(group.barrier().expect_err("it is aborted").is_aborted());
    drop(group);
    aborter.abort().expect("the group is gone");
    let mut next = Group::gloo(Arc::new(NoStore), member(0, 1)).expect("needs no store");
    next.barrier().expect("another group is not touched");
}

/// On a machine without a GPU for want of one, elsewhere for want of that one. Which of the libraries are here depends on
/// whether `cargo xtask cuda` was run.
#[test]
fn without_the_gpu_an_nccl_group_is_one_clear_line() {
    let store = Arc::new(MemoryStore::new());
    let weak = Arc::downgrade(&store);
    let error = Group::nccl(store, member(0, 1), 100).expect_err("nobody has so many").to_string();
    println!("{error}");
    assert!(error.starts_with("form a group ") && error.contains("cuda:100") && !error.contains('\n'), "{error}");
    let known = ["`cargo xtask setup --cuda`", "`cargo xtask cuda`", "no NVIDIA driver", "CUDA sees ", "No CUDA GPUs"];
    assert!(known.iter().any(|advice| error.contains(advice)), "{error}");
    assert!(weak.upgrade().is_none(), "the store is let go");
    let wrong = Group::nccl(Arc::new(NoStore), member(2, 2), 0).expect_err("makes no sense").to_string();
    assert_eq!(wrong, "collective group: rank is 2, but must be below the number of workers");
}
