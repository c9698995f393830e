//! Whose turn it is: requests and bytes in flight, first come, first served.

use tokio::sync::{Semaphore, SemaphorePermit};

/// What a permit for bytes stands for, so that 32 bits count them.
const UNIT_BYTES: u64 = 1024;

#[derive(Debug)]
pub(super) struct Turns {
    requests: Semaphore,
    bytes: Semaphore,
    most_units: u32,
}

impl Turns {
    pub(super) fn new(requests: usize, bytes: usize) -> Self {
        let most_units = u32::try_from(bytes as u64 / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { requests: Semaphore::new(requests.max(1)), bytes: Semaphore::new(most_units as usize), most_units }
    }

    /// Waits for a turn by number.
    pub(super) async fn request(&self) -> SemaphorePermit<'_> {
        self.requests.acquire().await.expect("it is never closed")
    }

    /// A turn for a request that can be done without, if one is free.
    pub(super) fn spare(&self) -> Option<SemaphorePermit<'_>> {
        self.requests.try_acquire().ok()
    }

    /// Waits until `bytes` more may be in flight. What is longer than all of them waits until it is alone.
    pub(super) async fn bytes(&self, bytes: u64) -> SemaphorePermit<'_> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.most_units);
        self.bytes.acquire_many(units).await.expect("it is never closed")
    }
}
