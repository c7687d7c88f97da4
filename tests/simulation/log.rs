//! Listens to the log of all hosts: keeps its lines for people, and takes from it what training did.
//!
//! The programs log each applied step with the hash of its state, so the real ones need no hooks for the simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Id, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::history::{Fact, History};

/// The layer that listens.
pub(crate) struct Log {
    pub(crate) history: History,
    pub(crate) lines: Lines,
}

/// All lines so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn push(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// The host whose turn it is, noted at the span that the simulation opens for it.
struct Host(String);

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl Fields {
    fn number(&self, name: &str) -> u64 {
        let number = self.0.get(name).and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("no number {name} in {:?}", self.0))
    }

    fn text(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "node" {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Host(fields.text("name")));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let host = context.event_scope(event).and_then(|mut scope| {
            scope.find_map(|span| span.extensions().get::<Host>().map(|host| host.0.clone()))
        });
        let host = host.unwrap_or_else(|| "-".to_owned());
        let message = fields.0.remove("message").unwrap_or_default();
        let at = turmoil::sim_elapsed().unwrap_or_default().as_secs_f64();
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let told: Vec<String> = fields
            .0
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.lines.push(format!(
            "{at:9.3} s  {host} {level} {target}: {message} {}",
            told.join(" ")
        ));
        let fact = match message.as_str() {
            "training takes its place" => Fact::TookPlace {
                generation: fields.number("generation"),
            },
            "state" => Fact::Applied {
                generation: fields.number("generation"),
                step: fields.number("step"),
                hash: fields.text("hash"),
            },
            "state copied" | "state loaded from the checkpoint" => Fact::Copied {
                step: fields.number("step"),
            },
            _ => return,
        };
        self.history.note(&host, fact);
    }
}
