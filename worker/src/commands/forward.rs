//! `worker forward`: tensors in, tensors out, for checking numbers against anything.

use runtime::exit::{Code, WithCode};
use runtime::telemetry;

use super::network::{self, on_the_device};
use crate::args::ForwardArgs;
use crate::config::{DeviceChoice, NetworkChoice, PolicyChoice};
use crate::device::forward::{Forward, forward};

/// Loads, computes, writes.
pub async fn run(args: ForwardArgs) -> anyhow::Result<Code> {
    let choice = NetworkChoice::try_from(args.network).code(Code::Misconfigured)?;
    let wanted = Forward {
        policy: PolicyChoice::read(&args.policy).code(Code::Misconfigured)?,
        features: args.features,
        device: args.device.parse::<DeviceChoice>().code(Code::Misconfigured)?,
        input: args.input.display().to_string(),
    };
    let input = network::read(&args.input).code(Code::Misconfigured)?;
    let weights = network::load(&choice).await?;
    let done = on_the_device(move || forward(&weights, &input, &wanted)).await?;
    network::write(&args.output, &done.bytes)?;
    telemetry::print(format_args!("{}; written to {}", done.note, args.output.display()));
    Ok(Code::Done)
}
