//! The table of calls: which role may make them. A call that is not in it is refused to everybody.
//!
//! To add a service, add its calls here; a test compares the table with the `.proto` files. What depends on the
//! message - whose id it carries, which generation, which neighbour - is not here but in the handler, see
//! [`Caller`](crate::Caller).

use crate::identity::Role;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The call, as gRPC names it: `/package.Service/Method`.
    pub path: &'static str,
    /// The roles.
    pub roles: &'static [Role],
}

/// Returns the rule of a call, or `None` for a call that nobody may make.
pub fn rule(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

const WORKERS: &[Role] = &[Role::Worker];
const OPERATORS: &[Role] = &[Role::Operator];
const ANYONE: &[Role] = &[Role::Coordinator, Role::Worker, Role::Operator];

/// All calls.
pub const RULES: [Rule; 21] = [
    allow("/ringmaster.v1.CoordinatorService/GetRun", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Join", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Watch", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Heartbeat", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Report", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Leave", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Peers", WORKERS),
    allow("/ringmaster.v1.CoordinatorService/Status", OPERATORS),
    allow("/ringmaster.v1.OperatorService/Stop", OPERATORS),
    allow("/ringmaster.v1.OperatorService/Checkpoint", OPERATORS),
    allow("/ringmaster.v1.OperatorService/Survey", OPERATORS),
    allow("/ringmaster.v1.DoctorService/Examine", OPERATORS),
    allow("/ringmaster.v1.DoctorService/Swallow", WORKERS),
    // It makes a worker connect to others; the handler asks the coordinator where those are.
    allow("/ringmaster.v1.ProbeService/Probe", OPERATORS),
    allow("/ringmaster.v1.ArtifactService/Upload", WORKERS),
    allow("/ringmaster.v1.CheckpointService/Put", WORKERS),
    allow("/ringmaster.v1.CheckpointService/Get", WORKERS),
    // Of these only members of the generation; the handler knows who they are.
    allow("/ringmaster.v1.StateService/Fetch", WORKERS),
    // Of these only the left neighbour of the current generation; the handler knows which that is.
    allow("/ringmaster.v1.ExchangeService/Exchange", WORKERS),
    // Whether a process serves is no secret among those who hold a certificate.
    allow("/grpc.health.v1.Health/Check", ANYONE),
    allow("/grpc.health.v1.Health/Watch", ANYONE),
];

const fn allow(path: &'static str, roles: &'static [Role]) -> Rule {
    Rule { path, roles }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_protocol_has_one_rule_and_every_rule_a_call() {
        let mut known: Vec<_> = proto::CALLS.to_vec();
        known.extend(["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"]);
        let mut ruled: Vec<_> = RULES.iter().map(|rule| rule.path).collect();
        known.sort_unstable();
        ruled.sort_unstable();
        assert_eq!(ruled, known);
    }

    #[test]
    fn only_operators_may_stop() {
        let stop = rule("/ringmaster.v1.OperatorService/Stop").unwrap();
        assert_eq!(stop.roles, [Role::Operator]);
        assert_eq!(rule("/ringmaster.v1.OperatorService/Destroy"), None);
    }
}
