//! Where members dial a coordinator, and what is said on their streams.

use std::rc::Rc;

use cluster::{
    command::Order,
    event::{Event, Loss, Role},
    ids::Member,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::rendezvous::Rendezvous;
use crate::{network::Stream, process::Process, world::World};

/// From a member.
#[derive(Debug, Clone)]
pub enum Up {
    /// A sign of life.
    Beat,
    /// Something happened.
    Event(Event),
}

/// To a member.
#[derive(Debug, Clone)]
pub enum Down {
    /// It is taken in.
    Welcome,
    /// What it is to do.
    Order(Order),
    /// The answer to a sign of life.
    Beat,
}

/// A member's stream.
pub type Link = Rc<Stream<Up, Down>>;

/// What the coordinator's run hears.
pub enum RunMsg {
    /// Something happened.
    Happened(Event),
    /// A member wants in.
    Admit(Admission),
    /// The session of this number is over.
    SessionOver(u64, Loss),
}

/// A member that wants in.
pub struct Admission {
    /// Who.
    pub member: Member,
    /// What for.
    pub role: Role,
    /// Its process.
    pub process: Rc<Process>,
    /// Its stream.
    pub link: Link,
    /// Whether it is taken in.
    pub reply: oneshot::Sender<bool>,
}

/// Messages that wait for the run. Far more than there ever are.
pub const INBOX: usize = 4096;

/// A coordinator that listens.
pub struct Port {
    /// It.
    pub process: Rc<Process>,
    /// Its run.
    pub inbox: mpsc::Sender<RunMsg>,
    /// Where its generations meet.
    pub rendezvous: Rc<Rendezvous>,
}

/// Whom a member dials.
#[derive(Clone)]
pub enum Home {
    /// The coordinator that launched it.
    Parent(Rc<Port>),
    /// Whoever the cluster's service leads to.
    Service,
}

impl Home {
    /// The port that is dialled now.
    pub fn port(&self, world: &World) -> Option<Rc<Port>> {
        match self {
            Self::Parent(port) => Some(Rc::clone(port)),
            Self::Service => world.service(),
        }
    }

    /// A process as a member of a run.
    pub fn member(&self, process: &Process) -> Member {
        Member {
            name: process.seat.parse().expect("seats are named by us"),
            incarnation: format!("p{}", process.number).parse().expect("a good name"),
        }
    }
}

/// Why a member is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody answers.
    Away,
    /// The run is stopping.
    Stale,
}

/// Opens a stream and says who is there.
pub async fn dial(world: &Rc<World>, who: (&Rc<Process>, &Home), role: Role) -> Result<Link, Refusal> {
    let (process, home) = who;
    let port = home.port(world).ok_or(Refusal::Away)?;
    let link: Link = world.network.stream(process, &port.process);
    let call = async {
        world.network.trip(process, &port.process).await;
        let (reply, answer) = oneshot::channel();
        let (member, process, link) = (home.member(process), Rc::clone(process), Rc::clone(&link));
        let admission = Admission { member, role, process, link, reply };
        port.inbox.try_send(RunMsg::Admit(admission)).map_err(|_| Refusal::Away)?;
        let is_in = answer.await.map_err(|_| Refusal::Away)?;
        world.network.trip(&port.process, who.0).await;
        if is_in { Ok(()) } else { Err(Refusal::Stale) }
    };
    let answered = timeout(world.scenario.limits.patience, call).await.unwrap_or(Err(Refusal::Away));
    answered.inspect_err(|_| link.close())?;
    Ok(link)
}
