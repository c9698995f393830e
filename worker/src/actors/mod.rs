//! The worker's actors. The root routes; each other one owns one thing: the stream to the coordinator, the streams from
//! the loaders, the device, the upload of checkpoints.
//!
//! ```text
//! coordinator ⇄ link ⇄ root → trainer → (one `Life` per generation) → device thread
//!                         ↘ saver ↖________↙        ↘ feed ⇄ loaders
//! ```

pub mod feed;
pub mod link;
pub mod root;
pub mod saver;
pub mod trainer;
pub mod window;

#[cfg(test)]
mod tests;
