//! What keeps a run safe on a cluster: the complaints about a set of objects that lacks some of it.

use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyPeer};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::{kind, pods_and_jobs};

/// What is wrong with a set of objects; empty when nothing is.
pub(crate) type Complaints = Vec<String>;

/// Returns what some objects lack.
pub(crate) fn check(objects: &[Value]) -> Complaints {
    let mut complaints = Complaints::new();
    let (pods, jobs) = pods_and_jobs(objects);
    for pod in &pods {
        complaints.extend(check_pod(pod));
    }
    for job in &jobs {
        complaints.extend(check_job(job));
    }
    let mut want = |holds: bool, what: &str| {
        if !holds {
            complaints.push(what.to_owned());
        }
    };
    want(pods.len() == 2, "a coordinator and workers");
    let policies = objects.iter().filter(|object| kind(object) == "NetworkPolicy");
    let closed = |policy: &Value| policy["spec"]["podSelector"] == serde_json::json!({});
    want(
        policies.clone().any(closed),
        "a network policy that closes everything else",
    );
    let specs = policies.map(|policy| {
        let policy: NetworkPolicy = serde_json::from_value(policy.clone()).unwrap();
        policy.spec.unwrap()
    });
    let of_workers = specs.filter(|spec| is_labelled(spec.pod_selector.as_ref(), "worker"));
    let mut rules = of_workers.flat_map(|spec| spec.egress.unwrap_or_default());
    want(
        rules.any(|rule| opens_dns(&rule)),
        "a way from workers to the DNS",
    );
    let budgets = objects
        .iter()
        .filter(|object| kind(object) == "PodDisruptionBudget");
    let budgets: Vec<PodDisruptionBudget> = budgets
        .map(|budget| serde_json::from_value(budget.clone()).unwrap())
        .collect();
    want(budgets.len() == 2, "a disruption budget for each kind of pod");
    let specs = budgets.into_iter().filter_map(|budget| budget.spec);
    let mut of_workers = specs.filter(|spec| is_labelled(spec.selector.as_ref(), "worker"));
    let workers = jobs.iter().filter_map(|job| job.completions).max();
    let least = workers.map(|workers| IntOrString::Int(workers - 1));
    // By maxUnavailable no pod of a Job can be evicted: the budget cannot ask how many there should be.
    want(
        of_workers.all(|spec| spec.max_unavailable.is_none() && spec.min_available == least),
        "a budget that lets one worker go",
    );
    want(
        !objects.iter().any(|object| kind(object) == "Namespace"),
        "no namespace: it would take the results with it",
    );
    complaints
}

/// Whether a selector takes the pods of one of our components.
fn is_labelled(selector: Option<&LabelSelector>, component: &str) -> bool {
    let labels = selector.and_then(|selector| selector.match_labels.as_ref());
    labels.is_some_and(|labels| {
        labels
            .get("app.kubernetes.io/component")
            .is_some_and(|label| label == component)
    })
}

/// Whether a rule lets questions through to a cluster's DNS.
fn opens_dns(rule: &NetworkPolicyEgressRule) -> bool {
    let opens = |protocol: &str| {
        let mut ports = rule.ports.iter().flatten();
        ports
            .any(|port| port.protocol.as_deref() == Some(protocol) && port.port == Some(IntOrString::Int(53)))
    };
    opens("UDP") && opens("TCP") && rule.to.iter().flatten().any(is_dns)
}

/// Whether these are the pods of a cluster's DNS, which have one label of theirs and none of ours.
fn is_dns(peer: &NetworkPolicyPeer) -> bool {
    let takes = |selector: &Option<LabelSelector>, key: &str, value: &str| {
        let selector = selector.clone().unwrap_or_default();
        let labels = selector.match_labels.unwrap_or_default();
        let expressions = selector.match_expressions.unwrap_or_default();
        labels
            .iter()
            .all(|label| (&**label.0, &**label.1) == (key, value))
            && expressions.iter().all(|expression| {
                expression.key == key
                    && expression.operator == "In"
                    && expression.values.iter().flatten().any(|word| word == value)
            })
    };
    peer.namespace_selector.is_some()
        && takes(
            &peer.namespace_selector,
            "kubernetes.io/metadata.name",
            "kube-system",
        )
        && takes(&peer.pod_selector, "k8s-app", "kube-dns")
}

fn check_pod(template: &PodTemplateSpec) -> Complaints {
    let mut complaints = Complaints::new();
    let pod = template.spec.as_ref().unwrap();
    let container = &pod.containers[0];
    let mut want = |holds: bool, what: &str| {
        if !holds {
            complaints.push(format!("{}: {what}", container.name));
        }
    };
    let security = pod.security_context.clone().unwrap_or_default();
    want(security.run_as_non_root == Some(true), "runAsNonRoot");
    want(
        security.run_as_user.is_some_and(|user| user > 0),
        "a numeric user that is not root",
    );
    want(security.seccomp_profile.is_some(), "a seccomp profile");
    want(
        pod.termination_grace_period_seconds == Some(120),
        "a grace period of 120 s",
    );
    want(
        pod.automount_service_account_token == Some(false),
        "no service account token",
    );
    let own = container.security_context.clone().unwrap_or_default();
    want(
        own.read_only_root_filesystem == Some(true),
        "a read-only root file system",
    );
    want(
        own.allow_privilege_escalation == Some(false),
        "no privilege escalation",
    );
    let dropped = own.capabilities.and_then(|capabilities| capabilities.drop);
    want(dropped == Some(vec!["ALL".to_owned()]), "no capabilities");
    let resources = container.resources.clone().unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    want(limits.contains_key("memory"), "a memory limit");
    want(
        resources.requests.unwrap_or_default().contains_key("cpu"),
        "a request for CPU",
    );
    let arguments = container.args.clone().unwrap_or_default();
    want(
        arguments.iter().any(|argument| argument.starts_with("--certs=")),
        "certificates",
    );
    want(
        !arguments.iter().any(|argument| argument.contains("insecure")),
        "no plain text",
    );
    let is_coordinator = arguments.first().is_some_and(|word| word == "coordinator");
    let starts = &container.startup_probe;
    want(
        starts.is_none() == is_coordinator,
        "a startup probe, if it is a worker: a coordinator may only tell of a run that has ended",
    );
    want(
        is_coordinator
            || arguments
                .iter()
                .any(|argument| argument.starts_with("--drained-exit-code=") && !argument.ends_with("=0")),
        "an exit code that is not 0 for a worker that has handed over",
    );
    for probe in [&container.readiness_probe]
        .into_iter()
        .chain(starts.is_some().then_some(starts))
    {
        let command = probe
            .as_ref()
            .and_then(|probe| probe.exec.as_ref())
            .and_then(|exec| exec.command.clone())
            .unwrap_or_default();
        want(
            command.get(1).is_some_and(|word| word == "health"),
            "probes by `ringmaster health`",
        );
        // A worker is asked itself, so its health does not depend on the coordinator.
        let elsewhere = command.iter().any(|word| word.contains("coordinator"));
        want(!elsewhere, "probes that ask the container itself");
    }
    want(
        container.liveness_probe.is_none(),
        "no liveness probe: it would kill a slow step",
    );
    complaints
}

fn check_job(job: &JobSpec) -> Complaints {
    let mut complaints = Complaints::new();
    let name = job.template.spec.as_ref().unwrap().containers[0].name.clone();
    let mut want = |holds: bool, what: &str| {
        if !holds {
            complaints.push(format!("{name}: {what}"));
        }
    };
    want(
        job.pod_replacement_policy.as_deref() == Some("Failed"),
        "podReplacementPolicy Failed",
    );
    if name == "worker" {
        want(
            job.completion_mode.as_deref() == Some("Indexed"),
            "an Indexed Job",
        );
        want(
            job.completions.is_some() && job.completions == job.parallelism,
            "all workers at once",
        );
        want(job.backoff_limit_per_index.is_some(), "backoffLimitPerIndex");
        let rules = job
            .pod_failure_policy
            .clone()
            .map(|policy| policy.rules)
            .unwrap_or_default();
        let ignores = rules.iter().any(|rule| {
            rule.action == "Ignore"
                && rule
                    .on_pod_conditions
                    .iter()
                    .flatten()
                    .any(|condition| condition.type_ == "DisruptionTarget")
        });
        want(ignores, "a failure policy that ignores disruptions");
        let fails = rules.iter().any(|rule| {
            rule.action == "FailJob" && rule.on_exit_codes.as_ref().is_some_and(|on| on.values == [2])
        });
        want(fails, "a failure policy that fails on bad configuration");
        let goes_on = rules.iter().any(|rule| {
            rule.action == "Ignore" && rule.on_exit_codes.as_ref().is_some_and(|on| on.values == [75])
        });
        want(goes_on, "a failure policy that ignores who was asked to end");
    }
    complaints
}
