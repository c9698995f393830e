//! A loader: speaks with the coordinator as `dataloader/src/actors/session.rs` does, and gives out clips by the plan.

use std::{rc::Rc, time::Duration};

use cluster::{
    command::Order,
    event::{Event, Exit, Role},
    ids::Member,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    coordinator::{
        Home,
        port::{Down, Link, Refusal, Up, dial},
    },
    process::Process,
    scenario::Deployment,
    world::World,
};

/// Where a loader serves clips.
pub struct Shelf {
    process: Rc<Process>,
}

/// Starts a loader in a seat.
pub fn start(world: &Rc<World>, seat: &str, host: &str, home: Home) -> Rc<Process> {
    let process = world.start(seat, host);
    // On one machine a new process gets a new port.
    let address = match world.scenario.deployment {
        Deployment::Local => format!("http://{process}"),
        Deployment::Cluster => format!("http://{seat}"),
    };
    let loader = Loader { world: Rc::clone(world), process: Rc::clone(&process), home, address };
    process.spawn(async move { loader.live().await });
    process
}

struct Loader {
    world: Rc<World>,
    process: Rc<Process>,
    home: Home,
    address: String,
}

impl Loader {
    async fn live(self) {
        sleep(self.world.between(50..=800)).await;
        let shelf = Rc::new(Shelf { process: Rc::clone(&self.process) });
        self.world.shelves.borrow_mut().insert(self.address.clone(), shelf);
        let code = self.serve().await;
        self.world.end(&self.process, Exit::Code(code));
    }

    /// Joins, again and again, until it is told to stop or nobody was there for `patience`.
    async fn serve(&self) -> u8 {
        let patience = self.world.scenario.limits.patience;
        let (mut heard, mut failures) = (Instant::now(), 0_u32);
        loop {
            let role = Role::Loader { address: self.address.clone() };
            let dialled = tokio::select! {
                biased;
                () = self.process.until_terminated() => return 0,
                dialled = dial(&self.world, (&self.process, &self.home), role) => dialled,
            };
            match dialled {
                Ok(link) => {
                    heard = Instant::now();
                    if let Some(code) = self.speak(&link, &mut heard).await {
                        return code;
                    }
                    link.close();
                }
                Err(Refusal::Stale) => return 0,
                Err(Refusal::Away) => {}
            }
            if heard.elapsed() > patience {
                return 75;
            }
            failures = (failures + 1).min(5);
            sleep((Duration::from_millis(50) * 2_u32.pow(failures)).min(patience / 4)).await;
        }
    }

    /// One stream, until it ends; the exit code if it was told to go.
    async fn speak(&self, link: &Link, heard: &mut Instant) -> Option<u8> {
        let limits = self.world.scenario.limits;
        let mut beat = Instant::now() + limits.beat;
        let mut opened: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = self.process.until_terminated() => {
                    link.up.send(Up::Event(Event::Leaving { member: self.member(), step: 0 }));
                    sleep(Duration::from_millis(20)).await;
                    return Some(0);
                }
                down = link.down.recv() => {
                    *heard = Instant::now();
                    match down? {
                        Down::Welcome => opened = Some(Instant::now() + self.world.between(20..=2_000)),
                        Down::Order(Order::Stop { code, .. }) => return Some(code),
                        Down::Order(_) | Down::Beat => {}
                    }
                }
                () = sleep_until(opened.unwrap_or(beat)), if opened.is_some() => {
                    opened = None;
                    let data_set = self.world.scenario.data_set.clone();
                    link.up.send(Up::Event(Event::DataFound { member: self.member(), data_set }));
                }
                () = sleep_until(beat) => {
                    if heard.elapsed() > limits.patience {
                        return None;
                    }
                    link.up.send(Up::Beat);
                    beat = Instant::now() + limits.beat;
                }
            }
        }
    }

    fn member(&self) -> Member {
        self.home.member(&self.process)
    }
}

/// Asks a loader for the clips at some positions; `None` if it is not there, or ends before it has answered.
pub async fn ask(world: &Rc<World>, asker: &Process, url: &str, positions: Vec<u64>) -> Option<Vec<u64>> {
    let shelf = world.shelves.borrow().get(url).cloned()?;
    world.network.trip(asker, &shelf.process).await;
    let (reply, answer) = oneshot::channel();
    let plan = world.scenario.plan;
    let time = world.between(5..=40) + world.knobs.slow_loader.get();
    // Rendered in the loader: one that is stopped answers when it goes on.
    shelf.process.spawn(async move {
        sleep(time).await;
        // Whoever asked may have gone elsewhere.
        let _ = reply.send(positions.into_iter().map(|position| plan.clip_at(position)).collect());
    });
    let clips = answer.await.ok()?;
    world.network.trip(&shelf.process, asker).await;
    Some(clips)
}
