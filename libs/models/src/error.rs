//! What can be wrong with a model's configuration or weights.

use thiserror::Error;

use crate::config::ClipShape;

/// Why a network could not be made or filled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A setting is out of its bounds.
    #[error("model setting `{field}` is {value}: it must be {bound}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        bound: &'static str,
    },
    /// Nothing of the clip is left at some layer.
    #[error(
        "clips of {} frames of {}×{} pixels leave {layer} nothing to compute: take more frames or a larger crop",
        .clip.frames, .clip.height, .clip.width
    )]
    Clip {
        /// The clip.
        clip: ClipShape,
        /// The first layer that would give nothing.
        layer: String,
    },
    /// The bytes are not a safetensors file.
    #[error("reading weights as safetensors: {0}; the file is damaged or of another format")]
    NotSafetensors(#[source] safetensors::SafeTensorError),
    /// Names of the file and of the network differ.
    #[error("weights do not fit the network: {}{}", listing("missing", .missing), listing("unexpected", .unexpected))]
    Names {
        /// In the network, not in the file.
        missing: Vec<String>,
        /// In the file, not in the network.
        unexpected: Vec<String>,
    },
    /// A tensor has another shape than the network's.
    #[error("weights do not fit the network: {name} has shape {found:?}, the network needs {expected:?}{hint}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// Its shape in the network.
        expected: Vec<usize>,
        /// What it may come from, or nothing.
        hint: &'static str,
    },
    /// A tensor has another element type than the network's.
    #[error("weights do not fit the network: {name} holds {found}, the network needs {expected}")]
    ElementType {
        /// The tensor.
        name: String,
        /// Its element type in the file.
        found: String,
        /// Its element type in the network.
        expected: String,
    },
    /// A forced policy names an option that does not exist.
    #[error("policy for layer {layer}: {problem}")]
    Plan {
        /// The layer's name or number.
        layer: String,
        /// What is wrong.
        problem: String,
    },
    /// libtorch refused.
    #[error("{doing}: libtorch refused")]
    Torch {
        /// What was attempted.
        doing: String,
        /// libtorch's own words.
        #[source]
        source: tch::TchError,
    },
}

/// At most five names, and how many more.
fn listing(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    format!("[{what} {}: {shown}{more}] ", names.len())
}
