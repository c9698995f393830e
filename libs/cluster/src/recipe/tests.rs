use super::*;

const TEXT: &str = r#"
name = "demo"
[run]
seed = 1
lanes = 2
batch_clips = 32
checkpoint_every_steps = 50
threads = 1
[data]
train = "data/demo/train"
[model]
backbone = "r2plus1d"
[optim]
momentum = 0.9
[[stages]]
name = "accuracy"
epochs = 8
lr = 0.05
[[stages]]
name = "redundancy"
epochs = 6
lambda = [0.0, 2.0]
"#;

fn with(assignments: &[&str]) -> Result<Recipe, RecipeError> {
    let assignments: Vec<Assignment> =
        assignments.iter().map(|text| text.parse().expect("a form of path=value")).collect();
    Recipe::parse(TEXT, &assignments)
}

fn refusal(assignment: &str) -> String {
    with(&[assignment]).expect_err("must be refused").to_string()
}

#[test]
fn a_recipe_says_what_the_run_needs() {
    let recipe = with(&[]).expect("a good recipe");
    assert_eq!(recipe.name().as_str(), "demo");
    assert_eq!((recipe.run().lanes, recipe.run().batch_clips, recipe.epochs()), (2, 32, 14));
    assert_eq!(
        [0, 7, 8, 13, 99].map(|e| recipe.stage_of_epoch(e).name.as_str()),
        ["accuracy", "accuracy", "redundancy", "redundancy", "redundancy"]
    );
    assert_eq!(recipe.plan(100).map(|plan| plan.total_steps(recipe.epochs())), Ok(44));
    assert_eq!(recipe.warnings(), Vec::<String>::new());
}

#[test]
fn neither_order_nor_comments_change_the_digest() {
    let shuffled = format!("# a comment\n{}", TEXT.replace("seed = 1\nlanes = 2", "lanes = 2 # two\nseed = 1"));
    let (a, b) = (with(&[]).expect("good"), Recipe::parse(&shuffled, &[]).expect("good"));
    assert_eq!((a.text(), a.digest()), (b.text(), b.digest()));
}

#[test]
fn the_canonical_text_is_a_fixed_point() {
    let recipe = with(&["model.dynamic=none"]).expect("good");
    assert_eq!(Recipe::parse(recipe.text(), &[]).expect("good"), recipe);
}

#[test]
fn an_assignment_changes_value_and_digest() {
    let (plain, set) = (with(&[]).expect("good"), with(&["run.lanes=4", "stages.1.epochs = 2"]).expect("good"));
    assert_eq!((set.run().lanes, set.epochs()), (4, 10));
    assert_ne!(plain.digest(), set.digest());
}

#[test]
fn text_needs_no_quotes_in_an_assignment() {
    let quoted = with(&["model.dynamic=\"none\""]).expect("good");
    let bare = with(&["model.dynamic=none"]).expect("good");
    assert_eq!(quoted.text(), bare.text());
    assert!(bare.text().contains("dynamic = \"none\""), "{}", bare.text());
}

#[test]
fn each_field_out_of_bounds_is_named_with_its_bound() {
    assert_eq!(refusal("run.lanes=0"), "run.lanes is 0; it must be 1 to 1024");
    assert_eq!(refusal("run.lanes=5"), "run.batch_clips is 32; it must be a multiple of run.lanes (5)");
    assert_eq!(refusal("run.batch_clips=0"), "run.batch_clips is 0; it must be 1 to 1048576");
    assert_eq!(refusal("run.threads=0"), "run.threads is 0; it must be 1 to 1024");
    assert!(refusal("run.precise_bn_batches=20000").starts_with("run.precise_bn_batches is 20000"));
    assert_eq!(refusal("stages.0.epochs=0"), "stages.0.epochs is 0; it must be 1 to 1048576");
    assert!(refusal("run.checkpoint_every_steps=0").starts_with("run.checkpoint_every_steps is 0"));
    assert!(refusal("stages=[]").starts_with("stages is empty"));
    assert!(refusal("name=\"a/b\"").starts_with("name is a/b; it must be"));
}

#[test]
fn what_nobody_reads_is_refused() {
    assert_eq!(
        refusal("modle.dynamic=none"),
        "the recipe has an unknown section `modle`; known are name, run, data, model, optim, stages, init"
    );
    assert!(refusal("run.lane=2").contains("unknown field `lane`"), "{}", refusal("run.lane=2"));
    assert_eq!(Recipe::parse("name = \"x\"", &[]), Err(RecipeError::MissingSection { section: "run" }));
}

#[test]
fn a_wrong_type_names_its_section() {
    let text = refusal("run.lanes=\"two\"");
    assert!(text.starts_with("the recipe can't be read: section `run`:"), "{text}");
    assert!(refusal("run.seed=-1").contains("section `run`"));
}

#[test]
fn assignments_that_lead_nowhere_are_refused() {
    assert_eq!(refusal("stages.7.epochs=1"), "can't set stages.7.epochs: `stages` has no field `7`");
    assert_eq!(refusal("name.x=1"), "can't set name.x: `name` has no field `x`");
    for text in ["run.lanes", "=3", "a..b=1"] {
        assert_eq!(text.parse::<Assignment>(), Err(AssignmentError::Form(text.to_owned())));
    }
}

#[test]
fn an_assignment_can_not_smuggle_in_a_second_field() {
    let recipe = with(&["model.note=1\nother=2"]).expect("taken as text");
    assert!(!recipe.text().contains("other = 2\n"), "{}", recipe.text());
}

#[test]
fn few_clips_a_lane_are_warned_about() {
    let warnings = with(&["run.lanes=8"]).expect("legal").warnings();
    assert!(matches!(&warnings[..], [text] if text.starts_with("a lane holds 4 clips")), "{warnings:?}");
}

#[test]
fn changes_are_listed_field_by_field() {
    let (a, b) =
        (with(&[]).expect("good"), with(&["run.seed=2", "stages.1.lr=0.1", "model.dynamic=all"]).expect("good"));
    let shown: Vec<String> = changes(a.text(), b.text()).expect("both parse").iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["model.dynamic: (absent) → \"all\"", "run.seed: 1 → 2", "stages.1.lr: (absent) → 0.1"]);
    assert_eq!(changes(a.text(), TEXT), Ok(Vec::new()));
}
