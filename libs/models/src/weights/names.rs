//! Names of parameters in the files of others, and the published ones that this crate uses.

use std::collections::BTreeMap;

use tensorfile::Tensor;

use crate::ModelError;

/// What wrappers put before every name: data-parallel training, a module that holds the network.
const PREFIXES: [&str; 2] = ["module.", "model."];

/// Whose names a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The published ones: torchvision's, VMZ's, ig65m's, PyTorchVideo's, our own.
    Published,
    /// PySlowFast's X3D and I3D.
    PySlowFast,
}

/// The tensors of a file under published names.
///
/// # Errors
/// If two names become one.
pub(super) fn published(
    tensors: BTreeMap<String, Tensor<'_>>,
) -> Result<(Writer, BTreeMap<String, Tensor<'_>>), ModelError> {
    let mut tensors = tensors;
    // Wrappers wrap wrappers: module.model.…
    while let Some(prefix) = PREFIXES.iter().find(|prefix| tensors.keys().all(|name| name.starts_with(**prefix))) {
        tensors = tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
        if tensors.is_empty() {
            break;
        }
    }
    if !tensors.keys().any(|name| name.starts_with("s1.pathway0_stem.")) {
        return Ok((Writer::Published, tensors));
    }
    let is_x3d = tensors.contains_key("s1.pathway0_stem.conv_xy.weight");
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        let to = from_pyslowfast(&name, is_x3d).unwrap_or_else(|| name.clone());
        if renamed.insert(to.clone(), tensor).is_some() {
            return Err(ModelError::Twice { name, published: to });
        }
    }
    Ok((Writer::PySlowFast, renamed))
}

/// PyTorchVideo's name of one of PySlowFast's; nothing if there is no such rule.
fn from_pyslowfast(name: &str, is_x3d: bool) -> Option<String> {
    let (stage, rest) = name.split_once('.')?;
    match stage {
        "s1" => stem(rest, is_x3d),
        "head" => head(rest, is_x3d),
        _ => residual(stage.strip_prefix('s')?.parse().ok()?, rest, is_x3d),
    }
}

fn stem(rest: &str, is_x3d: bool) -> Option<String> {
    let (part, parameter) = rest.strip_prefix("pathway0_stem.")?.rsplit_once('.')?;
    let part = match (part, is_x3d) {
        // PyTorchVideo stores the spatial convolution of X3D's stem under the name of the temporal one.
        ("conv_xy", true) => "conv.conv_t",
        ("conv", true) => "conv.conv_xy",
        ("conv", false) => "conv",
        ("bn", _) => "norm",
        _ => return None,
    };
    Some(format!("blocks.0.{part}.{parameter}"))
}

fn residual(stage: usize, rest: &str, is_x3d: bool) -> Option<String> {
    // I3D has a pool of its own after its first stage.
    let block = match (stage, is_x3d) {
        (2..=5, true) | (2, false) => stage - 1,
        (3..=5, false) => stage,
        _ => return None,
    };
    let (unit, part) = rest.strip_prefix("pathway0_res")?.split_once('.')?;
    let (part, parameter) = part.rsplit_once('.')?;
    let part = match part {
        "branch1" => "branch1_conv".to_owned(),
        "branch1_bn" => "branch1_norm".to_owned(),
        "branch2.b_bn" if is_x3d => "branch2.norm_b.0".to_owned(),
        "branch2.se.fc1" => "branch2.norm_b.1.block.0".to_owned(),
        "branch2.se.fc2" => "branch2.norm_b.1.block.2".to_owned(),
        _ => match part.strip_prefix("branch2.")? {
            conv @ ("a" | "b" | "c") => format!("branch2.conv_{conv}"),
            norm @ ("a_bn" | "b_bn" | "c_bn") => format!("branch2.norm_{}", &norm[..1]),
            _ => return None,
        },
    };
    Some(format!("blocks.{block}.res_blocks.{unit}.{part}.{parameter}"))
}

fn head(rest: &str, is_x3d: bool) -> Option<String> {
    let (part, parameter) = rest.rsplit_once('.')?;
    let part = match (part, is_x3d) {
        ("conv_5", true) => "5.pool.pre_conv",
        ("conv_5_bn", true) => "5.pool.pre_norm",
        ("lin_5", true) => "5.pool.post_conv",
        ("projection", true) => "5.proj",
        ("projection", false) => "6.proj",
        _ => return None,
    };
    Some(format!("blocks.{part}.{parameter}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pyslowfasts_x3d_gets_pytorchvideos_names() {
        for (from, to) in [
            ("s1.pathway0_stem.conv_xy.weight", "blocks.0.conv.conv_t.weight"),
            ("s1.pathway0_stem.conv.weight", "blocks.0.conv.conv_xy.weight"),
            ("s1.pathway0_stem.bn.running_mean", "blocks.0.norm.running_mean"),
            ("s2.pathway0_res0.branch1.weight", "blocks.1.res_blocks.0.branch1_conv.weight"),
            ("s2.pathway0_res0.branch1_bn.bias", "blocks.1.res_blocks.0.branch1_norm.bias"),
            ("s5.pathway0_res6.branch2.a.weight", "blocks.4.res_blocks.6.branch2.conv_a.weight"),
            ("s5.pathway0_res6.branch2.b_bn.weight", "blocks.4.res_blocks.6.branch2.norm_b.0.weight"),
            ("s3.pathway0_res4.branch2.se.fc1.bias", "blocks.2.res_blocks.4.branch2.norm_b.1.block.0.bias"),
            ("s3.pathway0_res4.branch2.se.fc2.weight", "blocks.2.res_blocks.4.branch2.norm_b.1.block.2.weight"),
            ("s4.pathway0_res10.branch2.c_bn.bias", "blocks.3.res_blocks.10.branch2.norm_c.bias"),
            ("head.conv_5.weight", "blocks.5.pool.pre_conv.weight"),
            ("head.conv_5_bn.bias", "blocks.5.pool.pre_norm.bias"),
            ("head.lin_5.weight", "blocks.5.pool.post_conv.weight"),
            ("head.projection.bias", "blocks.5.proj.bias"),
        ] {
            assert_eq!(from_pyslowfast(from, true).as_deref(), Some(to), "{from}");
        }
    }

    #[test]
    fn pyslowfasts_i3d_gets_pytorchvideos_names() {
        for (from, to) in [
            ("s1.pathway0_stem.conv.weight", "blocks.0.conv.weight"),
            ("s2.pathway0_res0.branch1.weight", "blocks.1.res_blocks.0.branch1_conv.weight"),
            ("s3.pathway0_res3.branch2.b_bn.bias", "blocks.3.res_blocks.3.branch2.norm_b.bias"),
            ("s5.pathway0_res2.branch2.c.weight", "blocks.5.res_blocks.2.branch2.conv_c.weight"),
            ("head.projection.weight", "blocks.6.proj.weight"),
        ] {
            assert_eq!(from_pyslowfast(from, false).as_deref(), Some(to), "{from}");
        }
        for unknown in ["s6.pathway0_res0.branch1.weight", "s2.pathway1_res0.branch1.weight", "head.lin_5.weight", "x"]
        {
            assert_eq!(from_pyslowfast(unknown, false), None, "{unknown}");
        }
    }
}
