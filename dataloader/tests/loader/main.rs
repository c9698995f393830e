//! The loader from outside: real sockets, real videos, stores in memory, a coordinator that is played.

mod agree;
mod ahead;
mod bench;
mod cache;
mod check;
mod decoder;
mod demo;
mod footage;
mod health;
mod hostile;
mod pack;
mod ranges;
mod refusals;
mod repeated;
mod resume;
mod run;
mod serve;
mod stages;
mod store;
mod view;
mod views;
