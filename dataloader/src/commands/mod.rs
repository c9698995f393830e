//! What the program does, one file or folder a command.

pub mod bench;
pub mod check;
pub mod demo;
mod ffmpeg;
pub mod index;
pub mod pack;
pub mod serve;
pub mod view;
