//! The Kubernetes manifests: every overlay builds, its objects have the types that they say, and nobody drops what keeps
//! a run safe. Needs `kubectl`, and is ignored without being asked for; .ci/run asks.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod safeguards;

use std::process::Command;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolumeClaim, PodTemplateSpec, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::Value;

use self::safeguards::{Complaints, check};

const OVERLAYS: [&str; 5] = ["cpu", "gpu", "jobset", "kueue", "mtls"];

/// Kinds that are not part of Kubernetes itself, for which there are no types here.
const OTHERS: [&str; 6] = [
    "Certificate",
    "ClusterQueue",
    "Issuer",
    "JobSet",
    "LocalQueue",
    "ResourceFlavor",
];

fn build(overlay: &str) -> Vec<Value> {
    let folder = format!("{}/../deploy/k8s/overlays/{overlay}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("kubectl")
        .args(["kustomize", &folder])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{overlay}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap()
}

/// Reads the object as its kind.
fn typed(object: &Value) -> Result<(), serde_json::Error> {
    fn read<T: for<'a> serde::Deserialize<'a>>(object: &Value) -> Result<(), serde_json::Error> {
        serde_json::from_value::<T>(object.clone()).map(drop)
    }
    match kind(object) {
        "ConfigMap" => read::<ConfigMap>(object),
        "Job" => read::<Job>(object),
        "NetworkPolicy" => read::<NetworkPolicy>(object),
        "PersistentVolumeClaim" => read::<PersistentVolumeClaim>(object),
        "PodDisruptionBudget" => read::<PodDisruptionBudget>(object),
        "Service" => read::<Service>(object),
        "StatefulSet" => read::<StatefulSet>(object),
        other => {
            assert!(OTHERS.contains(&other), "no type for {other}");
            Ok(())
        }
    }
}

/// The pods of an overlay, and the Jobs that some of them belong to.
fn pods_and_jobs(objects: &[Value]) -> (Vec<PodTemplateSpec>, Vec<JobSpec>) {
    let (mut pods, mut jobs) = (Vec::new(), Vec::new());
    for object in objects {
        match kind(object) {
            "StatefulSet" => {
                let set: StatefulSet = serde_json::from_value(object.clone()).unwrap();
                pods.push(set.spec.unwrap().template);
            }
            "Job" => jobs.push(
                serde_json::from_value::<Job>(object.clone())
                    .unwrap()
                    .spec
                    .unwrap(),
            ),
            "JobSet" => {
                let replicated = object["spec"]["replicatedJobs"].as_array().unwrap();
                jobs.extend(
                    replicated.iter().map(|job| {
                        serde_json::from_value::<JobSpec>(job["template"]["spec"].clone()).unwrap()
                    }),
                );
            }
            _ => {}
        }
    }
    pods.extend(jobs.iter().map(|job| job.template.clone()));
    (pods, jobs)
}

/// Sets the value at a path to null in the first object of a kind.
fn without(mut objects: Vec<Value>, of: &str, path: &str) -> Vec<Value> {
    let object = objects.iter_mut().find(|object| kind(object) == of).unwrap();
    let value = object
        .pointer_mut(path)
        .unwrap_or_else(|| panic!("{of} has no {path}"));
    *value = Value::Null;
    objects
}

/// A name to skip them by.
mod needs_kubectl {
    use super::*;

    #[test]
    #[ignore = "needs kubectl"]
    fn every_overlay_builds_has_its_types_and_keeps_what_is_asked_of_it() {
        for overlay in OVERLAYS {
            let objects = build(overlay);
            for object in &objects {
                let name = object["metadata"]["name"].as_str().unwrap();
                typed(object).unwrap_or_else(|error| panic!("{overlay}: {} {name}: {error}", kind(object)));
            }
            assert_eq!(check(&objects), Complaints::new(), "{overlay}");
        }
    }

    #[test]
    #[ignore = "needs kubectl"]
    fn workers_ask_for_gpus_pods_get_certificates_of_their_own_and_jobs_wait_in_the_queue() {
        let find = |overlay: &str, name: &str| {
            let objects = build(overlay);
            let job = objects.into_iter().find(|object| kind(object) == name);
            job.unwrap_or_else(|| panic!("{overlay} has no {name}"))
        };
        let gpu = find("gpu", "Job");
        let container = &gpu["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "1");
        let job = find("mtls", "Job");
        let volumes = job["spec"]["template"]["spec"]["volumes"]
            .as_array()
            .unwrap()
            .clone();
        let certs = volumes.iter().find(|volume| volume["name"] == "certs").unwrap();
        assert_eq!(
            certs["csi"]["volumeAttributes"]["csi.cert-manager.io/uri-sans"],
            "ringmaster://worker/${POD_NAME}"
        );
        assert_eq!(certs["secret"], Value::Null);
        let queued = find("kueue", "Job");
        assert_eq!(
            queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"],
            "ringmaster"
        );
        assert_eq!(queued["spec"]["suspend"], true);
    }

    #[test]
    #[ignore = "needs kubectl"]
    fn a_jobset_starts_the_processes_of_the_base() {
        let arguments = |overlay: &str| {
            let (mut pods, _) = pods_and_jobs(&build(overlay));
            let container = |pod: PodTemplateSpec| pod.spec.unwrap().containers.remove(0);
            let mut commands: Vec<Vec<String>> =
                pods.drain(..).map(|pod| container(pod).args.unwrap()).collect();
            for command in &mut commands {
                command.sort();
            }
            commands.sort();
            commands
        };
        let mut base = arguments("cpu");
        for command in &mut base {
            command.retain(|argument| argument != "--linger");
        }
        assert_eq!(arguments("jobset"), base);
    }

    #[test]
    fn the_namespace_holds_its_pods_to_the_strictest_standard() {
        let path = format!("{}/../deploy/k8s/namespace.yaml", env!("CARGO_MANIFEST_DIR"));
        let namespace: Namespace = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let labels = namespace.metadata.labels.unwrap();
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    }

    #[test]
    #[ignore = "needs kubectl"]
    fn a_coordinator_of_a_stateful_set_lingers() {
        for overlay in OVERLAYS.iter().filter(|&&overlay| overlay != "jobset") {
            let objects = build(overlay);
            let set = objects
                .iter()
                .find(|object| kind(object) == "StatefulSet")
                .unwrap();
            let arguments = set["spec"]["template"]["spec"]["containers"][0]["args"]
                .as_array()
                .unwrap();
            assert!(
                arguments.iter().any(|argument| argument == "--linger"),
                "{overlay}"
            );
        }
    }

    #[test]
    #[ignore = "needs kubectl"]
    fn dns_pods_need_no_label_of_ours() {
        let mut objects = build("cpu");
        for object in objects
            .iter_mut()
            .filter(|object| kind(object) == "NetworkPolicy")
        {
            for rule in object["spec"]["egress"].as_array_mut().into_iter().flatten() {
                rule["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/name"] = "ringmaster".into();
            }
        }
        assert_eq!(check(&objects), ["a way from workers to the DNS"]);
    }

    #[test]
    #[ignore = "needs kubectl"]
    fn whoever_drops_a_safeguard_is_told() {
        let pod = "/spec/template/spec";
        let cases = [
            (
                "Job",
                format!("{pod}/securityContext/runAsNonRoot"),
                "worker: runAsNonRoot",
            ),
            (
                "StatefulSet",
                format!("{pod}/securityContext/runAsNonRoot"),
                "coordinator: runAsNonRoot",
            ),
            (
                "Job",
                format!("{pod}/terminationGracePeriodSeconds"),
                "worker: a grace period of 120 s",
            ),
            (
                "Job",
                "/spec/podReplacementPolicy".into(),
                "worker: podReplacementPolicy Failed",
            ),
            (
                "Job",
                "/spec/podFailurePolicy".into(),
                "worker: a failure policy that ignores disruptions",
            ),
            (
                "Job",
                format!("{pod}/containers/0/securityContext"),
                "worker: a read-only root file system",
            ),
            (
                "Job",
                format!("{pod}/containers/0/readinessProbe"),
                "worker: probes by `ringmaster health`",
            ),
        ];
        for (of, path, complaint) in cases {
            let complaints = check(&without(build("cpu"), of, &path));
            assert!(
                complaints.iter().any(|found| found == complaint),
                "without {path}: {complaints:?}"
            );
        }
    }
}
