//! From nothing to the first step, and to the last.

use super::*;

#[test]
fn the_first_generation_is_journalled_before_anybody_hears_of_it() {
    let mut scene = Scene::new(2);
    assert_eq!(scene.loader("loader-0"), ["welcome loader-0/a"]);
    assert_eq!(scene.data("loader-0"), ["record planned 7 steps over 100 clips"]);
    assert_eq!(scene.planned(), ["tell data: 100 train and 10 validation clips, 1 class; 7 steps"]);
    assert_eq!(scene.worker("worker-1"), ["welcome worker-1/a"]);
    assert_eq!(scene.worker("worker-0"), ["welcome worker-0/a", "record generation 1 of 2 workers from the seed"]);
    assert_eq!(
        scene.recorded(1, &["worker-0", "worker-1"]),
        [
            "open rendezvous 1",
            "order worker-0/a: generation 1 rank 0/2 lanes 0..2",
            "order worker-1/a: generation 1 rank 1/2 lanes 2..4",
            "tell generation 1: 2 workers from the seed (the run starts)"
        ]
    );
    assert_eq!(scene.formed("worker-1", 1), Vec::<String>::new());
    assert_eq!(scene.formed("worker-0", 1), ["tell generation 1 is ready for step 0"]);
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut scene = Scene::new(1);
    scene.worker("worker-0");
    scene.loader("loader-0");
    scene.data("loader-0");
    assert_eq!(scene.planned().last().map(String::as_str), Some("record generation 1 of 1 worker from the seed"));
}

#[test]
fn every_child_is_launched_at_the_start() {
    let mut scene = Scene::with(|policy| policy.children = vec!["worker-0".parse().expect("a good name")]);
    assert_eq!(scene.on(Event::Started), ["launch worker-0"]);
}

#[test]
fn waiting_names_whom() {
    let mut scene = Scene::new(2);
    scene.worker("worker-0");
    assert_eq!(scene.after(9.0), Vec::<String>::new());
    assert_eq!(
        scene.after(1.0),
        ["tell waiting for more workers (1 of 2 workers are here) and a loader that has opened the data"]
    );
    assert_eq!(scene.after(5.0), Vec::<String>::new());
}

#[test]
fn a_child_that_never_joins_is_given_up_by_name() {
    let mut scene = Scene::with(|policy| {
        policy.children = ["worker-0", "worker-1"].map(|name| name.parse().expect("a good name")).to_vec();
    });
    scene.on(Event::Started);
    scene.worker("worker-0");
    let shown = scene.after(61.0);
    assert_eq!(
        shown.last().map(String::as_str),
        Some(
            "end 1: waited 60s in vain for worker-1 (1 of 2 workers are here) and a loader that has opened the data; \
         their logs may say why"
        )
    );
}

#[test]
fn a_loader_without_clips_ends_the_run_with_a_sentence() {
    let mut scene = Scene::new(1);
    scene.loader("loader-0");
    let shown = scene.on(Event::DataFound { member: member("loader-0"), data_set: data_set(0) });
    assert!(shown[1].starts_with("end 78: loader-0: the train set holds no clips; fill it"), "{shown:?}");
}

#[test]
fn other_data_than_planned_ends_the_run() {
    let mut scene = Scene::training();
    scene.loader("loader-1");
    let shown = scene.on(Event::DataFound { member: member("loader-1"), data_set: data_set(99) });
    let end = shown.last().expect("an end");
    assert!(end.starts_with("end 78: loader-1: this is not the data that the run was planned for: 99 train"), "{end}");
}

#[test]
fn numbered_workers_are_ranked_by_number() {
    let mut scene = Scene::new(3);
    for name in ["worker-10", "worker-9", "worker-2"] {
        scene.worker(name);
    }
    let ranked: Vec<String> = scene.run.workers().iter().map(|member| member.name.to_string()).collect();
    assert_eq!(ranked, ["worker-2", "worker-9", "worker-10"]);
}

#[test]
fn a_checkpoint_is_real_when_its_commit_is_journalled() {
    let mut scene = Scene::training();
    assert_eq!(scene.stepped(1, 50), ["tell step 50"]);
    assert_eq!(scene.stored(1, 50), ["record committed step 50"]);
    assert_eq!(
        scene.committed(1, 50),
        [
            "tell checkpoint of step 50 committed: c/50-g1",
            "order worker-0/a: committed step 50",
            "order worker-1/a: committed step 50"
        ]
    );
    // The same checkpoint again is answered, not written twice.
    assert_eq!(scene.stored(1, 50), ["order worker-0/a: committed step 50", "order worker-1/a: committed step 50"]);
}

#[test]
fn the_run_is_finished_when_every_worker_is_through() {
    let mut scene = Scene::training();
    let trained = |name: &str| Event::Trained { member: member(name), generation: GenerationNumber(1), step: 7 };
    assert_eq!(scene.on(trained("worker-1")), Vec::<String>::new());
    // A worker that is through may go at once: no failure.
    assert_eq!(scene.lost("worker-1", Loss::Broken), Vec::<String>::new());
    assert_eq!(scene.on(trained("worker-0")), ["record finished at step 7"]);
    assert_eq!(
        scene.on(Event::Recorded(Entry::Finished { step: 7 })),
        [
            "order loader-0/a: stop 0: trained: all 7 steps are done",
            "order worker-0/a: stop 0: trained: all 7 steps are done",
            "end 0: trained: all 7 steps are done"
        ]
    );
    assert_eq!(scene.worker("worker-3"), ["refuse worker-3/a: the run is stopping; start it again to go on"]);
}

#[test]
fn a_resumed_run_goes_on_from_its_last_commit() {
    let mut ledger = Ledger::default();
    let entries = [
        created(),
        Entry::Planned { data_set: data_set(100), total_steps: 7 },
        Entry::Generation { number: GenerationNumber(4), workers: Vec::new(), restore: None, source: None },
        Entry::Committed(commit(4, 5)),
    ];
    entries.iter().try_for_each(|entry| ledger.apply(entry)).expect("consistent");
    let mut scene = Scene::new(1);
    scene.run = Run::new(scene.run.policy.clone(), recipe(), ledger);
    scene.worker("worker-0");
    scene.loader("loader-0");
    assert_eq!(scene.data("loader-0"), ["record generation 5 of 1 worker from c/5-g4"]);
}

#[test]
fn a_worker_may_be_through_before_another_says_that_it_is_ready() {
    let mut scene = Scene::new(2);
    scene.loader("loader-0");
    scene.data("loader-0");
    scene.planned();
    scene.worker("worker-0");
    scene.worker("worker-1");
    scene.recorded(1, &["worker-0", "worker-1"]);
    let trained = |name: &str| Event::Trained { member: member(name), generation: GenerationNumber(1), step: 7 };
    scene.formed("worker-1", 1);
    // Streams of two members are in no order: the other's `Formed` is still on its way.
    assert_eq!(scene.on(trained("worker-1")), Vec::<String>::new());
    scene.formed("worker-0", 1);
    assert_eq!(scene.on(trained("worker-0")), ["record finished at step 7"]);
}
