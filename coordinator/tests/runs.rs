//! Whole runs of a coordinator over real connections, with members and programs that are played by the tests.

#[path = "runs/bad_input.rs"]
mod bad_input;
#[path = "runs/checkpoints.rs"]
mod checkpoints;
#[path = "runs/children.rs"]
mod children;
#[path = "runs/lives.rs"]
mod lives;
#[path = "runs/player.rs"]
mod player;
