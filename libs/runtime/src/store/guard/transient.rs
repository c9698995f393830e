//! Which failures may pass.

use std::error::Error as _;

use object_store::Error;

/// Whether another attempt may end differently. What is missing, forbidden or asked for wrongly stays so.
pub fn is_transient(error: &Error) -> bool {
    match error {
        Error::JoinError { .. } => true,
        Error::Generic { .. } => !texts(error).any(|text| is_refusal(&text) || is_of_range(&text)),
        _ => false,
    }
}

/// Whether a range was asked for that the object does not have.
pub fn is_beyond(error: &Error) -> bool {
    matches!(error, Error::Generic { .. }) && texts(error).any(|text| is_of_range(&text))
}

fn texts(error: &Error) -> impl Iterator<Item = String> {
    std::iter::successors(error.source(), |link| (*link).source()).map(ToString::to_string)
}

/// object_store keeps the type of these errors to itself: their texts are all there is (version 0.14; the tests of
/// `tests/faults.rs` notice when they change).
fn is_refusal(text: &str) -> bool {
    text.strip_prefix("Server returned non-2xx status code: ").is_some_and(|status| {
        // 408: too slow; 429: too many requests.
        status.starts_with('4') && !status.starts_with("408") && !status.starts_with("429")
    })
}

fn is_of_range(text: &str) -> bool {
    ["Wanted range", "Range started", "Range ended", "Requested "].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let generic = |text: &str| Error::Generic { store: "test", source: text.to_owned().into() };
        assert!(is_transient(&generic("connection reset by peer")));
        assert!(is_transient(&generic("can't read oranges.tar: no byte came within 20s")), "a name says nothing");
        assert!(
            !is_transient(&generic("Requested range was invalid"))
                && is_beyond(&generic("Requested range was invalid"))
        );
        assert!(!is_beyond(&generic("can't read oranges.tar: no byte came within 20s")));
        assert!(!is_transient(&Error::NotFound { path: "x".into(), source: "gone".into() }));
        assert!(!is_transient(&Error::PermissionDenied { path: "x".into(), source: "no".into() }));
    }
}
