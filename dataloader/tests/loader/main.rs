//! The loader from outside: real sockets, real videos, stores in memory, a coordinator that is played.

mod check;
mod demo;
mod footage;
mod pack;
mod refusals;
mod resume;
mod run;
mod serve;
mod views;
