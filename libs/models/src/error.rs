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
    /// The file of others is not read.
    #[error(transparent)]
    File(#[from] tensorfile::ReadError),
    /// Two tensors of a file would have one name.
    #[error("{name} stands for {published}, which the file has too")]
    Twice {
        /// In the file.
        name: String,
        /// As published.
        published: String,
    },
    /// A name is of no published network.
    #[error("there is no published network \"{name}\"; there are {known}")]
    NoSuchNetwork {
        /// As asked for.
        name: String,
        /// All of them.
        known: String,
    },
    /// The names in a file are of no network that is known here.
    #[error(
        "these are the weights of no network that vared has: {names}; its names are those of torchvision's and ig65m's R(2+1)D, and of PyTorchVideo's and PySlowFast's X3D and I3D"
    )]
    Unrecognised {
        /// Some of its names.
        names: String,
    },
    /// The head is for other classes.
    #[error("the weights' head is for {found} classes, {wanted} are asked for: let it start anew with --head new")]
    Head {
        /// In the file.
        found: i64,
        /// As asked for.
        wanted: i64,
    },
    /// The file does not say what network it is for.
    #[error("these weights have no card: `worker import` gives them one, or name the run that they come from")]
    NoCard,
    /// The file says impossible things about itself.
    #[error("reading the weights' card: {problem}; the file is damaged or of another version")]
    Card {
        /// What is wrong.
        problem: String,
    },
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
    /// A tensor that is exchanged with other programs is not what it should be.
    #[error("the tensor `{name}` {problem}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A forced policy names an option that does not exist.
    #[error("policy for layer {layer}: {problem}")]
    Plan {
        /// The layer's name or number.
        layer: String,
        /// What is wrong.
        problem: String,
    },
    /// The document of a forced policy is not one.
    #[error("reading a policy: {problem}; an example is {{\"*\": {{\"time\": 1, \"channel\": 0}}}}")]
    PolicyFile {
        /// What is wrong, and where.
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
