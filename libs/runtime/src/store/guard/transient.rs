//! Which failures may pass.

use std::error::Error as _;

use object_store::Error;

/// Whether another attempt may end differently. What is missing, forbidden or asked for wrongly stays so.
pub fn is_transient(error: &Error) -> bool {
    match error {
        Error::JoinError { .. } => true,
        Error::Generic { .. } => {
            let chain = std::iter::successors(error.source(), |link| (*link).source());
            !chain.map(ToString::to_string).any(|text| is_final(&text))
        }
        _ => false,
    }
}

/// object_store keeps the type of these errors to itself: their texts are all there is (version 0.14; the tests of
/// `tests/faults.rs` notice when they change).
fn is_final(text: &str) -> bool {
    let refused = text.strip_prefix("Server returned non-2xx status code: ").is_some_and(|status| {
        // 408: too slow; 429: too many requests.
        status.starts_with('4') && !status.starts_with("408") && !status.starts_with("429")
    });
    let beyond = ["Wanted range", "Range started", "Range ended", "Requested "];
    refused || beyond.iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let generic = |text: &str| Error::Generic { store: "test", source: text.to_owned().into() };
        assert!(is_transient(&generic("connection reset by peer")));
        assert!(is_transient(&generic("can't read oranges.tar: no byte came within 20s")), "a name says nothing");
        assert!(!is_transient(&generic("Requested range was invalid")));
        assert!(!is_transient(&Error::NotFound { path: "x".into(), source: "gone".into() }));
        assert!(!is_transient(&Error::PermissionDenied { path: "x".into(), source: "no".into() }));
    }
}
