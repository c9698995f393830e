//! A coordinator's process: the real machine of `libs/cluster`, and around it what the actors of `coordinator/` do.

pub mod keeper;
pub mod port;
pub mod rendezvous;
mod session;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use cluster::{
    command::{Command, Order},
    event::{ChildEnd, Event, Exit, Loss},
    ids::{Member, MemberName},
    ledger::Entry,
    run::{Policy, Run},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

pub use port::{Home, Port};

use crate::{
    facts::Fact,
    loader,
    process::Process,
    scenario::{Bug, Deployment},
    worker,
    world::World,
};
use keeper::Prepared;
use port::{Admission, Down, INBOX, Link, RunMsg};

/// Processes that a coordinator has launched, by seat.
type Children = Rc<RefCell<BTreeMap<MemberName, Rc<Process>>>>;

/// Starts a coordinator on a host.
pub fn start(world: &Rc<World>, host: &str) -> Rc<Process> {
    let process = world.start("coordinator", host);
    let children = Children::default();
    reap(world, &process, &children);
    let (its_world, its_process) = (Rc::clone(world), Rc::clone(&process));
    process.spawn(async move {
        let code = live(&its_world, &its_process, &children).await;
        its_world.end(&its_process, Exit::Code(code));
    });
    process
}

/// What it launched dies with it.
fn reap(world: &Rc<World>, process: &Rc<Process>, children: &Children) {
    let (world, process, children) = (Rc::clone(world), Rc::clone(process), Rc::clone(children));
    tokio::task::spawn_local(async move {
        process.until_ended().await;
        for child in children.take().into_values() {
            world.end(&child, Exit::Signal(9));
        }
    });
}

async fn live(world: &Rc<World>, process: &Rc<Process>, children: &Children) -> u8 {
    sleep(world.between(50..=300)).await;
    let prepared = match keeper::prepare(world, process).await {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let (inbox, messages) = mpsc::channel(INBOX);
    let port = Rc::new(Port { process: Rc::clone(process), inbox, rendezvous: Rc::default() });
    world.ports.borrow_mut().push(Rc::clone(&port));
    let mut coordinator = Coordinator::new(world, port, children, prepared);
    let code = coordinator.run(messages).await;
    release(world, children).await;
    code
}

/// Waits for launched processes to end; kills them after `patience`.
async fn release(world: &Rc<World>, children: &Children) {
    let running: Vec<Rc<Process>> = children.borrow().values().cloned().collect();
    let all = async {
        for child in &running {
            child.until_ended().await;
        }
    };
    if timeout(world.scenario.limits.patience, all).await.is_err() {
        running.iter().for_each(|child| world.end(child, Exit::Signal(9)));
    }
    // The last words leave.
    sleep(Duration::from_millis(50)).await;
}

struct Session {
    number: u64,
    link: Link,
    process: Rc<Process>,
    task: AbortHandle,
}

struct Coordinator {
    world: Rc<World>,
    process: Rc<Process>,
    port: Rc<Port>,
    run: Run,
    began: Instant,
    sessions: BTreeMap<Member, Session>,
    opened: u64,
    keeper: mpsc::Sender<Entry>,
    children: Children,
    admitting: Option<oneshot::Sender<bool>>,
    ended: Option<u8>,
}

impl Coordinator {
    fn new(world: &Rc<World>, port: Rc<Port>, children: &Children, prepared: Prepared) -> Self {
        let Prepared { journal, ledger, recipe } = prepared;
        let (keeper, entries) = mpsc::channel(INBOX);
        let process = Rc::clone(&port.process);
        process.spawn(keeper::keep(journal, entries, (port.inbox.clone(), world.scenario.limits.patience)));
        Self {
            run: Run::new(policy(world), recipe, ledger),
            world: Rc::clone(world),
            process,
            port,
            began: Instant::now(),
            sessions: BTreeMap::new(),
            opened: 0,
            keeper,
            children: Rc::clone(children),
            admitting: None,
            ended: None,
        }
    }

    /// Until the run is over for this coordinator; its exit code.
    async fn run(&mut self, mut messages: mpsc::Receiver<RunMsg>) -> u8 {
        self.decide(Event::Started);
        let every = self.world.scenario.limits.settle / 2;
        let mut tick = Instant::now() + every;
        let process = Rc::clone(&self.process);
        loop {
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(RunMsg::Happened(event)) => self.decide(event),
                    Some(RunMsg::Admit(admission)) => self.admit(admission),
                    Some(RunMsg::SessionOver(number, loss)) => self.lose(number, loss),
                    // It holds a sender itself.
                    None => return 1,
                },
                () = process.until_terminated() => self.decide(Event::DrainAsked { by: "SIGTERM".to_owned() }),
                () = sleep_until(tick) => {
                    tick = Instant::now() + every;
                    self.decide(Event::Tick);
                }
            }
            if let Some(code) = self.ended {
                return code;
            }
        }
    }

    fn decide(&mut self, event: Event) {
        if let Event::Leaving { member, .. } | Event::Lost { member, .. } = &event {
            self.part_with(member);
        }
        let mut commands = self.run.on(event.clone(), self.began.elapsed());
        if let (Some(Command::End { code, .. }), true) = (commands.last_mut(), self.world.scenario.has(Bug::HastyExit))
        {
            *code = 0;
        }
        let seats = commands.iter().any(|command| matches!(command, Command::Order(_, Order::Sit(_))));
        let holders = if seats { self.holders() } else { Vec::new() };
        let fact = Fact::Decided {
            coordinator: &self.process,
            event: &event,
            commands: &commands,
            run: &self.run,
            holders: &holders,
        };
        self.world.say(&fact);
        commands.into_iter().for_each(|command| self.execute(command));
    }

    /// Who holds a whole state, is connected, and is neither leaving nor told to go.
    fn holders(&self) -> Vec<(Member, u64)> {
        let (held, members) = (self.world.held.borrow(), self.world.members.borrow());
        let is_member = |session: &Session| members.contains(&(self.process.number, session.process.number));
        let sessions = self.sessions.iter().filter(|(_, session)| is_member(session));
        sessions
            .filter_map(|(member, session)| Some((member.clone(), held.get(&session.process.number)?.step)))
            .collect()
    }

    /// A member is gone, goes, or was told to.
    fn part_with(&self, member: &Member) {
        let number =
            member.incarnation.as_str().trim_start_matches('p').parse().expect("incarnations are numbers of ours");
        self.world.members.borrow_mut().remove(&(self.process.number, number));
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Welcome(member) => {
                self.send(&member, Down::Welcome);
                self.answer(true);
            }
            Command::Refuse(member, _) => {
                if let Some(session) = self.sessions.remove(&member) {
                    session.close();
                }
                self.answer(false);
            }
            Command::Record(entry) => drop(self.keeper.try_send(entry)),
            Command::OpenRendezvous(generation) => self.port.rendezvous.open(generation),
            Command::CloseRendezvous { generation, .. } => self.port.rendezvous.close(generation),
            Command::Verify(_) | Command::Delete(_) => unreachable!("the policy keeps every checkpoint"),
            Command::Order(member, order) => {
                if matches!(order, Order::Stop { .. }) {
                    self.part_with(&member);
                }
                self.send(&member, Down::Order(order));
            }
            Command::Launch { child, after } => self.launch(child, after),
            Command::Kill(child) => {
                if let Some(process) = self.children.borrow().get(&child) {
                    self.world.end(process, Exit::Signal(9));
                }
            }
            Command::Tell(_) => {}
            Command::End { code, .. } => self.ended = Some(code),
        }
    }

    fn answer(&mut self, is_in: bool) {
        if let Some(reply) = self.admitting.take() {
            // It may have stopped waiting: then its stream is at its end.
            let _ = reply.send(is_in);
        }
    }

    fn send(&self, member: &Member, message: Down) {
        if let Some(session) = self.sessions.get(member) {
            session.link.down.send(message);
        }
    }

    fn admit(&mut self, Admission { member, role, process, link, reply }: Admission) {
        self.opened += 1;
        let number = self.opened;
        let limits = self.world.scenario.limits;
        self.world.members.borrow_mut().insert((self.process.number, process.number));
        let task = self.process.spawn(session::attend(Rc::clone(&link), number, self.port.inbox.clone(), limits));
        // The same process may come back on a new stream before the old one is known to be broken.
        if let Some(old) = self.sessions.insert(member.clone(), Session { number, link, process, task }) {
            old.close();
        }
        self.admitting = Some(reply);
        self.decide(Event::Joined { member, role });
    }

    fn lose(&mut self, number: u64, loss: Loss) {
        let owner = self.sessions.iter().find(|(_, session)| session.number == number);
        let Some(member) = owner.map(|(member, _)| member.clone()) else { return };
        self.sessions.remove(&member);
        self.decide(Event::Lost { member, loss });
    }

    /// Starts a process after a pause, and says when it has ended.
    fn launch(&self, child: MemberName, after: Duration) {
        let (world, port, children) = (Rc::clone(&self.world), Rc::clone(&self.port), Rc::clone(&self.children));
        self.process.spawn(async move {
            sleep(after).await;
            let (seat, home) = (child.as_str(), Home::Parent(Rc::clone(&port)));
            let process = match seat.starts_with("worker") {
                true => worker::start(&world, seat, &port.process.host, home),
                false => loader::start(&world, seat, &port.process.host, home),
            };
            children.borrow_mut().insert(child.clone(), Rc::clone(&process));
            let how = process.until_ended().await;
            let end = ChildEnd { how, last_line: None, log: format!("{child}.log") };
            // A run that is over needs no news.
            let _ = port.inbox.try_send(RunMsg::Happened(Event::ChildEnded { child, end }));
        });
    }
}

impl Session {
    fn close(&self) {
        self.task.abort();
        self.link.close();
    }
}

fn policy(world: &World) -> Policy {
    let scenario = &world.scenario;
    let workers = (0..scenario.workers + scenario.spares).map(|i| format!("worker-{i}"));
    let loaders = (0..scenario.loaders).map(|i| format!("loader-{i}"));
    let seats = loaders.chain(workers).map(|seat| seat.parse().expect("a good name"));
    Policy {
        workers: scenario.workers,
        min_workers: scenario.min_workers,
        children: if scenario.deployment == Deployment::Local { seats.collect() } else { Vec::new() },
        limits: scenario.limits,
        restarts: 3,
        retention: None,
    }
}
