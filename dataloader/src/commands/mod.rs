//! What the program does, one file or folder a command.

pub mod demo;
mod ffmpeg;
pub mod pack;
pub mod serve;
