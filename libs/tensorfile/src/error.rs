//! Why a file is not read.

use thiserror::Error;

/// Why a file is not read. One line each; nothing of the file has been run in any case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The first bytes are of no format that is read here.
    #[error("neither PyTorch's torch.save (.pth, .pyth, .pt) nor safetensors wrote this file")]
    Unknown,
    /// The file wants something of Python that is neither a tensor nor a plain container.
    #[error(
        "the file asks for Python's `{name}`: only tensors and plain containers are read, and nothing of it was run; \
         save the state dict alone, torch.save(model.state_dict(), FILE)"
    )]
    Refused {
        /// Module and name.
        name: String,
    },
    /// The file is not what its format says.
    #[error("the file is damaged, or not a state dict: {problem}")]
    Damaged {
        /// What is wrong, and where.
        problem: String,
    },
    /// A tensor is not what it says.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// Its name in the file.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no state dict where one is looked for.
    #[error("no state dict found, neither at the top nor under model_state or state_dict: {found}")]
    NoStateDict {
        /// What there is instead.
        found: String,
    },
}

impl ReadError {
    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged { problem: problem.into() }
    }
}

/// A text of the file, for a message: short, in one line.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let short: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() { short + "…" } else { short }
}
