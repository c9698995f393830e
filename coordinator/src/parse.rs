//! From the wire to the deciding side's types and back.

use std::time::Duration;

use cluster::{
    command::{Order, Seat},
    event::{Event, Fault, Role, Stored},
    ids::{GenerationNumber, Member},
    report::{DataSet, Evaluation, Spread, StepReport, StepSeconds},
};
use proto::{
    coordinator::{self as wire, from_member, to_member},
    status::Refusal,
};

/// Who says hello.
pub fn hello(message: Option<wire::FromMember>) -> Result<(Member, Role), Refusal> {
    let Some(from_member::Event::Hello(hello)) = message.and_then(|message| message.event) else {
        return Err(Refusal::Invalid("the first message of a member must be `hello`".to_owned()));
    };
    let invalid = |error: cluster::ids::NameError| Refusal::Invalid(error.to_string());
    let role = match hello.kind() {
        wire::Kind::Worker => Role::Worker { device: hello.device },
        wire::Kind::Loader if hello.address.is_empty() => {
            return Err(Refusal::Invalid("a loader's `hello` must carry its address".to_owned()));
        }
        wire::Kind::Loader => Role::Loader { address: hello.address },
        wire::Kind::Unspecified => return Err(Refusal::Invalid("`hello` names no kind of member".to_owned())),
    };
    let name = hello.name.parse().map_err(invalid)?;
    let incarnation = hello.incarnation.parse().map_err(invalid)?;
    Ok((Member { name, incarnation }, role))
}

/// What a member's message means for the run. `None`: a sign of life and nothing more.
pub fn event(member: &Member, message: wire::FromMember) -> Result<Option<Event>, Refusal> {
    use from_member::Event as Wire;
    let member = member.clone();
    let event = match message.event {
        None | Some(Wire::Beat(_)) => return Ok(None),
        Some(Wire::Hello(_)) => return Err(Refusal::Invalid("a second `hello` in one stream".to_owned())),
        Some(Wire::DataSet(found)) => Event::DataFound { member, data_set: data_set(found) },
        Some(Wire::Formed(formed)) => {
            Event::Formed { member, generation: GenerationNumber(formed.generation), step: formed.step }
        }
        Some(Wire::Held(held)) => {
            Event::Held { member, generation: GenerationNumber(held.generation), step: held.step }
        }
        Some(Wire::StepDone(done)) => Event::StepDone(step_report(&done)),
        Some(Wire::Evaluated(done)) => Event::Evaluated(evaluation(&done)),
        Some(Wire::Stored(stored)) => Event::Stored(Stored {
            generation: GenerationNumber(stored.generation),
            step: stored.step,
            prefix: stored.prefix,
            manifest_digest: stored.manifest_digest,
        }),
        Some(Wire::Quarantined(found)) => Event::Quarantined { key: found.key, reason: found.reason },
        Some(Wire::Failed(failed)) => Event::Failed {
            member,
            generation: GenerationNumber(failed.generation),
            fault: fault(failed.fault())?,
            message: failed.message,
        },
        Some(Wire::Leaving(leaving)) => Event::Leaving { member, step: leaving.step },
        Some(Wire::Trained(done)) => {
            Event::Trained { member, generation: GenerationNumber(done.generation), step: done.step }
        }
    };
    Ok(Some(event))
}

fn fault(fault: wire::Fault) -> Result<Fault, Refusal> {
    match fault {
        wire::Fault::Unspecified => Err(Refusal::Invalid("`failed` names no kind of fault".to_owned())),
        wire::Fault::Configuration => Ok(Fault::Configuration),
        wire::Fault::Data => Ok(Fault::Data),
        wire::Fault::Collective => Ok(Fault::Collective),
        wire::Fault::Compute => Ok(Fault::Compute),
        wire::Fault::Checkpoint => Ok(Fault::Checkpoint),
    }
}

fn data_set(found: wire::DataSet) -> DataSet {
    let wire::DataSet { train_clips, val_clips, digest, classes } = found;
    DataSet { train_clips, val_clips, digest, classes }
}

fn step_report(done: &wire::StepDone) -> StepReport {
    let wire::Seconds { data_wait, compute, reduce } = done.seconds.unwrap_or_default();
    StepReport {
        generation: GenerationNumber(done.generation),
        step: done.step,
        loss: done.loss,
        top1: done.top1,
        gmacs: done.gmacs,
        gmacs_backbone: done.gmacs_backbone,
        learning_rate: done.learning_rate,
        clips: done.clips,
        seconds: StepSeconds { data_wait, compute, reduce },
    }
}

fn evaluation(done: &wire::Evaluated) -> Evaluation {
    let spread = |spread: Option<wire::Spread>| {
        let wire::Spread { avg, min, max } = spread.unwrap_or_default();
        Spread { avg, min, max }
    };
    Evaluation {
        generation: GenerationNumber(done.generation),
        step: done.step,
        epoch: done.epoch,
        clips: done.clips,
        loss: done.loss,
        top1: done.top1,
        gmacs_paper: spread(done.gmacs_paper),
        gmacs_all_in: spread(done.gmacs_all_in),
        gmacs_backbone: done.gmacs_backbone,
    }
}

/// An order as the member gets it.
pub fn order(order: Order) -> wire::ToMember {
    let command = match order {
        Order::Sit(seat) => to_member::Command::Generation(generation(&seat)),
        Order::Halt { generation, after_step } => {
            to_member::Command::Halt(wire::Halt { generation: generation.0, after_step })
        }
        Order::Committed(commit) => {
            to_member::Command::Committed(wire::Committed { step: commit.step, prefix: commit.prefix })
        }
        Order::Drain => to_member::Command::Drain(wire::Drain {}),
        Order::Stop { reason, code } => to_member::Command::Stop(wire::Stop { reason, code: code.into() }),
    };
    wire::ToMember { command: Some(command) }
}

fn generation(seat: &Seat) -> wire::Generation {
    let assembly = &seat.assembly;
    let DataSet { train_clips, val_clips, digest, classes } = assembly.data_set.clone();
    wire::Generation {
        number: assembly.generation.0,
        rank: seat.rank,
        world: u32::try_from(assembly.workers.len()).expect("a world is counted in u32"),
        first_lane: seat.lanes.start,
        lane_count: seat.lanes.end - seat.lanes.start,
        restore: assembly.start.prefix().unwrap_or_default().to_owned(),
        loaders: assembly.loaders.clone(),
        data_set: Some(wire::DataSet { train_clips, val_clips, digest, classes }),
        workers: assembly.workers.iter().map(|member| member.name.to_string()).collect(),
        source: assembly.start.source(),
    }
}

/// An answer to a sign of life.
pub fn beat() -> wire::ToMember {
    wire::ToMember { command: Some(to_member::Command::Beat(wire::Beat {})) }
}

/// Milliseconds on the wire; 0 never means "for ever".
pub fn wire_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(event: from_member::Event) -> wire::FromMember {
        wire::FromMember { event: Some(event) }
    }

    fn say_hello(change: impl FnOnce(&mut wire::Hello)) -> Result<(Member, Role), Refusal> {
        let mut said = wire::Hello {
            kind: wire::Kind::Loader.into(),
            name: "loader-0".to_owned(),
            incarnation: "6b0e".to_owned(),
            address: "http://127.0.0.1:1".to_owned(),
            device: String::new(),
        };
        change(&mut said);
        hello(Some(from(from_member::Event::Hello(said))))
    }

    #[test]
    fn a_good_hello_names_member_and_role() {
        let (member, role) = say_hello(|_| {}).expect("good");
        assert_eq!(member.to_string(), "loader-0/6b0e");
        assert_eq!(role, Role::Loader { address: "http://127.0.0.1:1".to_owned() });
    }

    #[test]
    fn a_bad_hello_is_invalid() {
        let bad = [
            say_hello(|hello| hello.name = "a/b".to_owned()),
            say_hello(|hello| hello.incarnation = String::new()),
            say_hello(|hello| hello.address = String::new()),
            say_hello(|hello| hello.kind = 0),
            hello(Some(from(from_member::Event::Beat(wire::Beat {})))),
            hello(None),
        ];
        for refusal in bad {
            assert!(matches!(refusal, Err(Refusal::Invalid(_))), "{refusal:?}");
        }
    }

    #[test]
    fn a_fault_without_a_kind_is_invalid() {
        let (member, _) = say_hello(|_| {}).expect("good");
        let failed = wire::Failed { generation: 0, fault: 0, message: String::new() };
        assert!(event(&member, from(from_member::Event::Failed(failed))).is_err());
    }

    #[test]
    fn a_beat_is_no_event() {
        let (member, _) = say_hello(|_| {}).expect("good");
        assert_eq!(event(&member, from(from_member::Event::Beat(wire::Beat {}))), Ok(None));
    }
}
