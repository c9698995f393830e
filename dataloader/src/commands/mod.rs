//! What the program does, one file or folder a command.

pub mod demo;
pub mod pack;
pub mod serve;
pub mod view;
