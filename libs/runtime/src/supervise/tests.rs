use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;

/// Does as it is told, and tells that it started and stopped.
#[derive(Default)]
struct Obedient;

enum Order {
    Fail,
    Panic,
    Leave,
}

#[derive(Clone)]
struct Told {
    starts: Arc<AtomicU32>,
    actors: mpsc::Sender<ActorRef<Order>>,
    stops: mpsc::Sender<()>,
}

impl Actor for Obedient {
    type Msg = Order;
    type State = Told;
    type Arguments = Told;

    async fn pre_start(&self, myself: ActorRef<Order>, told: Told) -> Result<Told, ActorProcessingErr> {
        told.starts.fetch_add(1, Ordering::SeqCst);
        told.actors.try_send(myself)?;
        Ok(told)
    }

    async fn handle(&self, myself: ActorRef<Order>, order: Order, _: &mut Told) -> Result<(), ActorProcessingErr> {
        match order {
            Order::Fail => Err("the store is gone".into()),
            Order::Panic => panic!("a bug"),
            Order::Leave => {
                myself.stop(Some("done".to_owned()));
                Ok(())
            }
        }
    }

    async fn post_stop(&self, _: ActorRef<Order>, told: &mut Told) -> Result<(), ActorProcessingErr> {
        told.stops.try_send(())?;
        Ok(())
    }
}

struct Tree {
    told: Told,
    actors: mpsc::Receiver<ActorRef<Order>>,
    stops: mpsc::Receiver<()>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), GaveUp>>,
}

impl Tree {
    fn grow(policy: Policy) -> Self {
        let (actor_sender, actors) = mpsc::channel(8);
        let (stop_sender, stops) = mpsc::channel(8);
        let told = Told { starts: Arc::default(), actors: actor_sender, stops: stop_sender };
        let stop = CancellationToken::new();
        let each = told.clone();
        let spec = ChildSpec::new::<Obedient, _>("keeper", policy, move || each.clone());
        let task = tokio::spawn(run(vec![spec], stop.clone()));
        Self { told, actors, stops, stop, task }
    }

    async fn order(&mut self, order: Order) {
        let actor = self.actors.recv().await.expect("started");
        actor.cast(order).expect("alive");
    }
}

#[tokio::test]
async fn a_failed_child_is_restarted_up_to_its_limit() {
    let mut tree = Tree::grow(Policy::Restart { times: 2, window: Duration::from_secs(60) });
    for _ in 0..3 {
        tree.order(Order::Fail).await;
    }
    let error = tree.task.await.expect("no panic").expect_err("gives up").to_string();
    assert_eq!(tree.told.starts.load(Ordering::SeqCst), 3);
    assert!(error.starts_with("keeper ended: ") && error.contains("the store is gone"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn old_restarts_do_not_count() {
    let window = Duration::from_secs(60);
    let mut tree = Tree::grow(Policy::Restart { times: 1, window });
    for _ in 0..4 {
        tree.order(Order::Fail).await;
        tokio::time::advance(window * 2).await;
    }
    assert!(tree.actors.recv().await.is_some(), "restarted a fourth time");
    tree.stop.cancel();
    assert!(tree.task.await.expect("no panic").is_ok());
}

#[tokio::test]
async fn a_panic_counts_as_a_failure() {
    let mut tree = Tree::grow(Policy::Escalate);
    tree.order(Order::Panic).await;
    let error = tree.task.await.expect("the panic stays inside").expect_err("gives up");
    assert!(error.reason.contains("a bug"), "{error}");
}

#[tokio::test]
async fn the_normal_end_of_an_essential_child_ends_the_tree() {
    let mut tree = Tree::grow(Policy::Essential);
    tree.order(Order::Leave).await;
    let error = tree.task.await.expect("no panic").expect_err("gives up");
    assert_eq!((error.child.as_str(), error.reason.as_str()), ("keeper", "done"));
}

#[tokio::test]
async fn stopping_runs_every_childs_post_stop_first() {
    let mut tree = Tree::grow(Policy::Forget);
    tree.actors.recv().await.expect("started");
    tree.stop.cancel();
    assert!(tree.task.await.expect("no panic").is_ok());
    tree.stops.try_recv().expect("stopped before run returned");
}
