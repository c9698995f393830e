//! What `build.rs` wrote. The exceptions below are the generator's habits; nothing here is edited by hand.
#![expect(clippy::allow_attributes, reason = "the generator silences its own warnings with `allow`")]
#![expect(missing_docs, reason = "not every field of the contract needs a sentence")]
#![expect(clippy::clone_on_ref_ptr, reason = "the generator clones its own pointers with `clone`")]
#![expect(unused_qualifications, reason = "the generator spells every path out")]

/// See [`crate::coordinator`].
pub mod coordinator {
    include!(concat!(env!("OUT_DIR"), "/vared.coordinator.v1.rs"));
}

/// See [`crate::loader`].
pub mod loader {
    include!(concat!(env!("OUT_DIR"), "/vared.loader.v1.rs"));
}
