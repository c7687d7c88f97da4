//! Who may call what, over real TLS: every call of the protocol by everybody who must not make it, and once by
//! somebody who may.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod members;
mod support;

use proto::{CALLS, RefusalKind};
use security::Role;
use security::Role::{Coordinator, Operator, Worker};
use tonic::{Code, Status};

use crate::support::{Cluster, Holder, TOKEN, call};

/// Each call, and the one role that may make it; none where every certificate will do.
const RIGHTS: [(&str, Option<Role>); 21] = [
    ("/ringmaster.v1.CoordinatorService/GetRun", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Join", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Watch", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Heartbeat", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Report", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Leave", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Peers", Some(Worker)),
    ("/ringmaster.v1.CoordinatorService/Status", Some(Operator)),
    ("/ringmaster.v1.ArtifactService/Upload", Some(Worker)),
    ("/ringmaster.v1.CheckpointService/Put", Some(Worker)),
    ("/ringmaster.v1.CheckpointService/Get", Some(Worker)),
    ("/ringmaster.v1.ExchangeService/Exchange", Some(Worker)),
    ("/ringmaster.v1.StateService/Fetch", Some(Worker)),
    ("/ringmaster.v1.OperatorService/Checkpoint", Some(Operator)),
    ("/ringmaster.v1.OperatorService/Survey", Some(Operator)),
    ("/ringmaster.v1.DoctorService/Examine", Some(Operator)),
    ("/ringmaster.v1.DoctorService/Swallow", Some(Worker)),
    ("/ringmaster.v1.ProbeService/Probe", Some(Operator)),
    ("/grpc.health.v1.Health/Check", None),
    ("/grpc.health.v1.Health/Watch", None),
    // Last, for it ends the run.
    ("/ringmaster.v1.OperatorService/Stop", Some(Operator)),
];

/// What a refused call must look like.
#[derive(Clone, Copy)]
enum Refused {
    /// There is no connection.
    ByTls,
    /// The call was answered with this.
    With(RefusalKind),
}

fn assert_refused(answer: Result<(), Status>, refused: Refused, what: &str) {
    let status = answer.expect_err(what);
    match refused {
        Refused::ByTls => {
            assert_eq!(RefusalKind::of(&status), None, "{what}: {status}");
            assert!(
                matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
                "{what}: {status}"
            );
        }
        Refused::With(kind) => assert_eq!(RefusalKind::of(&status), Some(kind), "{what}: {status}"),
    }
}

#[test]
fn the_table_holds_every_call() {
    let mut known: Vec<_> = RIGHTS
        .iter()
        .map(|right| right.0)
        .filter(|path| path.starts_with("/ringmaster"))
        .collect();
    let mut calls = CALLS.to_vec();
    known.sort_unstable();
    calls.sort_unstable();
    assert_eq!(known, calls);
}

#[tokio::test]
async fn nobody_gets_in_without_a_right_certificate_a_right_role_and_the_token() {
    let cluster = Cluster::start().await;
    let mut refused = 0;
    for (path, right) in RIGHTS {
        let role = right.unwrap_or(Worker);
        let holder = |name: &str| cluster.holder(role, name);
        let mut outsiders = vec![
            ("no certificate", None, Some(TOKEN), Refused::ByTls),
            (
                "other authority",
                Some(cluster.stranger(role)),
                Some(TOKEN),
                Refused::ByTls,
            ),
            (
                "expired",
                Some(cluster.expired(role)),
                Some(TOKEN),
                Refused::ByTls,
            ),
            (
                "not valid yet",
                Some(cluster.early(role)),
                Some(TOKEN),
                Refused::ByTls,
            ),
            (
                "wrong SAN",
                Some(cluster.nameless()),
                Some(TOKEN),
                Refused::With(RefusalKind::NotPermitted),
            ),
            (
                "wrong token",
                Some(holder("a")),
                Some("not-the-join-token"),
                Refused::With(RefusalKind::WrongToken),
            ),
            (
                "no token",
                Some(holder("a")),
                None,
                Refused::With(RefusalKind::WrongToken),
            ),
        ];
        let wrong = [Coordinator, Worker, Operator]
            .into_iter()
            .filter(|&role| right.is_some_and(|right| right != role));
        for role in wrong {
            outsiders.push((
                "wrong role",
                Some(cluster.holder(role, "a")),
                Some(TOKEN),
                Refused::With(RefusalKind::NotPermitted),
            ));
        }
        for (case, holder, token, expected) in outsiders {
            for address in cluster.servers_of(path) {
                let answer = call(address, holder.as_ref(), token, path).await;
                assert_refused(answer, expected, &format!("{path}, {case}"));
                refused += 1;
            }
        }
        // A client that does not speak TLS at all.
        for address in cluster.servers_of(path) {
            let answer = support::call_plainly(address, path).await;
            assert_refused(answer, Refused::ByTls, &format!("{path}, plain text"));
            refused += 1;
        }
    }
    println!("{refused} calls refused");

    // The same calls reach their handler when everything is right: the refusals above are not by accident.
    for (path, right) in RIGHTS {
        let holder: Holder = cluster.holder(right.unwrap_or(Operator), "a");
        for address in cluster.servers_of(path) {
            let answer = call(address, Some(&holder), Some(TOKEN), path).await;
            let kind = match &answer {
                Ok(()) => None,
                Err(status) => Some(RefusalKind::of(status).unwrap_or_else(|| panic!("{path}: {status}"))),
            };
            assert!(
                !matches!(
                    kind,
                    Some(RefusalKind::NotPermitted | RefusalKind::NotTheSender | RefusalKind::WrongToken)
                ),
                "{path}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_call_that_is_in_no_table_is_refused() {
    let cluster = Cluster::start().await;
    for role in [Coordinator, Worker, Operator] {
        let holder = cluster.holder(role, "a");
        let path = "/ringmaster.v1.CoordinatorService/Destroy";
        let answer = call(&cluster.coordinator, Some(&holder), Some(TOKEN), path).await;
        assert_refused(answer, Refused::With(RefusalKind::NotPermitted), path);
    }
}
