//! The meeting point of a group.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why a store could not answer; its text reaches the caller of [`crate::Group::gloo`] unchanged.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// A blocking key-value store that all ranks of one group share: they leave their addresses in it.
///
/// Keys must be fresh for every group (a generation's own prefix): a group that meets an older one's addresses fails.
pub trait Store: Send + Sync {
    /// Sets `key`, replacing what was there.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Waits until `key` is there, at most `timeout`, and returns its value. The error names the key.
    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError>;

    /// Adds `amount` to the decimal integer at `key` (0 if absent) and returns the sum.
    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError>;

    /// Says at once whether `key` is there.
    fn check(&self, key: &str) -> Result<bool, StoreError>;
}

/// A store for ranks that are threads of one process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    values: Mutex<HashMap<String, Vec<u8>>>,
    changed: Condvar,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every method leaves the map whole, so a panic elsewhere does not spoil it.
    fn values(&self) -> MutexGuard<'_, HashMap<String, Vec<u8>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.values().insert(key.to_owned(), value.to_owned());
        self.changed.notify_all();
        Ok(())
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        let deadline = Instant::now() + timeout;
        let mut values = self.values();
        loop {
            if let Some(value) = values.get(key) {
                return Ok(value.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("nobody set store key {key:?} within {timeout:?}").into());
            }
            (values, _) = self.changed.wait_timeout(values, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        let mut values = self.values();
        let held = match values.get(key) {
            Some(bytes) => std::str::from_utf8(bytes)?
                .parse::<i64>()
                .map_err(|e| format!("add {amount} to store key {key:?}: its value is no integer: {e}"))?,
            None => 0,
        };
        let sum = held + amount;
        values.insert(key.to_owned(), sum.to_string().into_bytes());
        self.changed.notify_all();
        Ok(sum)
    }

    fn check(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.values().contains_key(key))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
