//! `worker export`: a network's weights for others.

use runtime::exit::{Code, WithCode};
use runtime::telemetry;

use super::network::{self, on_the_device};
use crate::args::{ExportArgs, ExportFormat};
use crate::config::{NetworkChoice, PolicyChoice};
use crate::device::export::{safetensors, torchscript};

/// Loads, writes, and says what others can do with it.
pub async fn run(args: ExportArgs) -> anyhow::Result<Code> {
    let choice = NetworkChoice::try_from(args.network).code(Code::Misconfigured)?;
    let policy = PolicyChoice::read(&args.policy).code(Code::Misconfigured)?;
    let weights = network::load(&choice).await?;
    let output = args.output.clone();
    let said = match args.format {
        ExportFormat::Safetensors => {
            let bytes = on_the_device(move || safetensors(&weights, args.backbone_only)).await?;
            network::write(&output, &bytes)?;
            "weights under published names, with a card"
        }
        ExportFormat::Torchscript => {
            on_the_device(move || torchscript(&weights, &policy, &args.output)).await?;
            "a TorchScript program: normalised clips [n, 3, t, h, w] in, logits [n, classes] out"
        }
    };
    telemetry::print(format_args!("{said}; written to {}", output.display()));
    Ok(Code::Done)
}
