//! Findings and verdict for people.

use std::fmt::Write;

use super::findings::{Edge, Findings, Phase, Seen, Stage, Worker};
use super::judge::Verdict;

/// Returns the tables of hosts and of connections, then what is wrong.
pub(super) fn render(findings: &Findings, verdict: &Verdict) -> String {
    let phase = match findings.phase {
        Phase::Gathering => "gathering workers",
        Phase::Running => "running",
        Phase::Finished => "finished",
    };
    let mut text = format!("run {}: {phase}\n\n", findings.run);
    let mut hosts = vec![strings([
        "process",
        "host",
        "address",
        "version",
        "clock",
        "free disk",
        "device",
        "data",
        "model",
    ])];
    hosts.push(host_row(&findings.coordinator, None));
    for worker in &findings.workers {
        hosts.push(host_row(&worker.seen, Some(worker)));
    }
    text.push_str(&columns(&hosts));
    if !findings.edges.is_empty() {
        let mut edges = vec![strings(["connection", "", "round trip", "throughput"])];
        edges.extend(findings.edges.iter().map(edge_row));
        text.push('\n');
        text.push_str(&columns(&edges));
    }
    text.push('\n');
    text.push_str(&lines(verdict));
    text
}

/// Returns what is wrong, and what to do; or that nothing is.
pub(super) fn lines(verdict: &Verdict) -> String {
    let mut text = String::new();
    for note in &verdict.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for problem in &verdict.problems {
        let _ = writeln!(text, "problem: {}\n    {}", problem.problem, problem.advice);
    }
    if verdict.problems.is_empty() {
        text.push_str("all is well\n");
    }
    text
}

fn host_row(seen: &Seen, worker: Option<&Worker>) -> Vec<String> {
    let dash = || "-".to_owned();
    let told_host = worker.map(|worker| worker.host.clone());
    let mut row = vec![seen.name.clone()];
    match &seen.look {
        Some(look) => {
            let clock = format!(
                "{:+.3} s ±{}",
                look.clock_ahead_seconds,
                seconds(look.clock_error_seconds)
            );
            row.extend([
                look.host.clone(),
                seen.address.clone(),
                look.version.clone(),
                if worker.is_some() {
                    clock
                } else {
                    "reference".to_owned()
                },
                look.free_bytes.map_or_else(dash, bytes),
            ]);
        }
        None => row.extend([
            told_host.unwrap_or_else(dash),
            seen.address.clone(),
            match worker.map(|worker| worker.stage) {
                Some(Stage::Refused) => "refused".to_owned(),
                _ => "not reached".to_owned(),
            },
            dash(),
            dash(),
        ]),
    }
    match worker.map(|worker| (&worker.opened, worker.stage)) {
        Some((Some(opened), _)) => row.extend([
            format!("{}, threads: {}", opened.device, opened.threads),
            format!(
                "{} ({} + {})",
                short(&opened.dataset),
                opened.train_images,
                opened.val_images
            ),
            format!("{} ({})", short(&opened.model), opened.description),
        ]),
        Some((None, Stage::Opening)) if seen.look.is_some() => {
            row.extend([dash(), "opening".to_owned(), dash()]);
        }
        _ => row.extend([dash(), dash(), dash()]),
    }
    row
}

fn edge_row(edge: &Edge) -> Vec<String> {
    let place = if edge.is_local { "same host" } else { "" };
    let mut row = vec![format!("{} -> {}", edge.from, edge.to), place.to_owned()];
    match (edge.round_trip_seconds, edge.bytes_per_second) {
        (Some(round_trip), Some(found)) => row.extend([seconds(round_trip), rate(found)]),
        _ if edge.is_untried => row.extend(["not tried".to_owned(), String::new()]),
        _ => row.extend(["broken".to_owned(), String::new()]),
    }
    row
}

fn strings<const N: usize>(row: [&str; N]) -> Vec<String> {
    row.map(str::to_owned).to_vec()
}

/// Returns the rows with their cells under each other.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

/// Seconds as people read them: "12 min", "3.0 s", "1.20 ms", "80 us".
pub(super) fn seconds(value: f64) -> String {
    if value >= 120.0 {
        format!("{:.0} min", value / 60.0)
    } else if value >= 1.0 {
        format!("{value:.1} s")
    } else if value >= 1e-3 {
        format!("{:.2} ms", value * 1e3)
    } else {
        format!("{:.0} us", value * 1e6)
    }
}

/// Bytes in powers of 1024: "12.0 GiB".
pub(super) fn bytes(count: u64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Bytes a second in powers of 1000, as links are sold: "117.0 MB/s".
pub(super) fn rate(bytes_per_second: u64) -> String {
    scaled(bytes_per_second, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"])
}

fn scaled(count: u64, step: f64, units: &[&str]) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} {}", units[0])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_unit_that_fits() {
        assert_eq!(bytes(1000), "1000 B");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(rate(117_000_000), "117.0 MB/s");
        assert_eq!(rate(0), "0 B/s");
        let times = [600.0, 3.0, 0.0012, 0.000_08];
        assert_eq!(times.map(seconds), ["10 min", "3.0 s", "1.20 ms", "80 us"]);
    }

    #[test]
    fn cells_stand_under_each_other() {
        let rows = [strings(["a", "bb"]), strings(["ccc", "d"])];
        assert_eq!(columns(&rows), "a    bb\nccc  d\n");
    }
}
