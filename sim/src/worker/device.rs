//! A device: does one job after the other, also for those who no longer wait; keeps its state from generation to generation.

use std::rc::Rc;

use cluster::{
    command::{Seat, Start},
    event::Fault,
    ids::GenerationNumber,
};
use tokio::{
    sync::{Mutex, oneshot},
    time::sleep,
};

use super::{
    Trouble,
    weights::{State, gradient},
};
use crate::{
    coordinator::{
        Home,
        rendezvous::{Endpoint, Part, StepPart, meet},
    },
    facts::Fact,
    process::Process,
    scenario::Bug,
    world::World,
};

/// The thread that owns a device.
pub(super) struct Device {
    process: Rc<Process>,
    on: Rc<Mutex<Trainer>>,
}

/// A step as it was applied, and what somebody wishes after it.
pub(super) struct Stepped {
    pub(super) step: u64,
    pub(super) pause: bool,
    pub(super) drain: bool,
}

/// What is on the device.
pub(super) struct Trainer {
    world: Rc<World>,
    process: Rc<Process>,
    home: Home,
    state: Option<State>,
    /// Not so while the state is taken over from another worker.
    is_whole: bool,
    group: Option<Endpoint>,
}

impl Device {
    pub(super) fn new(world: &Rc<World>, process: &Rc<Process>, home: &Home) -> Self {
        let trainer = Trainer {
            world: Rc::clone(world),
            process: Rc::clone(process),
            home: home.clone(),
            // Nothing, of a process that has just started.
            state: world.held.borrow().get(&process.number).copied(),
            is_whole: true,
            group: None,
        };
        Self { process: Rc::clone(process), on: Rc::new(Mutex::new(trainer)) }
    }

    /// Gives the device a job. It is done after all others, whether or not anybody waits for what comes of it.
    pub(super) fn call<R: 'static>(&self, job: impl AsyncFnOnce(&mut Trainer) -> R + 'static) -> oneshot::Receiver<R> {
        let (reply, done) = oneshot::channel();
        let on = Rc::clone(&self.on);
        self.process.spawn(async move {
            let mut trainer = on.lock().await;
            // Whoever asked may be gone.
            let _ = reply.send(job(&mut trainer).await);
        });
        done
    }

    /// The state after the last step.
    pub(super) fn snapshot(trainer: &mut Trainer) -> Result<State, Trouble> {
        trainer.state.ok_or_else(|| (Fault::Compute, "it holds no state".to_owned()))
    }
}

impl Trainer {
    /// Leaves the group and keeps the state.
    pub(super) fn halt(&mut self) -> Option<u64> {
        if let Some(group) = self.group.take() {
            group.leave();
        }
        self.peek()
    }

    /// Steps applied in the state that is held, if it is whole.
    pub(super) fn peek(&self) -> Option<u64> {
        self.state.filter(|_| self.is_whole).map(|state| state.step)
    }

    /// Joins the group of a seat and takes the state that it starts from.
    pub(super) async fn form(&mut self, seat: &Seat, loaded: Option<State>) -> Result<State, Trouble> {
        self.halt();
        self.prepare(&seat.assembly.start, loaded);
        let port = self.home.port(&self.world).ok_or_else(|| collective("the rendezvous is away".to_owned()))?;
        let process = Rc::clone(&self.process);
        let group = meet(&Rc::clone(&self.world), (&process, &port), seat).await.map_err(collective)?;
        let joined = self.join(&group, seat).await;
        match joined {
            Ok(state) => {
                self.group = Some(group);
                Ok(state)
            }
            Err(words) => {
                group.leave();
                Err(collective(words))
            }
        }
    }

    /// What this worker brings into a generation.
    fn prepare(&mut self, start: &Start, loaded: Option<State>) {
        let is_survivor = start.source().is_some();
        if is_survivor && self.state.is_some() {
            return;
        }
        let state = loaded.unwrap_or_else(|| State::seeded(self.world.scenario.plan.seed));
        self.hold(state, !is_survivor);
    }

    fn hold(&mut self, state: State, is_whole: bool) {
        (self.state, self.is_whole) = (Some(state), is_whole);
        let mut held = self.world.held.borrow_mut();
        match is_whole {
            true => drop(held.insert(self.process.number, state)),
            false => drop(held.remove(&self.process.number)),
        }
    }

    /// Takes the state over, and makes sure that all hold the same.
    async fn join(&mut self, group: &Endpoint, seat: &Seat) -> Result<State, String> {
        let mine = self.state.ok_or("it holds no state")?;
        if let (Some(source), false) = (seat.assembly.start.source(), group.is_alone()) {
            if source == seat.rank {
                if !self.is_whole {
                    return Err("others are to take over this worker's state, but it holds none".to_owned());
                }
                group.give(&Part::Shared(mine));
            } else {
                self.hold(mine, false);
                let limit = self.world.scenario.limits.collective;
                let wait = ("the state of a survivor", limit);
                let taken = self.world.limited(&self.process, wait, group.take(source)).await;
                let Part::Shared(state) = taken.ok_or("the state did not come")?? else {
                    return Err("something else than a state came".to_owned());
                };
                self.hold(if self.world.scenario.has(Bug::KeptState) { mine } else { state }, true);
            }
        }
        let state = self.state.ok_or("it holds no state")?;
        if self.world.scenario.has(Bug::KeptState) {
            return Ok(state);
        }
        group.give(&Part::Agreed(state));
        let all = group.take_all(&self.world).await?;
        let agrees = all.iter().all(|part| matches!(part, Part::Agreed(other) if *other == state));
        if agrees { Ok(state) } else { Err("the workers' states differ".to_owned()) }
    }

    /// Does a step on these positions and clips, with what this worker wishes after it: a pause, or to leave.
    pub(super) async fn step(
        &mut self,
        clips: Vec<(u64, u64)>,
        (pause, drain): (bool, bool),
        generation: GenerationNumber,
    ) -> Result<Stepped, Trouble> {
        let before = Device::snapshot(self)?;
        let time = self.world.scenario.step_time;
        sleep(time + self.world.between(0..=30) + self.world.knobs.slow_device.get()).await;
        let sum = clips.iter().fold(0_u64, |sum, (_, clip)| sum.wrapping_add(gradient(*clip)));
        let part = StepPart { step: before.step, sum, clips, pause, drain };
        let parts = self.sum(part).await?;
        let sum = parts.iter().fold(0_u64, |sum, part| sum.wrapping_add(part.sum));
        let clips: Vec<(u64, u64)> = parts.iter().flat_map(|part| part.clips.iter().copied()).collect();
        let after = before.applied(sum);
        self.hold(after, true);
        let member_of = self.group.as_ref().and_then(|group| group.member_of(&self.world));
        let worker = &self.process;
        self.world.say(&Fact::Applied { worker, member_of, generation, before, after, clips: &clips });
        let (pause, drain) = (parts.iter().any(|part| part.pause), parts.iter().any(|part| part.drain));
        Ok(Stepped { step: after.step, pause, drain })
    }

    /// The parts of all workers.
    async fn sum(&mut self, part: StepPart) -> Result<Vec<StepPart>, Trouble> {
        let group = self.group.as_ref().ok_or_else(|| collective("it is in no group".to_owned()))?;
        group.give(&Part::Step(part.clone()));
        let step = part.step;
        let of_step = |other: Part| match other {
            Part::Step(other) if other.step == step => Ok(other),
            _ => Err("the workers are not at the same step".to_owned()),
        };
        let others = group.take_all(&self.world).await;
        let others = others.and_then(|others| others.into_iter().map(of_step).collect::<Result<Vec<_>, _>>());
        match others {
            Ok(others) => Ok(std::iter::once(part).chain(others).collect()),
            Err(words) => Err(self.break_off(words)),
        }
    }

    /// The last part of an evaluation, which all do together.
    pub(super) async fn finish_evaluation(&mut self) -> Result<(), Trouble> {
        let group = self.group.as_ref().ok_or_else(|| collective("it is in no group".to_owned()))?;
        group.give(&Part::Evaluated);
        match group.take_all(&self.world).await {
            Ok(_) => Ok(()),
            Err(words) => Err(self.break_off(words)),
        }
    }

    /// A collective has failed: the group's connections close.
    fn break_off(&mut self, words: String) -> Trouble {
        if let Some(group) = self.group.take() {
            group.leave();
        }
        collective(words)
    }
}

fn collective(words: String) -> Trouble {
    (Fault::Collective, words)
}
