use super::*;

#[test]
fn a_get_waits_for_the_set() {
    let store = MemoryStore::new();
    std::thread::scope(|scope| {
        let value = scope.spawn(|| store.get("a", Duration::from_secs(10)).map_err(|e| e.to_string()));
        store.set("a", b"there").expect("a memory store sets");
        assert_eq!(value.join().expect("no panic"), Ok(b"there".to_vec()));
    });
}

#[test]
fn a_get_that_nobody_answers_ends_in_time_and_names_the_key() {
    let started = Instant::now();
    let error = MemoryStore::new().get("rank-3", Duration::from_millis(30)).expect_err("nobody set it");
    assert!(started.elapsed() >= Duration::from_millis(30));
    assert!(error.to_string().contains("rank-3"), "{error}");
}

#[test]
fn add_counts_and_refuses_what_is_no_number() {
    let store = MemoryStore::new();
    assert_eq!(store.add("n", 2).expect("counts"), 2);
    assert_eq!(store.add("n", -5).expect("counts"), -3);
    assert!(store.check("n").expect("answers"));
    assert!(!store.check("m").expect("answers"));
    store.set("word", b"x").expect("sets");
    assert!(store.add("word", 1).is_err());
}
